/** An endpoint as programs have it after they have attached one. */
import type { Client, InNamespace } from '../api/client.ts';
import type { EndpointReport } from '../model/report.ts';
import { dispose } from './disposal.ts';

export class EndpointHandle {
  readonly #client: Client;
  /** What `weft attach` says of it. It does not change; `NetworkHandle.endpoints` says what is true later. */
  readonly report: EndpointReport;
  /** Another one may have its name then. */
  #isDetached = false;

  /** Use `NetworkHandle.attach`. */
  constructor(client: Client, report: EndpointReport) {
    this.#client = client;
    this.report = report;
  }

  get name(): string {
    return this.report.name;
  }

  get namespace(): string {
    return this.report.namespace;
  }

  /** The first of its addresses. */
  get ip(): string {
    return this.report.addresses[0]!;
  }

  get addresses(): readonly string[] {
    return this.report.addresses;
  }

  get mac(): string {
    return this.report.mac;
  }

  /** Removes it with its interface, as `weft detach` does. */
  async detach(): Promise<void> {
    const place: InNamespace = { namespace: this.namespace };
    await this.#client.detach(this.name, place);
    this.#isDetached = true;
  }

  /** Detaches it, at the end of `await using`, unless it is detached already. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isDetached) await dispose(this.#client, () => this.detach());
  }
}
