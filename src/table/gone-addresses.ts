/** Addresses and networks that are gone, to find the tracked connections that were open then. */
import { lastWord, type ConnectionRecords, type ConnectionTuples } from '../flow/connection.ts';
import { addressId } from '../flow/key.ts';
import type { Vni } from '../flow/types.ts';

/** The connections that there were at some time: the latest one had this generation. */
export type ConnectionsUntil = number & { readonly __brand: 'ConnectionsUntil' };

export class GoneAddresses {
  readonly #networks = new Map<Vni, ConnectionsUntil>();
  /** By network and address. */
  readonly #addresses = new Map<string, ConnectionsUntil>();
  /** The last words of the addresses, by which a record is found without reading all of it. */
  readonly #words = new Set<number>();

  get isEmpty(): boolean {
    return this.#networks.size === 0 && this.#addresses.size === 0;
  }

  addNetwork(vni: Vni, until: ConnectionsUntil): void {
    this.#networks.set(vni, until);
  }

  add(vni: Vni, ip: Uint8Array, until: ConnectionsUntil): void {
    this.#addresses.set(addressId(vni, ip), until);
    this.#words.add(lastWord(ip));
  }

  /** The next slot from `from` on, below `to`, whose record may have one of them; -1 if there is none. */
  next(records: ConnectionRecords, from: number, to: number): number {
    if (this.#networks.size === 0) return records.nextOf(from, to, this.#words);
    return from < Math.min(records.ready, to) ? from : -1;
  }

  /**
   * True if this connection has one of them, and was open when that went.
   * @param routedTo the network to which packets of this network for that address are routed, if there is one: what is routed
   * to another host comes in, in both directions, where it came from
   */
  has(
    { places, original }: ConnectionTuples,
    generation: number,
    routedTo: (vni: Vni, ip: Uint8Array) => Vni | undefined,
  ): boolean {
    const wasOpen = (until: ConnectionsUntil | undefined): boolean =>
      until !== undefined && ((generation - until) | 0) <= 0;
    const isGone = (vni: Vni | undefined, ip: Uint8Array): boolean =>
      vni !== undefined && wasOpen(this.#addresses.get(addressId(vni, ip)));
    const isOfGone = (vni: Vni, ip: Uint8Array): boolean => isGone(vni, ip) || isGone(routedTo(vni, ip), ip);
    const networks = new Set(places as readonly Vni[]);
    for (const vni of networks) {
      if (wasOpen(this.#networks.get(vni))) return true;
      if (this.#addresses.size === 0) continue;
      if (isOfGone(vni, original.source) || isOfGone(vni, original.destination)) return true;
    }
    return false;
  }
}
