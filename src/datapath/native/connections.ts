/** The store of connections on top of the addon. native/connection_table.h explains how it works. */
import { loadAddon } from '../../addon/addon.ts';
import type { NativeConnectionTable } from '../../addon/native-connections.ts';
import { BALANCED_BACKEND_BYTES, type BalancingTable } from '../../flow/balancing.ts';
import {
  CONNECTION_OPENING_BYTES,
  CONNECTION_OPENING_PORT,
  CONNECTION_OPENING_TREATMENT,
  ConnectionRecords,
  endVerdicts,
  kindNumber,
  writeTuple,
  type ConnectionOpening,
  type EndVerdict,
  type Place,
  type Tuple,
} from '../../flow/connection.ts';
import {
  ROOM_FREE,
  ROOM_NONE,
  type FoundConnection,
  type ConnectionStore,
  type ConnectionStoreOptions,
  type GivenUp,
} from '../../flow/connection-store.ts';
import { writeTreatment } from '../../flow/treatment.ts';

/** In place of a place that nobody knows: native/balancing_table.h. */
const UNKNOWN_PLACE = 0xffff_ffff;
const NOTHING: GivenUp = { slot: 0, generation: 0 };

/** `ConnectionOpening` of native/connection_table.h. */
const PROTOCOL = 8;
const KIND = 9;
const ORIGINAL = 12;
const TRANSLATED = 48;
const PIN = 84;
const VIA = 88;
const TABLE = 104;

export class NativeConnections implements ConnectionStore {
  readonly records: ConnectionRecords;
  readonly limit: number;
  /** The datapath uses this table too. */
  readonly table: NativeConnectionTable;
  readonly #asked = new Uint8Array(CONNECTION_OPENING_BYTES);
  readonly #view = new DataView(this.#asked.buffer);
  /** The owners of a question, written before a call. */
  #owners = new Uint32Array(16);

  constructor({ memory, limit, quota, unprovenQuota, guaranteed = 0, reserved = 0 }: ConnectionStoreOptions) {
    this.records = new ConnectionRecords(memory);
    this.limit = limit;
    const { Connections } = loadAddon();
    this.table = new Connections(memory, this.#asked, limit, quota, unprovenQuota, guaranteed, reserved);
  }

  get size(): number {
    return this.table.size();
  }

  get tracked(): number {
    return this.table.tracked();
  }

  get ended(): number {
    return this.table.ended();
  }

  get latest(): number {
    return this.table.latest();
  }

  find(place: Place, protocol: number, tuple: Tuple): number {
    this.#ask(place, protocol, tuple);
    return this.table.find();
  }

  lookup(place: Place, protocol: number, tuple: Tuple): FoundConnection | undefined {
    const handle = this.find(place, protocol, tuple);
    const slot = handle >> 1;
    return handle < 0 ? undefined : { slot, generation: this.#generation, reply: (handle & 1) === 1 };
  }

  isTaken(place: Place, protocol: number, tuple: Tuple): boolean {
    this.#ask(place, protocol, tuple);
    return this.table.isTaken();
  }

  /** Where the first place of a question was: of what was found, or can be given up. */
  get #generation(): number {
    return this.#view.getUint32(0, true);
  }

  #ask(place: Place, protocol: number, tuple: Tuple): void {
    this.#view.setUint32(0, place, true);
    this.#asked[PROTOCOL] = protocol;
    writeTuple(this.#view, ORIGINAL, tuple);
  }

  hasAnyIn(place: Place): boolean {
    return this.table.hasAnyIn(place);
  }

  room(owners: readonly number[], quota: number, unprovenQuota: number): ReturnType<ConnectionStore['room']> {
    if (owners.length > this.#owners.length) this.#owners = new Uint32Array(2 * owners.length);
    for (let i = 0; i < owners.length; i++) this.#owners[i] = owners[i]!;
    const room = this.table.room(this.#owners, owners.length, quota, unprovenQuota);
    return room === ROOM_FREE || room === ROOM_NONE ? room : { slot: room, generation: this.#generation };
  }

  open(connection: ConnectionOpening, owner: number, nowMs: number, givenUp: readonly GivenUp[] = []): number {
    const { kind, places, protocol, original, translated, pin = 0, table = 0, via, treatment, port = 0 } = connection;
    places.forEach((place, n) => this.#view.setUint32(4 * n, place, true));
    this.#asked[PROTOCOL] = protocol;
    this.#asked[KIND] = kindNumber(kind);
    writeTuple(this.#view, ORIGINAL, original);
    writeTuple(this.#view, TRANSLATED, translated);
    this.#view.setUint32(PIN, pin, true);
    this.#asked.fill(0, VIA);
    this.#view.setUint32(TABLE, table, true);
    if (via) this.#asked.set(via, VIA);
    writeTreatment(this.#view, CONNECTION_OPENING_TREATMENT, treatment);
    this.#view.setUint32(CONNECTION_OPENING_PORT, port, true);
    const [one = NOTHING, other = NOTHING] = givenUp;
    return this.table.open(owner, nowMs, one.slot, one.generation, other.slot, other.generation);
  }

  close(slot: number, generation = 0): void {
    this.table.close(slot, generation);
  }

  setFlow({ slot, generation, reply }: FoundConnection, flow: number): void {
    this.table.setFlow(slot, generation, reply, flow);
  }

  claim(slot: number, generation: number): boolean {
    return this.table.claim(slot, generation);
  }

  addTable(id: number, table: BalancingTable): void {
    const { byClient, firstPort, quota, unprovenQuota, slots } = table;
    const backends = new Uint8Array(table.backends.length * BALANCED_BACKEND_BYTES);
    const view = new DataView(backends.buffer);
    for (const [n, { pin, address, target, replies }] of table.backends.entries()) {
      const at = n * BALANCED_BACKEND_BYTES;
      view.setUint32(at, pin, true);
      view.setUint32(at + 4, replies ?? UNKNOWN_PLACE, true);
      backends.set(address, at + 8);
      view.setUint16(at + 24, target, true);
    }
    if (this.table.addTable(id, byClient, firstPort, quota, unprovenQuota, slots, backends)) return;
    throw new RangeError('a balancing table has an empty slot');
  }

  removeTable(id: number): void {
    this.table.removeTable(id);
  }

  balancedTo(pin: number): number {
    return this.table.balancedTo(pin);
  }

  balancedBy(id: number): number {
    return this.table.balancedBy(id);
  }

  end(slot: number, nowMs: number, generation = 0, verdict: EndVerdict = endVerdicts.other): void {
    this.table.end(slot, nowMs, generation, verdict);
  }

  noteTold(slot: number, generation: number): void {
    this.table.noteTold(slot, generation);
  }

  owned(owner: number): Iterable<number> {
    return this.table.owned(owner);
  }

  closeOwned(owner: number, limit: number, until: number): number {
    return this.table.closeOwned(owner, limit, until);
  }

  expire(nowMs: number): Iterable<number> {
    return this.table.expire(nowMs);
  }

  recover(nowMs: number): Iterable<number> {
    return this.table.recover(nowMs);
  }

  adopt(slot: number, owner: number): void {
    this.table.adopt(slot, owner);
  }
}
