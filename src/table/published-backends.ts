/**
 * Published backends: to whom packets from outside may come that another host has taken in. These are the backends of
 * services with a node port, and those of other services that their routes lead to, unless the services that have them admit
 * only backends of the host that a client comes to.
 *
 * Objects: `published-backend/ADDRESS` is which services publish an address; `published-backends`, the list of all of
 * them, is consulted when an address is not among them.
 */
import { AddressSet } from '../flow/address-set.ts';
import { bytesId, bytesOf } from '../flow/key.ts';
import { formatIp, sameBytes, type Vni } from '../flow/types.ts';
import { IP_TCP } from '../wire/ipv4.ts';
import type { BackendIndex } from './candidates.ts';
import type { Changes } from './changes.ts';
import { routedServices } from './service-routes.ts';
import type { Backend, RouteDestination, Service, ServicePort } from './service.ts';

type ServiceOf = (id: string) => Service | undefined;

export class PublishedBackends {
  readonly addresses = new AddressSet();
  readonly #changes: Changes;
  readonly #serviceOf: ServiceOf;
  /** By address: the ids of the services that publish it. */
  readonly #publishers = new Map<string, Set<string>>();
  /** By the id of a service that publishes some: their addresses. */
  readonly #published = new Map<string, ReadonlySet<string>>();
  /** By the id of a service: those with a node port whose routes lead there. */
  readonly #leadingTo = new Map<string, Set<string>>();

  constructor(changes: Changes, serviceOf: ServiceOf) {
    this.#changes = changes;
    this.#serviceOf = serviceOf;
  }

  /**
   * The ids of the services that publish an address, their own or that of others. A decision consults
   * `publishedBackendObject`, these services, and those that their routes lead to.
   */
  servicesOf(address: Uint8Array): Iterable<string> {
    return this.#publishers.get(bytesId(address)) ?? [];
  }

  /** A service has changed. @param before what it was */
  follow(id: string, before: Service | undefined): void {
    const [old, now] = [leadsTo(before), leadsTo(this.#serviceOf(id))];
    for (const other of old) if (!now.has(other)) this.#leave(other, id);
    for (const other of now) if (!old.has(other)) this.#lead(other, id);
    this.#renew(id);
    for (const publisher of this.#leadingTo.get(id) ?? []) if (publisher !== id) this.#renew(publisher);
  }

  #lead(id: string, publisher: string): void {
    const publishers = this.#leadingTo.get(id);
    if (publishers) publishers.add(publisher);
    else this.#leadingTo.set(id, new Set([publisher]));
  }

  #leave(id: string, publisher: string): void {
    const publishers = this.#leadingTo.get(id)!;
    publishers.delete(publisher);
    if (publishers.size === 0) this.#leadingTo.delete(id);
  }

  #renew(publisher: string): void {
    const old = this.#published.get(publisher) ?? nothing;
    const now = this.#addressIdsOf(publisher);
    if (now.size > 0) this.#published.set(publisher, now);
    else this.#published.delete(publisher);
    for (const id of old) if (!now.has(id)) this.#take(id, publisher);
    for (const id of now) if (!old.has(id)) this.#give(id, publisher);
  }

  #addressIdsOf(publisher: string): ReadonlySet<string> {
    const service = this.#serviceOf(publisher);
    if (!service?.ports.some(hasNodePort)) return nothing;
    const all = admittedBy(service, this.#serviceOf).flatMap(({ backends }) => backends);
    return new Set(all.map(({ address }) => bytesId(address)));
  }

  #give(id: string, publisher: string): void {
    const publishers = this.#publishers.get(id);
    if (publishers) publishers.add(publisher);
    else this.#publishers.set(id, new Set([publisher]));
    if (this.addresses.add(id)) this.#changes.added(publishedBackendsObject);
    this.#changes.added(publishedBackendObject(bytesOf(id)));
  }

  #take(id: string, publisher: string): void {
    const publishers = this.#publishers.get(id)!;
    publishers.delete(publisher);
    if (publishers.size === 0) this.#publishers.delete(id);
    this.addresses.delete(id);
    this.#changes.changed(publishedBackendObject(bytesOf(id)));
  }
}

/** Ports of a backend: one, or several in a row. */
export interface PublishedPorts {
  readonly first: number;
  readonly last: number;
}

