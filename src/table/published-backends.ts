/**
 * Published backends: to whom packets from outside may come that another host has taken in. These are the backends of
 * services with a node port, unless the services admit only backends of the host that a client comes to.
 *
 * Objects: `published-backend/ADDRESS` is which services publish an address; `published-backends`, the list of all of
 * them, is consulted when an address is not among them.
 */
import { AddressSet } from '../flow/address-set.ts';
import { bytesId, bytesOf } from '../flow/key.ts';
import { formatIp, sameBytes, type Vni } from '../flow/types.ts';
import type { Changes } from './changes.ts';
import type { Service } from './service.ts';

export class PublishedBackends {
  readonly addresses = new AddressSet();
  readonly #changes: Changes;
  /** By address: the ids of the services. */
  readonly #services = new Map<string, Set<string>>();

  constructor(changes: Changes) {
    this.#changes = changes;
  }

  /** The ids of the services that publish an address. A decision consults `publishedBackendObject`, and the services. */
  servicesOf(address: Uint8Array): Iterable<string> {
    return this.#services.get(bytesId(address)) ?? [];
  }

  /** Puts the backends of a service in the place of those that it had before. */
  replace(before: Service | undefined, after: Service | undefined): void {
    const [old, now] = [addressIdsOf(before), addressIdsOf(after)];
    for (const id of old) if (!now.has(id)) this.#take(id, before!.id);
    for (const id of now) if (!old.has(id)) this.#give(id, after!.id);
  }

  #give(id: string, service: string): void {
    const services = this.#services.get(id);
    if (services) services.add(service);
    else this.#services.set(id, new Set([service]));
    if (this.addresses.add(id)) this.#changes.added(publishedBackendsObject);
    this.#changes.added(publishedBackendObject(bytesOf(id)));
  }

  #take(id: string, service: string): void {
    const services = this.#services.get(id)!;
    services.delete(service);
    if (services.size === 0) this.#services.delete(id);
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
  services: readonly Service[],
  vni: Vni,
  address: Uint8Array,
  protocol: number,
): readonly PublishedPorts[] {
  return services.flatMap(({ backends, ports }) => {
    // Slices may have one address with several ports, each of which is a backend.
    const places = [...backends.keys()].filter((at) => {
      const backend = backends[at]!;
      return backend.vni === vni && sameBytes(backend.address, address);
    });
    const published = ports.filter((port) => port.protocol === protocol && port.nodePort !== undefined);
    return published.flatMap(({ targets, l4Port, lastL4Port }) =>
      [...new Set(places.map((at) => targets[at] ?? 0))].flatMap((first) =>
        first === 0 ? [] : [{ first, last: first + lastL4Port - l4Port }],
      ),
    );
  });
}

/** The list of published backends. */
export const publishedBackendsObject = 'published-backends';

/** Which services publish the address of a backend. */
export function publishedBackendObject(address: Uint8Array): string {
  return `published-backend/${formatIp(address)}`;
}

function addressIdsOf(service: Service | undefined): ReadonlySet<string> {
  const isPublished =
    service?.externalPolicy === 'cluster' && service.ports.some(({ nodePort }) => nodePort !== undefined);
  return isPublished ? new Set(service.backends.map(({ address }) => bytesId(address))) : nothing;
}

const nothing: ReadonlySet<string> = new Set();
