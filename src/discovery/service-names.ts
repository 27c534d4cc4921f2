/** The names of services, below `svc.cluster.local`, and the services that have an address. */
import { bytesId } from '../flow/key.ts';
import type { Vni } from '../flow/types.ts';
import { addTo, count, removeFrom } from './endpoint-names.ts';
import type { ZoneBackend, ZoneService } from './records.ts';
import { NO_NAME, NOTHING, type NameFound, type Reachable } from './resource-record.ts';
import { hostnameOf, nameOf, ServiceView } from './service-view.ts';

/** How many records the views that are kept may have; with 300 bytes each, this is 60 MiB. */
const MOST_VIEWED = 200_000;

/** A backend of a headless service. */
interface Placed {
  readonly service: ZoneService;
  readonly backend: ZoneBackend;
}

export class ServiceNames {
  readonly #byId = new Map<string, ZoneService>();
  readonly #namespaces = new Map<string, number>();
  readonly #byVip = new Map<string, ZoneService | Set<ZoneService>>();
  /** By VNI and address. */
  readonly #byBackend = new Map<string, Placed | Set<Placed>>();
  readonly #placed = new Map<ZoneService, readonly Placed[]>();
  /** How headless services look, by network. */
  #views = new WeakMap<ZoneService, Map<string, ServiceView>>();
  #viewed = 0;

  set(id: string, value: ZoneService | undefined): void {
    const before = this.#byId.get(id);
    if (before) {
      this.#byId.delete(id);
      count(this.#namespaces, before.namespace, -1);
      for (const ip of before.vips) removeFrom(this.#byVip, bytesId(ip), before);
      for (const placed of this.#placed.get(before) ?? []) removeFrom(this.#byBackend, keyOf(placed.backend), placed);
      this.#placed.delete(before);
    }
    if (!value) return;
    this.#byId.set(id, value);
    count(this.#namespaces, value.namespace, 1);
    for (const ip of value.vips) addTo(this.#byVip, bytesId(ip), value);
    if (value.backends.length === 0) return;
    const placed = value.backends.map((backend) => ({ service: value, backend }));
    for (const one of placed) addTo(this.#byBackend, keyOf(one.backend), one);
    this.#placed.set(value, placed);
  }

  /** What is reached from networks may be another one now. */
  networksChanged(): void {
    this.#views = new WeakMap();
    this.#viewed = 0;
  }

  /** @param labels what is before `svc` @param network the client's, for which `reach` is */
  find(labels: readonly string[], network: string, reach: Reachable): NameFound {
    const namespace = labels.at(-1);
    if (namespace === undefined) return NOTHING;
    if (labels.length === 1) return this.#namespaces.has(namespace) ? NOTHING : NO_NAME;
    const service = this.#byId.get(`${namespace}/${labels.at(-2)}`);
    if (!service) return NO_NAME;
    const view = this.#view(service, network, reach);
    if (view.records.length === 0) return NO_NAME;
    return labels.length === 2 ? view : view.below(labels.slice(0, -2));
  }

  namesOfVip(ip: Uint8Array): string[] {
    return all(this.#byVip.get(bytesId(ip))).map(nameOf);
  }

  /** The names of a backend of headless services. */
  namesOfBackend(vni: Vni, ip: Uint8Array): string[] {
    const found = all(this.#byBackend.get(keyOf({ vni, address: ip })));
    return [...new Set(found.map(({ service, backend }) => `${hostnameOf(backend)}.${nameOf(service)}`))];
  }

  #view(service: ZoneService, network: string, reach: Reachable): ServiceView {
    const { backends, ports } = service;
    const known = this.#views.get(service)?.get(network);
    if (known) return known;
    const view = new ServiceView(service, reach);
    if (backends.length === 0) return view;
    const records = backends.length * (2 + ports.length);
    if (this.#viewed + records > MOST_VIEWED) this.networksChanged();
    this.#viewed += records;
    const ofService = this.#views.get(service) ?? new Map<string, ServiceView>();
    this.#views.set(service, ofService.set(network, view));
    return view;
  }
}

function keyOf({ vni, address }: Pick<ZoneBackend, 'vni' | 'address'>): string {
  return `${vni}/${bytesId(address)}`;
}

function all<T>(found: T | Set<T> | undefined): T[] {
  if (found === undefined) return [];
  return found instanceof Set ? [...found] : [found];
}
