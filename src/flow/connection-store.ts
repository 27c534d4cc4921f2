/**
 * The store of connections: their records, found by exact tuple, with room for new ones. It belongs to
 * the datapath, which looks up the connection of each frame there. The table of connections
 * (table/connections.ts) decides what is opened and closed.
 *
 * The native store (native/connection_table.h explains how it works) and the reference one
 * (datapath/reference) do the same. Slots are numbers from 0.
 */
import type { BalancingTable } from './balancing.ts';
import type { ConnectionOpening, ConnectionRecords, EndVerdict, Place, Tuple } from './connection.ts';

/**
 * Owners are numbers below this. The first 65,536 are those of ports, whose frames open connections with `track`; the next
 * ones are those of other hosts, by a number that follows from the address of their VTEP.
 */
export const CONNECTION_OWNERS = 131_072;
export const PEER_OWNERS = { first: 65_536, count: 256 } as const;
export const FIRST_FREE_OWNER = PEER_OWNERS.first + PEER_OWNERS.count;

/** Other results of `room`: nothing needs to be given up, or there is no room. */
export const ROOM_FREE = -1;
export const ROOM_NONE = -2;

export interface ConnectionStoreOptions {
  /** Memory of `ConnectionRecords`. `recover` takes over what it already holds. */
  readonly memory: Uint8Array;
  /**
   * The maximum number of connections; if that is 0, none is tracked. There are more records than that, so that a freed slot is not reused at once.
   */
  readonly limit: number;
  /**
   * For connections that the datapath itself opens: how many one port may have, and how many of these not seen in use.
   */
  readonly quota: number;
  readonly unprovenQuota: number;
  /**
   * How many tracked connections that were not seen in use a port, or another host, may have when it takes the place of one of
   * whoever has the most. By default none: nobody takes any.
   */
  readonly guaranteed?: number | undefined;
  /** How many of all connections are for tracked ones alone. By default none. */
  readonly reserved?: number | undefined;
}

/** A connection that was found by one of its tuples. */
export interface FoundConnection {
  readonly slot: number;
  readonly generation: number;
  /** True if the tuple is that of a reply. */
  readonly reply: boolean;
}

/** A connection that is given up for another one. It is closed only if its slot still has it. */
export type GivenUp = Pick<FoundConnection, 'slot' | 'generation'>;

/** Threads of the datapath may close tracked and balanced connections at any time, and open others in their slots. */
export interface ConnectionStore {
  readonly records: ConnectionRecords;
  readonly limit: number;
  readonly size: number;
  /** How many of them are only tracked, and how many weft has ended. */
  readonly tracked: number;
  readonly ended: number;
  /** The generation of the latest connection. Later ones have greater ones, until they wrap at 2³². */
  readonly latest: number;
  /** 2 · slot, plus 1 for a tuple of the reply direction; -1 if there is none. */
  find(place: Place, protocol: number, tuple: Tuple): number;
  /** The same, with the generation that the slot had then. */
  lookup(place: Place, protocol: number, tuple: Tuple): FoundConnection | undefined;
  /**
   * True if no connection has that tuple, but one that goes from a network to a network goes on with it: what its client sends
   * there with that tuple would have the same replies.
   */
  isTaken(place: Place, protocol: number, tuple: Tuple): boolean;
  /** False: no connection has packets that come in there. True may be wrong, for another place. */
  hasAnyIn(place: Place): boolean;
  /**
   * Room for one more connection of these owners, which share a quota: ROOM_FREE, ROOM_NONE, or one that can be given
   * up for it. Looks at some first that have not been seen in use yet.
   */
  room(owners: readonly number[], quota: number, unprovenQuota: number): GivenUp | typeof ROOM_FREE | typeof ROOM_NONE;
  /**
   * Closes those in `givenUp`, then opens a connection in another slot.
   * @param givenUp two at most
   * @returns its slot; -1 if there is no slot, if its tuples are taken, or if there is no room, since others have taken that
   * of those given up
   */
  open(connection: ConnectionOpening, owner: number, nowMs: number, givenUp?: readonly GivenUp[]): number;
  /** With a generation, only if the slot still has that connection. */
  close(slot: number, generation?: number): void;
  /** From now on, packets of that direction take this cached flow. Does nothing if the slot has another connection by now. */
  setFlow(found: FoundConnection, flow: number): void;
  /**
   * Balanced connections are those with a table, which the datapath may close by itself. From now on, this one is none.
   * @returns false if the slot has another connection by now
   */
  claim(slot: number, generation: number): boolean;
  /** From now on, connections are opened by this table. @param id not 0 @throws RangeError if a slot has no backend */
  addTable(id: number, table: BalancingTable): void;
  /** When this returns, none is opened by it any more. */
  removeTable(id: number): void;
  /** How many balanced connections go to the backend with this number. */
  balancedTo(pin: number): number;
  /** How many balanced connections this table has chosen. */
  balancedBy(id: number): number;
  /**
   * From now on, its packets are not translated any more, and take no flow. Of UDP, only replies are still found, so that
   * the next packet of its client begins another one. With a generation, only if the slot still has that connection.
   * @param verdict why
   */
  end(slot: number, nowMs: number, generation?: number, verdict?: EndVerdict): void;
  /** Notes of one that has ended that its ends know: it looks as if the backend had reset it. */
  noteTold(slot: number, generation: number): void;
  owned(owner: number): Iterable<number>;
  /**
   * Closes connections of a port, or of another host, at most `limit`.
   * @param until no later ones than that of this generation (`latest`) @returns how many
   */
  closeOwned(owner: number, limit: number, until: number): number;
  /**
   * Checks some connections in each call: closes tracked and balanced ones that have been idle for too long, and returns
   * such others.
   */
  expire(nowMs: number): Iterable<number>;
  /**
   * Takes over what the records already hold, before anything else is opened, and frees incomplete ones. Timeouts start
   * again, since the clock may be a different one. None is balanced any more. If there is less room than before, the
   * translated ones come first.
   * @returns the translated ones, each of which must be adopted
   */
  recover(nowMs: number): Iterable<number>;
  adopt(slot: number, owner: number): void;
}
