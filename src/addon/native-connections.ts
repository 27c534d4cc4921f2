/** The class `Connections` of the addon (native/addon_connections.cc). */

/** Questions are written into `asked` before a call. A slot is -1 if there is none. */
export interface NativeConnectionTable {
  size(): number;
  tracked(): number;
  ended(): number;
  latest(): number;
  /**
   * Looks for the original tuple, its place and protocol. Returns 2 · slot, plus 1 for the reply direction, or -1, and leaves
   * the generation where the place was.
   */
  find(): number;
  isTaken(): boolean;
  /** False: no connection has packets that come in at this place. */
  hasAnyIn(place: number): boolean;
  /** ROOM_FREE, ROOM_NONE or a slot, whose generation is left where the place was. */
  room(owners: Uint32Array, count: number, quota: number, unprovenQuota: number): number;
  /** Generations are 0 if nothing is given up. */
  open(
    owner: number,
    nowMs: number,
    givenUp: number,
    generation: number,
    alsoGivenUp: number,
    itsGeneration: number,
  ): number;
  close(slot: number, generation: number): void;
  setFlow(slot: number, generation: number, reply: boolean, flow: number): void;
  claim(slot: number, generation: number): boolean;
  /** `backends` has BALANCED_BACKEND_BYTES for each. Returns false if it is not valid. */
  addTable(
    id: number,
    byClient: boolean,
    firstPort: number,
    quota: number,
    unprovenQuota: number,
    slots: Uint16Array,
    backends: Uint8Array,
  ): boolean;
  removeTable(id: number): void;
  balancedTo(pin: number): number;
  balancedBy(id: number): number;
  end(slot: number, nowMs: number, generation: number, verdict: number): void;
  noteTold(slot: number, generation: number): void;
  owned(owner: number): Uint32Array;
  closeOwned(owner: number, limit: number, until: number): number;
  expire(nowMs: number): Uint32Array;
  recover(nowMs: number): Uint32Array;
  adopt(slot: number, owner: number): void;
}

export type NativeConnectionTableClass = new (
  memory: Uint8Array,
  /** CONNECTION_OPENING_BYTES, aligned to 4. */
  asked: Uint8Array,
  limit: number,
  quota: number,
  unprovenQuota: number,
  guaranteed: number,
  reserved: number,
) => NativeConnectionTable;
