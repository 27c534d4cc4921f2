/**
 * The addresses of services: which of them has a port at an address. Mostly one service has an address; should several have
 * it, they are in the order of their ids, so that all hosts find the same one.
 *
 * Its object is `vip/ADDRESS`, which services have an address; who looks for a port there also consults those services.
 */
import { AddressSet } from '../flow/address-set.ts';
import { bytesId } from '../flow/key.ts';
import { formatIp } from '../flow/types.ts';
import type { Changes } from './changes.ts';
import type { Service, ServicePort } from './service.ts';

/** The port of a service at a VIP. Valid until the service changes. */
export interface FoundPort {
  readonly service: Service;
  readonly port: ServicePort;
  /** For a range: how far from its first port the one is that was asked for. */
  readonly offset: number;
  /** What a decision consults for it. */
  readonly object: string;
}

/** A service, and what decisions consult for it. */
interface Owner {
  readonly service: Service;
  readonly object: string;
}

export class ServiceAddresses {
  /** All of them. */
  readonly all = new AddressSet();
  readonly #changes: Changes;
  readonly #owners = new Map<string, Owner | readonly Owner[]>();

  constructor(changes: Changes) {
    this.#changes = changes;
  }

  has(address: Uint8Array): boolean {
    return this.#owners.has(bytesId(address));
  }

  /** The ports that services have there. */
  portsAt(address: Uint8Array, protocol: number): readonly ServicePort[] {
    return this.#at(address).flatMap(({ service }) => service.ports.filter((port) => port.protocol === protocol));
  }

  find(address: Uint8Array, protocol: number, l4Port: number): FoundPort | undefined {
    const at = this.#owners.get(bytesId(address));
    if (at === undefined) return undefined;
    if (!isList(at)) return foundIn(at, protocol, l4Port);
    for (const owner of at) {
      const found = foundIn(owner, protocol, l4Port);
      if (found) return found;
    }
    return undefined;
  }

  /** The objects of the services that have it: they may have other ports next time. */
  objectsAt(address: Uint8Array): readonly string[] {
    return this.#at(address).map(({ object }) => object);
  }

  /** Puts the addresses of a service in the place of those that it had before. */
  replace(before: Service | undefined, after: Service | undefined, owner: Owner): void {
    const [old, now] = [before, after].map((service) => (service ? addressesOf(service) : [])) as [
      Uint8Array[],
      Uint8Array[],
    ];
    for (const address of without(old, now)) this.#take(address, owner);
    for (const address of without(now, old)) this.#give(address, owner);
  }

  #give(address: Uint8Array, owner: Owner): void {
    const id = bytesId(address);
    const others = this.#at(address);
    const all = [...others, owner].sort((a, b) => (a.service.id < b.service.id ? -1 : 1));
    this.#owners.set(id, all.length === 1 ? owner : all);
    this.all.add(id);
    // Which of several is found may be another one now.
    this.#changes.changedAll(others.map(({ object }) => object));
    this.#changes.added(vipObject(address));
  }

  #take(address: Uint8Array, owner: Owner): void {
    const id = bytesId(address);
    const others = this.#at(address).filter((other) => other !== owner);
    if (others.length === 0) this.#owners.delete(id);
    else this.#owners.set(id, others.length === 1 ? others[0]! : others);
    this.all.delete(id);
    this.#changes.changed(vipObject(address));
  }

  #at(address: Uint8Array): readonly Owner[] {
    const at = this.#owners.get(bytesId(address)) ?? [];
    return isList(at) ? at : [at];
  }
}

/** Where a service is reached: its VIPs, and the addresses of type LoadBalancer. */
export function addressesOf({ vips, externalAddresses }: Service): Uint8Array[] {
  return [...vips, ...externalAddresses];
}

/** Those that are not among the others. */
function without(addresses: readonly Uint8Array[], others: readonly Uint8Array[]): readonly Uint8Array[] {
  const ids = new Set(others.map(bytesId));
  return addresses.filter((address) => !ids.has(bytesId(address)));
}

/** Which services have an address. */
export function vipObject(address: Uint8Array): string {
  return `vip/${formatIp(address)}`;
}

/** True if that number is the port, or in the range. */
export function isPort(port: ServicePort, protocol: number, l4Port: number): boolean {
  return portOffset(port, protocol, l4Port) !== undefined;
}

/** How far that number is from the port, which may be the first one of a range; undefined if it is none of its numbers. */
export function portOffset(port: ServicePort, protocol: number, l4Port: number): number | undefined {
  const isIn = port.protocol === protocol && l4Port >= port.l4Port && l4Port <= port.lastL4Port;
  return isIn ? l4Port - port.l4Port : undefined;
}

function foundIn({ service, object }: Owner, protocol: number, l4Port: number): FoundPort | undefined {
  for (const port of service.ports) {
    if (isPort(port, protocol, l4Port)) return { service, port, offset: l4Port - port.l4Port, object };
  }
  return undefined;
}

function isList(at: Owner | readonly Owner[]): at is readonly Owner[] {
  return Array.isArray(at);
}
