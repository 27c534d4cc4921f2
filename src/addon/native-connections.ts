/** The class `Connections` of the addon (native/addon_connections.cc). */

/** What is asked about is written into `asked` before a call; slots are -1 where there is none. */
export interface NativeConnectionTable {
  size(): number;
  /** Of the original tuple, its place and protocol. 2 · slot, and 1 more in the reply direction, or -1. */
  find(): number;
  /** ROOM_FREE, ROOM_NONE or a slot. */
  room(owners: Uint32Array, quota: number, unprovenQuota: number): number;
  lookOn(owners: Uint32Array): void;
  open(owner: number, nowMs: number, givenUp: number, alsoGivenUp: number): number;
  close(slot: number): void;
  owned(owner: number): Uint32Array;
  expire(nowMs: number): Uint32Array;
  recover(nowMs: number): Uint32Array;
  adopt(slot: number, owner: number): void;
}

export type NativeConnectionTableClass = new (
  memory: Uint8Array,
  /** Of CONNECTION_OPENING_BYTES, aligned to 4. */
  asked: Uint8Array,
  limit: number,
  quota: number,
  unprovenQuota: number,
) => NativeConnectionTable;
