/**
 * The owners of translated connections are the addresses of containers. An address has a number while it
 * has connections, and the store of connections knows it by that number.
 */
import { CONNECTION_OWNERS, FIRST_FREE_OWNER } from '../flow/connection-store.ts';
import { addressId } from '../flow/key.ts';
import type { Vni } from '../flow/types.ts';

interface Owner {
  readonly number: number;
  connections: number;
}

export class ConnectionOwners {
  readonly #owners = new Map<string, Owner>();
  /** Numbers that were used before. */
  readonly #free: number[] = [];
  #next = FIRST_FREE_OWNER;

  /** The numbers of those of these addresses that have connections. */
  of(vni: Vni, addresses: readonly Uint8Array[]): number[] {
    const owners = addresses.map((ip) => this.#owners.get(addressId(vni, ip)));
    return owners.filter((owner) => owner !== undefined).map(({ number }) => number);
  }

  /** True if it has a number or can get one. */
  hasRoomFor(vni: Vni, ip: Uint8Array): boolean {
    return this.#free.length > 0 || this.#next < CONNECTION_OWNERS || this.#owners.has(addressId(vni, ip));
  }

  /** Notes one more connection. Returns the number of the owner; undefined if there is none left. */
  add(vni: Vni, ip: Uint8Array): number | undefined {
    const id = addressId(vni, ip);
    const known = this.#owners.get(id);
    if (known) {
      known.connections++;
      return known.number;
    }
    const number = this.#free.pop() ?? (this.#next < CONNECTION_OWNERS ? this.#next++ : undefined);
    if (number !== undefined) this.#owners.set(id, { number, connections: 1 });
    return number;
  }

  /** Notes one connection less. */
  delete(vni: Vni, ip: Uint8Array): void {
    const id = addressId(vni, ip);
    const owner = this.#owners.get(id);
    if (!owner || --owner.connections > 0) return;
    this.#owners.delete(id);
    this.#free.push(owner.number);
  }
}
