/** Addresses and networks that are gone, to find the tracked connections that were open then. */
import type { ConnectionRecords, ConnectionTuples } from '../flow/connection.ts';
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
    this.#words.add(new DataView(ip.buffer, ip.byteOffset).getUint32(12, true));
  }

  /** The next slot from `from` on, below `to`, whose record may have one of them; -1 if there is none. */
  next(records: ConnectionRecords, from: number, to: number): number {
    if (this.#networks.size === 0) return records.nextOf(from, to, this.#words);
    return from < Math.min(records.ready, to) ? from : -1;
  }

  /** True if this connection has one of them, and was open when that went. */
  has({ places, original }: ConnectionTuples, generation: number): boolean {
    const wasOpen = (until: ConnectionsUntil | undefined): boolean =>
      until !== undefined && ((generation - until) | 0) <= 0;
    return places.some(
      (place) =>
        wasOpen(this.#networks.get(place as Vni)) ||
        wasOpen(this.#addresses.get(addressId(place as Vni, original.source))) ||
        wasOpen(this.#addresses.get(addressId(place as Vni, original.destination))),
    );
  }
}
