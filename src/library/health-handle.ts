/** How it is: of backends of services, and of the host that weft runs on. */
import type { Client, InNamespace } from '../api/client.ts';
import type { DoctorReport, HostReport, StatusReport } from '../model/report.ts';
import type { ServiceBackendReport } from '../model/service-report.ts';

export class HealthHandle {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** How many backends this host checks, how many of these fail, and how many it has ejected. */
  async summary(): Promise<StatusReport['health']> {
    return (await this.#client.status()).health;
  }

  /** The backends of a service, each with its state and why it gets no connections. @throws WeftError('not_found') */
  async backends(service: string, place: InNamespace = {}): Promise<ServiceBackendReport[]> {
    const [report] = await this.#client.services(service, place);
    return report!.backends;
  }

  /** The other hosts: which are up, and what is known of the way to each. */
  hosts(): Promise<HostReport[]> {
    return this.#client.hosts();
  }

  /** Checks the kernel, the rights, the underlay, the peers and everything that is in force: as `weft doctor`. */
  doctor(): Promise<DoctorReport> {
    return this.#client.doctor();
  }
}
