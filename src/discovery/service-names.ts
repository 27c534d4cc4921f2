/** The names of services, below `svc.cluster.local`, and the services that have an address. */
import { bytesId } from '../flow/key.ts';
import type { Vni } from '../flow/types.ts';
import { addTo, count, removeFrom } from './endpoint-names.ts';
import type { ServiceUpdate, ZoneBackend, ZoneService } from './records.ts';
import { NO_NAME, NOTHING, type NameFound, type Reachable } from './resource-record.ts';
import { updated, withReplaced } from './service-update.ts';
import { hostnameOf, nameOf, ServiceView } from './service-view.ts';

/** How many records the views that are kept may have; with 300 bytes each, this is 60 MiB. */
const MOST_VIEWED = 200_000;

/** A backend of a headless service. */
interface Placed {
  readonly known: Known;
  readonly backend: ZoneBackend;
}

interface Known {
  service: ZoneService;
  /** In the order of its backends. */
  placed: readonly Placed[];
}

export class ServiceNames {
  readonly #byId = new Map<string, Known>();
  readonly #namespaces = new Map<string, number>();
  readonly #byVip = new Map<string, Known | Set<Known>>();
  /** By VNI and address. */
  readonly #byBackend = new Map<string, Placed | Set<Placed>>();
  /** How headless services look, by network. */
  #views = new WeakMap<ZoneService, Map<string, ServiceView>>();
  #viewed = 0;

  /** @param update undefined: there is none any more */
  set(id: string, update: ServiceUpdate | undefined): void {
    const before = this.#byId.get(id);
    if (!update) return before && this.#remove(id, before);
    const { service, replaced } = updated(before?.service, update);
    const known = before ?? { service, placed: [] };
    if (before) {
      this.#forgetViews(before.service);
      for (const ip of before.service.vips) removeFrom(this.#byVip, bytesId(ip), before);
    } else {
      this.#byId.set(id, known);
      count(this.#namespaces, service.namespace, 1);
    }
    known.service = service;
    for (const ip of service.vips) addTo(this.#byVip, bytesId(ip), known);
    const others = replaced.map(({ by, ...place }) => ({ ...place, by: by.map((backend) => ({ known, backend })) }));
    for (const { at, count, by } of others) {
      for (const one of known.placed.slice(at, at + count)) removeFrom(this.#byBackend, keyOf(one.backend), one);
      for (const one of by) addTo(this.#byBackend, keyOf(one.backend), one);
    }
    known.placed = withReplaced(known.placed, others);
  }

  #remove(id: string, known: Known): void {
    const { service, placed } = known;
    this.#forgetViews(service);
    this.#byId.delete(id);
    count(this.#namespaces, service.namespace, -1);
    for (const ip of service.vips) removeFrom(this.#byVip, bytesId(ip), known);
    for (const one of placed) removeFrom(this.#byBackend, keyOf(one.backend), one);
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
    const known = this.#byId.get(`${namespace}/${labels.at(-2)}`);
    if (!known) return NO_NAME;
    const view = this.#view(known.service, network, reach);
    if (view.records.length === 0) return NO_NAME;
    return labels.length === 2 ? view : view.below(labels.slice(0, -2));
  }

  namesOfVip(ip: Uint8Array): string[] {
    return all(this.#byVip.get(bytesId(ip))).map(({ service }) => nameOf(service));
  }

  /** The names of a backend of headless services. */
  namesOfBackend(vni: Vni, ip: Uint8Array): string[] {
    const found = all(this.#byBackend.get(keyOf({ vni, address: ip })));
    return [...new Set(found.map(({ known, backend }) => `${hostnameOf(backend)}.${nameOf(known.service)}`))];
  }

  #view(service: ZoneService, network: string, reach: Reachable): ServiceView {
    const known = this.#views.get(service)?.get(network);
    if (known) return known;
    const view = new ServiceView(service, reach);
    if (service.backends.length === 0) return view;
    const records = recordsOf(service);
    if (this.#viewed + records > MOST_VIEWED) this.networksChanged();
    this.#viewed += records;
    const ofService = this.#views.get(service) ?? new Map<string, ServiceView>();
    this.#views.set(service, ofService.set(network, view));
    return view;
  }

  #forgetViews(service: ZoneService): void {
    this.#viewed -= recordsOf(service) * (this.#views.get(service)?.size ?? 0);
    this.#views.delete(service);
  }
}

/** How many a view of it has, about. */
function recordsOf({ backends, ports }: ZoneService): number {
  return backends.length * (2 + ports.length);
}

function keyOf({ vni, address }: Pick<ZoneBackend, 'vni' | 'address'>): string {
  return `${vni}/${bytesId(address)}`;
}

function all<T>(found: T | Set<T> | undefined): T[] {
  if (found === undefined) return [];
  return found instanceof Set ? [...found] : [found];
}
