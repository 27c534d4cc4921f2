/**
 * The owners of translated connections are the addresses of containers. An address has a number while it
 * has connections, and the store of connections knows it by that number.
 *
 * The datapath opens connections by itself (flow/balancing.ts) with a number that was held for that, and closes them
 * without telling. So such a number stays until it is released.
 */
import { CONNECTION_OWNERS, FIRST_FREE_OWNER } from '../flow/connection-store.ts';
import { addressId } from '../flow/key.ts';
import type { Vni } from '../flow/types.ts';

interface Owner {
  readonly vni: Vni;
  readonly ip: Uint8Array;
  readonly number: number;
  /** Those that were added. */
  connections: number;
}

export class ConnectionOwners {
  readonly #owners = new Map<string, Owner>();
  readonly #held = new Set<Owner>();
  /** Numbers that were used before. */
  readonly #free: number[] = [];
  #next = FIRST_FREE_OWNER;

  /** The numbers of those of these addresses that have one. */
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
    const owner = this.#ownerOf(vni, ip);
    if (owner) owner.connections++;
    return owner?.number;
  }

  /** Notes one connection less. */
  delete(vni: Vni, ip: Uint8Array): void {
    const owner = this.#owners.get(addressId(vni, ip));
    if (owner && --owner.connections === 0) this.#forgetUnused(owner);
  }

  /** The number of the owner, which stays until it is released; undefined if there is none left. */
  hold(vni: Vni, ip: Uint8Array): number | undefined {
    const owner = this.#ownerOf(vni, ip);
    if (owner) this.#held.add(owner);
    return owner?.number;
  }

  /** Numbers that were held for these addresses do not stay any more. */
  release(isOver: (owner: Pick<Owner, 'vni' | 'ip' | 'number'>) => boolean): void {
    for (const owner of this.#held) {
      if (!isOver(owner)) continue;
      this.#held.delete(owner);
      this.#forgetUnused(owner);
    }
  }

  #ownerOf(vni: Vni, ip: Uint8Array): Owner | undefined {
    const id = addressId(vni, ip);
    const known = this.#owners.get(id);
    if (known) return known;
    const number = this.#free.pop() ?? (this.#next < CONNECTION_OWNERS ? this.#next++ : undefined);
    const owner = number === undefined ? undefined : { vni, ip: ip.slice(), number, connections: 0 };
    if (owner) this.#owners.set(id, owner);
    return owner;
  }

  #forgetUnused(owner: Owner): void {
    if (owner.connections > 0 || this.#held.has(owner)) return;
    this.#owners.delete(addressId(owner.vni, owner.ip));
    this.#free.push(owner.number);
  }
}
