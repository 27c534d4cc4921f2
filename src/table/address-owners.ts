/**
 * Which workload an address of a network belongs to: preferably the port that has the address, else one that
 * may send from it. All addresses of a workload share its quota of connections.
 */
import { addressId } from '../flow/key.ts';
import type { PortNo, Vni } from '../flow/types.ts';

interface Owner {
  readonly portNo: PortNo;
  readonly vni: Vni;
  readonly addresses: readonly Uint8Array[];
  /** Further addresses that it may send from. */
  readonly allowedAddresses: readonly Uint8Array[];
}

export class AddressOwners<O extends Owner> {
  readonly #owners = new Map<string, O>();
  /** What each owner owns, as far as anybody has asked since the last change. */
  readonly #owned = new Map<O, readonly Uint8Array[]>();

  /** All addresses of the owner of `ip` in this network; only `ip` if nobody owns it. */
  addressesWith(vni: Vni, ip: Uint8Array): readonly Uint8Array[] {
    const owner = this.#owners.get(addressId(vni, ip));
    if (!owner) return [ip];
    let owned = this.#owned.get(owner);
    if (!owned) this.#owned.set(owner, (owned = this.#ownedBy(owner)));
    return owned;
  }

  /** Who owns `ip` in this network. */
  at(vni: Vni, ip: Uint8Array): O | undefined {
    return this.#owners.get(addressId(vni, ip));
  }

  /** Replaces `before`, which is the same port. @param heirOf a port of its network that may send from an address */
  replace(before: O | undefined, owner: O, heirOf: (ip: Uint8Array) => O | undefined): void {
    const left = before ? this.#disown(before) : [];
    for (const ip of owner.addresses) this.#owners.set(addressId(owner.vni, ip), owner);
    for (const ip of owner.allowedAddresses) {
      const id = addressId(owner.vni, ip);
      if (!this.#owners.has(id)) this.#owners.set(id, owner);
    }
    this.#handOver(owner.vni, left, heirOf);
  }

  remove(owner: O, heirOf: (ip: Uint8Array) => O | undefined): void {
    this.#handOver(owner.vni, this.#disown(owner), heirOf);
  }

  /** Each address once. */
  #ownedBy(owner: O): readonly Uint8Array[] {
    const { vni, addresses, allowedAddresses } = owner;
    const byId = new Map([...addresses, ...allowedAddresses].map((ip) => [addressId(vni, ip), ip]));
    return [...byId].flatMap(([id, ip]) => (this.#owners.get(id) === owner ? [ip] : []));
  }

  /** @returns the addresses that nobody owns now */
  #disown(owner: O): readonly Uint8Array[] {
    const owned = this.#ownedBy(owner);
    for (const ip of owned) this.#owners.delete(addressId(owner.vni, ip));
    return owned;
  }

  /** Gives those of `addresses` that nobody owns to another port that may send from them. */
  #handOver(vni: Vni, addresses: readonly Uint8Array[], heirOf: (ip: Uint8Array) => O | undefined): void {
    this.#owned.clear();
    for (const ip of addresses) {
      const id = addressId(vni, ip);
      const heir = this.#owners.has(id) ? undefined : heirOf(ip);
      if (heir) this.#owners.set(id, heir);
    }
  }
}
