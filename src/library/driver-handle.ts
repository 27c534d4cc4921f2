/** The network driver: what a container runtime asks of weft when containers come and go. */
import type { Client, InNamespace } from '../api/client.ts';
import type { AttachRequest } from '../api/target.ts';
import type { ApplyReport, EndpointReport } from '../model/report.ts';
import { EndpointHandle } from './endpoint-handle.ts';

export class DriverHandle {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** As `NetworkHandle.attach`, with the network's name. */
  async attach(request: Omit<AttachRequest, 'hold'>): Promise<EndpointHandle> {
    return new EndpointHandle(this.#client, await this.#client.attach(request));
  }

  detach(name: string, place: InNamespace = {}): Promise<ApplyReport> {
    return this.#client.detach(name, place);
  }

  /** All endpoints, of all hosts that share the store. */
  endpoints(): Promise<EndpointReport[]> {
    return this.#client.endpoints();
  }
}
