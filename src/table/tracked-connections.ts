/**
 * Connections that are only tracked. The datapath opens and closes them by itself; here they end with the address, the
 * network or the port of one of their ends. There may be very many, so each call ends some of them.
 */
import type { ConnectionStore } from '../flow/connection-store.ts';
import type { PortNo, Vni } from '../flow/types.ts';
import type { ConnectionsUntil, GoneAddresses } from './gone-addresses.ts';
import type { Slots } from './slots.ts';

/** The network to which packets of a network for an address are routed; undefined if there is none. */
type RoutedTo = (vni: Vni, ip: Uint8Array) => Vni | undefined;

export class TrackedConnections {
  readonly #store: ConnectionStore;

  constructor(store: ConnectionStore) {
    this.#store = store;
  }

  get size(): number {
    return this.#store.tracked;
  }

  /** Which connections there are now. */
  now(): ConnectionsUntil {
    return this.#store.latest as ConnectionsUntil;
  }

  /** Ends those that had begun with packets of this port by then, at most `limit`. Returns false if that were all. */
  endOfPort(portNo: PortNo, until: ConnectionsUntil, limit: number): boolean {
    return this.#store.closeOwned(portNo, limit, until) === limit;
  }

  /**
   * Ends those to and from gone addresses in some slots. Returns the slot where it goes on.
   * @param limit how many records are read, at most, that look like one of them
   */
  endOf(gone: GoneAddresses, { from, to }: Slots, limit: number, routedTo: RoutedTo): number {
    const { records } = this.#store;
    let left = limit;
    for (let slot = from - 1; (slot = gone.next(records, slot + 1, to)) >= 0; ) {
      if (left-- === 0) return slot;
      const generation = records.generation(slot);
      if (generation === 0 || generation % 2 === 1 || records.kind(slot) !== 'tracked') continue;
      if (gone.has(records.read(slot), generation, routedTo)) this.#store.close(slot, generation);
    }
    return to;
  }
}
