/**
 * What the server is told of networks, endpoints and services: everything when it starts, then each that has changed, as it
 * is by then. So whatever happens in the meantime, there is never more to tell than there are names. Of the backends of a
 * service, it is told those that have changed since it was told of that service.
 */
import type { Endpoint } from '../cluster/endpoint.ts';
import type { Network } from '../cluster/network.ts';
import { routing } from '../cluster/routing.ts';
import { parseIp, type Vni } from '../flow/types.ts';
import type { ServerFeed } from '../internal/server.ts';
import { readEndpointAnnotations } from '../model/endpoint-annotations.ts';
import type { Service } from '../table/service.ts';
import type { ServiceUpdate, ZoneChange, ZoneEndpoint, ZoneNetwork } from './records.ts';
import { backendsIn, serviceUpdate } from './service-update.ts';

/** How many changes a piece has: it takes about a millisecond to make, and to apply. */
const PIECE = 200;
/** With how many backends it is full as well. A service that has more is not divided. */
const PIECE_BACKENDS = 2000;

export interface ZoneSources {
  readonly networks: Source<Network>;
  readonly endpoints: Source<Endpoint>;
}

interface Source<T> {
  all(): Iterable<T & { readonly name: string }>;
  find(name: string): T | undefined;
}

export class ZoneFeed implements ServerFeed {
  readonly #sources: ZoneSources;
  readonly #later: (work: () => void) => void;
  readonly #services = new Map<string, Service>();
  /** Headless services as the server knows them. */
  readonly #told = new Map<string, Service>();
  /** What it is to be told of, in the order in which it changed. */
  readonly #changed = { network: new Set<string>(), endpoint: new Set<string>(), service: new Set<string>() };
  #onNews: () => void = () => {};
  #isPlanned = false;

  /** @param later does something in another turn of the event loop, so that what changes together is told together */
  constructor(sources: ZoneSources, later: (work: () => void) => void) {
    this.#sources = sources;
    this.#later = later;
  }

  restart(onNews: () => void): void {
    const { networks, endpoints } = this.#sources;
    this.#onNews = onNews;
    this.#told.clear();
    for (const { name } of networks.all()) this.#changed.network.add(name);
    for (const { name } of endpoints.all()) this.#changed.endpoint.add(name);
    for (const id of this.#services.keys()) this.#changed.service.add(id);
  }

  take(): readonly ZoneChange[] {
    const { network, endpoint, service } = this.#changed;
    const piece: ZoneChange[] = [];
    let backends = 0;
    const next = (names: Set<string>, change: (name: string) => ZoneChange): void => {
      for (const name of names) {
        if (piece.length === PIECE || backends >= PIECE_BACKENDS) return;
        names.delete(name);
        piece.push(change(name));
      }
    };
    const { networks, endpoints } = this.#sources;
    next(network, (name) => ({ kind: 'network', name, value: zoneNetwork(networks.find(name)) }));
    next(endpoint, (id) => ({ kind: 'endpoint', id, value: zoneEndpoint(endpoints.find(id)) }));
    next(service, (id) => {
      const value = this.#update(id);
      backends += value ? backendsIn(value) : 0;
      return { kind: 'service', id, value };
    });
    return piece;
  }

  #update(id: string): ServiceUpdate | undefined {
    const [told, service] = [this.#told.get(id), this.#services.get(id)];
    if (service?.vips.length === 0) this.#told.set(id, service);
    else this.#told.delete(id);
    return service && serviceUpdate(service, told);
  }

  networkChanged(name: string): void {
    this.#note('network', name);
  }

  endpointChanged(name: string): void {
    this.#note('endpoint', name);
  }

  setService(service: Service): void {
    this.#services.set(service.id, service);
    this.#note('service', service.id);
  }

  removeService(id: string): void {
    this.#services.delete(id);
    this.#note('service', id);
  }

  #note(kind: ZoneChange['kind'], name: string): void {
    this.#changed[kind].add(name);
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    this.#later(() => {
      this.#isPlanned = false;
      this.#onNews();
    });
  }
}

function zoneNetwork(network: Network | undefined): ZoneNetwork | undefined {
  if (!network) return undefined;
  const { name, vni, resource } = network;
  const { subnets, routes, outside } = resource.spec;
  return { name, vni: vni as Vni, outside, ...routing(name, subnets, routes) };
}

/** One that is attached, here or on another host. */
function zoneEndpoint(endpoint: Endpoint | undefined): ZoneEndpoint | undefined {
  if (endpoint?.state !== 'attached' && endpoint?.state !== 'remote') return undefined;
  const { resource, addresses } = endpoint;
  const { name, namespace, annotations } = resource.metadata;
  const { network } = resource.spec;
  return { name, namespace, network, addresses: addresses.map(parseIp), ...readEndpointAnnotations(annotations) };
}