/** The ports of a backend that services publish: its own ones, not those that clients ask for. */
export function publishedPortsOf(
  publishers: readonly Service[],
  backend: { readonly vni: Vni; readonly address: Uint8Array; readonly protocol: number },
  serviceOf: ServiceOf,
): readonly PublishedPorts[] {
  const found = publishers.flatMap((publisher) => {
    const published = publisher.ports.filter((port) => port.protocol === backend.protocol && hasNodePort(port));
    return admittedBy(publisher, serviceOf).flatMap((service) =>
      // Slices may have one address with several ports, each of which is a backend.
      placesOf(service, backend).flatMap((at) => [
        ...(service === publisher ? published.flatMap((port) => targetsOf(port, at, port)) : []),
        ...(backend.protocol === IP_TCP ? routedPorts(publisher, service, at, published) : []),
      ]),
    );
  });
  return [...new Map(found.map((ports) => [`${ports.first}-${ports.last}`, ports])).values()];
}

function placesOf({ backends }: Service, { vni, address }: Pick<Backend, 'vni' | 'address'>): BackendIndex[] {
  return [...backends.keys()].filter((at) => backends[at]!.vni === vni && sameBytes(backends[at]!.address, address));
}

/** Where the routes of a service lead at a backend of another one, or of itself. @param published ports that clients ask for */
function routedPorts(
  publisher: Service,
  service: Service,
  at: BackendIndex,
  published: readonly ServicePort[],
): PublishedPorts[] {
  const { subsets } = service.backends[at]!;
  const destinations = destinationsOf(publisher).filter(
    ({ service: id, subset }) => id === service.id && (subset === undefined || subsets.includes(subset)),
  );
  return destinations.flatMap((one) => published.flatMap((asked) => routedTargets(one, service, at, asked)));
}

/** The list of published backends. */
export const publishedBackendsObject = 'published-backends';

/** Which services publish the address of a backend. */
export function publishedBackendObject(address: Uint8Array): string {
  return `published-backend/${formatIp(address)}`;
}

/** Numbers of a port of a service: all of a range, or a part of it. */
type PortNumbers = Pick<ServicePort, 'l4Port' | 'lastL4Port'>;

/** Where a backend gets what is for these numbers of a port. */
function targetsOf(
  { targets, l4Port, lastL4Port }: ServicePort,
  at: BackendIndex,
  numbers: PortNumbers,
): PublishedPorts[] {
  const target = targets[at] ?? 0;
  const first = Math.max(l4Port, numbers.l4Port);
  const last = Math.min(lastL4Port, numbers.lastL4Port);
  return target === 0 || first > last ? [] : [{ first: target + first - l4Port, last: target + last - l4Port }];
}

/** The same for what a route leads there (`routedTo`). @param asked of the service that has the route */
function routedTargets(
  { l4Port }: RouteDestination,
  service: Service,
  at: BackendIndex,
  asked: PortNumbers,
): PublishedPorts[] {
  const ports = service.ports.filter((port) => port.protocol === IP_TCP);
  const numbers = l4Port === undefined ? asked : { l4Port, lastL4Port: l4Port };
  const [only, ...others] = ports;
  const isOnly = l4Port === undefined && only && others.length === 0 && only.l4Port === only.lastL4Port;
  return isOnly ? targetsOf(only, at, only) : ports.flatMap((port) => targetsOf(port, at, numbers));
}

/** The services whose backends clients of a node port may get, also if they come to another host. */
function admittedBy(publisher: Service, serviceOf: ServiceOf): readonly Service[] {
  const others = [...routedServices(publisher)]
    .filter((id) => id !== publisher.id)
    .flatMap((id) => serviceOf(id) ?? []);
  return [publisher, ...others].filter(({ externalPolicy }) => externalPolicy === 'cluster');
}

function destinationsOf({ routing }: Service): readonly RouteDestination[] {
  return routing?.routes.flatMap(({ destinations }) => destinations) ?? [];
}

/** Where the routes of a service lead that has a node port. */
function leadsTo(service: Service | undefined): ReadonlySet<string> {
  return service?.ports.some(hasNodePort) ? routedServices(service) : nothing;
}

function hasNodePort({ nodePort }: ServicePort): boolean {
  return nodePort !== undefined;
}

const nothing: ReadonlySet<string> = new Set();
