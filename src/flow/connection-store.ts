/**
 * The store of connections: their records, found by tuple exactly, with room for new ones. The
 * datapath has it, since it looks up each frame's connection there; the table of connections
 * (table/connections.ts) decides what is opened and closed.
 *
 * Native (native/connection_table.h, which says how it works) and reference (datapath/reference)
 * do the same. Slots are numbers from 0.
 */
import type { ConnectionRecords, ConnectionTuples, Place, Tuple } from './connection.ts';

/** Owners are numbers below this; the first 65,536 are those of ports, whose frames open connections by `track`. */
export const CONNECTION_OWNERS = 131_072;
export const FIRST_FREE_OWNER = 65_536;

/** Of `room`: nothing need be given up; or there is no room. */
export const ROOM_FREE = -1;
export const ROOM_NONE = -2;

export interface ConnectionStoreOptions {
  /** Of `ConnectionRecords`; what is in it from before is taken over by `recover`. */
  readonly memory: Uint8Array;
  /** Connections at most; there are more records than that, so that a slot that was just freed is not taken at once. */
  readonly limit: number;
  /** Of those that the datapath opens by itself: how many one port may have, and of these not seen in use. */
  readonly quota: number;
  readonly unprovenQuota: number;
}

export interface ConnectionStore {
  readonly records: ConnectionRecords;
  readonly limit: number;
  readonly size: number;
  /** 2 · slot, and 1 more for a tuple of the reply direction; -1 if there is none. */
  find(place: Place, protocol: number, tuple: Tuple): number;
  /** Looks at some that were not seen in use yet; to be called before each opening. */
  lookOn(owners: readonly number[]): void;
  /**
   * For one more besides what these owners have, who share a quota: ROOM_FREE, ROOM_NONE, or the slot of
   * one that can be given up for it.
   */
  room(owners: readonly number[], quota: number, unprovenQuota: number): number;
  /**
   * Opens a connection in a slot of its own, after those in two of `givenUp` were closed (-1: none).
   * @returns its slot; -1 if there is none for it, or its tuples are known
   */
  open(connection: ConnectionTuples, owner: number, nowMs: number, givenUp: readonly [number, number]): number;
  close(slot: number): void;
  owned(owner: number): Iterable<number>;
  /** Looks at some at each call: closes tracked ones that have not been used for long, and returns such translated ones. */
  expire(nowMs: number): Iterable<number>;
  /**
   * Takes over what the records hold from before, when there is nothing else yet; what was torn is freed.
   * Time-outs begin anew, since the clock may be another one.
   * @returns the translated ones, each of which has to be adopted
   */
  recover(nowMs: number): Iterable<number>;
  adopt(slot: number, owner: number): void;
}
