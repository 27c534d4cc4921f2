/** Services as programs declare and see them. */
import type { Client, Followed, InNamespace } from '../api/client.ts';
import type { ServiceFields } from '../model/kinds/service.ts';
import type { ApplyReport } from '../model/report.ts';
import type { ServiceEvent, ServiceReport } from '../model/service-report.ts';
import type { FollowingUntil } from './following.ts';
import { declared, type ManifestPlace } from './manifest.ts';

export class ServicesHandle {
  readonly #client: Client;
  readonly #until: FollowingUntil;

  constructor(client: Client, until: FollowingUntil) {
    this.#client = client;
    this.#until = until;
  }

  /** Creates a Service, or changes it to this. @param spec as in a manifest of Kubernetes */
  async apply(name: string, spec: ServiceFields, place: ManifestPlace = {}): Promise<ApplyReport> {
    const [report] = await this.#client.apply([declared('v1', 'Service', name, spec, place)]);
    return report!;
  }

  delete(name: string, place: InNamespace = {}): Promise<ApplyReport> {
    return this.#client.delete('Service', name, place);
  }

  /** Those of a namespace, or all: their addresses, ports and backends. */
  list(place: InNamespace = {}): Promise<ServiceReport[]> {
    return this.#client.services(undefined, place);
  }

  /** @throws WeftError('not_found') */
  async get(name: string, place: InNamespace = {}): Promise<ServiceReport> {
    const [report] = await this.#client.services(name, place);
    return report!;
  }

  /** What there is, then `open`, then each that has changed, at most once a second. */
  follow(place: InNamespace = {}, signal?: AbortSignal): AsyncGenerator<Followed<ServiceEvent>> {
    return this.#client.followServices(undefined, place, this.#until.signal(signal));
  }
}
