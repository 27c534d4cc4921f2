/**
 * The store of connections (flow/connection-store.ts) in plain TypeScript, on typed arrays.
 * native/connection_table.h explains how it works; this one does the same, slot by slot.
 */
import {
  CONNECTION_BYTES,
  CONNECTION_ORIGINAL,
  CONNECTION_OWNER,
  CONNECTION_TRANSLATED,
  ConnectionRecords,
  INTERNAL,
  OUTSIDE,
  recordAt,
  turned,
  type ConnectionState,
  type ConnectionTuples,
  type Place,
  type ProtocolTuple,
  type Tuple,
} from '../../flow/connection.ts';
import {
  CONNECTION_OWNERS,
  ROOM_FREE,
  ROOM_NONE,
  type ConnectionStore,
  type ConnectionStoreOptions,
} from '../../flow/connection-store.ts';
import { backendOf, type BalancingTable } from '../../flow/balancing.ts';
import { connectionTimeoutMs, EXPENDABLE, OVER } from '../../flow/connection-state.ts';
import { sameBytes } from '../../flow/types.ts';
import { BalancedCounts, ReferenceTables } from './balancing.ts';
import { isPlausible } from './plausible.ts';
import { IP_UDP } from '../../wire/ipv4.ts';

/** The same as in native/connection_table.cc. */
const UNPROVEN_LOOKED = 256;
const PROVEN_LOOKED = 32;
const LOOKED_ON = 8;
const SWEPT = 4096;
const PREPARED = 4096;
const PLACES_PER_RECORD = 4;
const PLACE_COUNTS = 4096;

const WORDS_PER_RECORD = CONNECTION_BYTES / 4;
/** Offsets in a record, in words. */
const OWNER = CONNECTION_OWNER / 4;
const NEXT = OWNER + 1;
const PREVIOUS = OWNER + 2;
/** Offsets in a record, in bytes. */
const PROVEN = 7;
const PLACES = 8;
const TUPLE_BYTES = 36;
const ADDRESS_BYTES = 16;

/** By what a connection is found: the tuple of either direction, or that with which its packets go on. */
const [ORIGINAL, REPLY, TAKEN] = [0, 1, 2] as const;
const NAMES = [ORIGINAL, REPLY, TAKEN];

/** Offsets in an owner: two lists, and its hand. Slots are stored as slot + 1; 0 means none. */
const UNPROVEN = 0;
const PROVEN_LIST = 3;
const HAND = 6;
const OWNER_WORDS = 7;
/** Offsets in a list. */
const [FIRST, LAST, SIZE] = [0, 1, 2];

export interface ReferenceConnectionOptions extends ConnectionStoreOptions {
  /**
   * Allocates the pages of a part of the memory, so that writing to it cannot fail. Returns false if there is no room.
   */
  readonly populate?: ((from: number, bytes: number) => boolean) | undefined;
}

export class ReferenceConnections implements ConnectionStore {
  readonly records: ConnectionRecords;
  readonly limit: number;
  readonly quota: number;
  readonly unprovenQuota: number;
  readonly #populate: ReferenceConnectionOptions['populate'];
  readonly #memory: Uint8Array;
  readonly #words: Uint32Array;
  /** Pairs of the hash and 4 · slot + name + 1; 0 means free. */
  readonly #index: Uint32Array;
  /** By number. An owner stays even after it has no connections left. */
  readonly #owners = new Map<number, Uint32Array>();
  /** The key to look for: a tuple, a place and a protocol. */
  readonly #name = new Uint8Array(TUPLE_BYTES + 5);
  readonly #nameView = new DataView(this.#name.buffer);
  readonly #free = new Uint32Array(3);
  /** How many entries of the index have a place; some places share a number. */
  readonly #inPlace = new Uint32Array(PLACE_COUNTS);
  readonly #tables = new ReferenceTables();
  readonly #balanced = new BalancedCounts();
  #size = 0;
  #used = 0;
  #generation = 0;
  #swept = 0;
  #hand = 0;

  constructor({ memory, limit, quota, unprovenQuota, populate }: ReferenceConnectionOptions) {
    this.records = new ConnectionRecords(memory);
    this.limit = limit;
    this.quota = quota;
    this.unprovenQuota = unprovenQuota;
    this.#populate = populate;
    this.#memory = memory;
    this.#words = new Uint32Array(memory.buffer, memory.byteOffset, memory.byteLength >> 2);
    this.#index = new Uint32Array(2 * Math.max(PLACES_PER_RECORD, this.records.count * PLACES_PER_RECORD));
  }

  get size(): number {
    return this.#size;
  }

  // Finding

  find(place: Place, protocol: number, { source, destination, sourcePort, destinationPort }: Tuple): number {
    if (this.#size === 0) return -1;
    this.#name.set(source);
    this.#name.set(destination, ADDRESS_BYTES);
    this.#nameView.setUint16(32, sourcePort);
    this.#nameView.setUint16(34, destinationPort);
    this.#nameView.setUint32(TUPLE_BYTES, place, true);
    this.#name[TUPLE_BYTES + 4] = protocol;
    return this.#probe();
  }

  hasAnyIn(place: Place): boolean {
    return this.#inPlace[place % PLACE_COUNTS]! > 0;
  }

  isTaken(place: Place, protocol: number, tuple: Tuple): boolean {
    return this.find(place, protocol, tuple) < 0 && this.#size > 0 && this.#probe(true) >= 0;
  }

  /** Looks for `#name`: -1, or 2 · slot, plus 1 for the reply direction. @param taken whether one goes on with it instead */
  #probe(taken = false): number {
    const hash = this.#hash();
    for (let at = this.#home(hash); ; at = this.#nextPlace(at)) {
      const entry = this.#index[2 * at + 1]!;
      if (entry === 0) return -1;
      const handle = entry - 1;
      if (this.#index[2 * at] !== hash || ((handle & 3) === TAKEN) !== taken || !this.#isNamed(handle)) continue;
      return 2 * (handle >> 2) + (handle & REPLY);
    }
  }

  /** @param handle 4 · slot + name */
  #isNamed(handle: number): boolean {
    const [memory, name] = [this.#memory, this.#name];
    const at = recordAt(handle >> 2);
    if (memory[at + 4] !== name[TUPLE_BYTES + 4]) return false;
    const place = at + PLACES + 4 * (handle & REPLY);
    for (let i = 0; i < 4; i++) if (memory[place + i] !== name[TUPLE_BYTES + i]) return false;
    for (let i = 0; i < TUPLE_BYTES; i++) if (memory[tupleByte(handle, i)] !== name[i]) return false;
    return true;
  }

  /** Sets `#name` to one of those of a connection. @param handle 4 · slot + name */
  #writeName(handle: number): void {
    const at = recordAt(handle >> 2);
    const place = at + PLACES + 4 * (handle & REPLY);
    for (let i = 0; i < TUPLE_BYTES; i++) this.#name[i] = this.#memory[tupleByte(handle, i)]!;
    this.#name.set(this.#memory.subarray(place, place + 4), TUPLE_BYTES);
    this.#name[TUPLE_BYTES + 4] = this.#memory[at + 4]!;
  }

  /** FNV-1a, mixed. */
  #hash(): number {
    let hash = 0x811c9dc5;
    for (let i = 0; i < this.#name.length; i++) hash = Math.imul(hash ^ this.#name[i]!, 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  #home(hash: number): number {
    return hash % (this.#index.length / 2);
  }

  #nextPlace(at: number): number {
    return at + 1 === this.#index.length / 2 ? 0 : at + 1;
  }

  #insertAll(slot: number): void {
    for (const name of NAMES) if (this.#isFound(slot, name)) this.#insert(4 * slot + name);
  }

  /**
   * True if it is found by this name. Of UDP that weft has ended, only replies are. A conversation of an end with itself has
   * one name: all its packets are of the original direction. Only what goes from a network to a network can be confused with
   * what its client sends there.
   */
  #isFound(slot: number, name: number): boolean {
    const kind = this.records.kind(slot);
    if (name === ORIGINAL) return kind !== 'ended' || this.records.protocol(slot) !== IP_UDP;
    if (name === TAKEN) {
      const { places, via } = this.records.read(slot);
      return (
        kind !== 'tracked' && via === undefined && places.every((place) => place !== OUTSIDE && place !== INTERNAL)
      );
    }
    this.#writeName(4 * slot + REPLY);
    return !this.#isNamed(4 * slot + ORIGINAL);
  }

  #insert(handle: number): void {
    this.#writeName(handle);
    const hash = this.#hash();
    let at = this.#home(hash);
    while (this.#index[2 * at + 1] !== 0) at = this.#nextPlace(at);
    this.#index[2 * at] = hash;
    this.#index[2 * at + 1] = handle + 1;
    this.#inPlace[this.#namedPlace() % PLACE_COUNTS]!++;
  }

  #namedPlace(): number {
    return this.#nameView.getUint32(TUPLE_BYTES, true);
  }

  #erase(handle: number): void {
    this.#writeName(handle);
    this.#inPlace[this.#namedPlace() % PLACE_COUNTS]!--;
    const places = this.#index.length / 2;
    const distance = (from: number, to: number): number => (to >= from ? to - from : to + places - from);
    let hole = this.#home(this.#hash());
    while (this.#index[2 * hole + 1] !== handle + 1) hole = this.#nextPlace(hole);
    for (let at = this.#nextPlace(hole); this.#index[2 * at + 1] !== 0; at = this.#nextPlace(at)) {
      // An entry may move back unless its probe sequence begins after the hole.
      if (distance(this.#home(this.#index[2 * at]!), at) < distance(hole, at)) continue;
      this.#index[2 * hole] = this.#index[2 * at]!;
      this.#index[2 * hole + 1] = this.#index[2 * at + 1]!;
      hole = at;
    }
    this.#index[2 * hole + 1] = 0;
  }

  #isKnown(connection: ConnectionTuples): boolean {
    const { kind, places, protocol, original, translated } = connection;
    const isOfReplies = kind === 'ended' && protocol === IP_UDP;
    if (!isOfReplies && this.find(places[0], protocol, original) >= 0) return true;
    return this.find(places[1], protocol, turned(translated)) >= 0;
  }

  // Slots

  #word(slot: number, word: number): number {
    return this.#words[(slot + 1) * WORDS_PER_RECORD + word]!;
  }

  #setWord(slot: number, word: number, value: number): void {
    this.#words[(slot + 1) * WORDS_PER_RECORD + word] = value;
  }

  #ownerOf(number: number): Uint32Array {
    let owner = this.#owners.get(number);
    if (!owner) this.#owners.set(number, (owner = new Uint32Array(OWNER_WORDS)));
    return owner;
  }

  /** @param at the offset in `lists` at which the list begins */
  #append(lists: Uint32Array, at: number, slot: number): void {
    const last = lists[at + LAST]!;
    this.#setWord(slot, NEXT, 0);
    this.#setWord(slot, PREVIOUS, last);
    if (last === 0) lists[at + FIRST] = slot + 1;
    else this.#setWord(last - 1, NEXT, slot + 1);
    lists[at + LAST] = slot + 1;
    lists[at + SIZE]!++;
  }

  #remove(lists: Uint32Array, at: number, slot: number): void {
    const [before, behind] = [this.#word(slot, PREVIOUS), this.#word(slot, NEXT)];
    if (before === 0) lists[at + FIRST] = behind;
    else this.#setWord(before - 1, NEXT, behind);
    if (behind === 0) lists[at + LAST] = before;
    else this.#setWord(behind - 1, PREVIOUS, before);
    lists[at + SIZE]!--;
  }

  #takeSlot(): number {
    if (this.#free[SIZE]! > 0) {
      const slot = this.#free[FIRST]! - 1;
      this.#free[FIRST] = this.#word(slot, NEXT);
      if (--this.#free[SIZE]! === 0) this.#free[LAST] = 0;
      return slot;
    }
    return this.#used < this.records.count && this.#prepare(this.#used) ? this.#used++ : -1;
  }

  #prepare(slot: number): boolean {
    if (slot < this.records.ready) return true;
    const ready = Math.min(this.records.count, slot + PREPARED);
    if (this.#populate && !this.#populate(recordAt(slot), (ready - slot) * CONNECTION_BYTES)) return false;
    this.records.ready = ready;
    return true;
  }

  #freeSlot(slot: number): void {
    this.records.free(slot);
    this.#append(this.#free, 0, slot);
  }

  // Opening and closing

  open(connection: ConnectionTuples, owner: number, nowMs: number, givenUp: readonly [number, number]): number {
    const slot = this.#takeSlot();
    if (slot < 0) return -1;
    for (const other of givenUp) if (other >= 0) this.close(other);
    if (this.#isKnown(connection)) {
      this.#freeSlot(slot);
      return -1;
    }
    this.#generation = (this.#generation % 0x7fff_ffff) + 1;
    this.records.write(slot, this.#generation * 2, connection);
    this.#setWord(slot, OWNER, owner);
    this.records.touch(slot, nowMs);
    this.#append(this.#ownerOf(owner), UNPROVEN, slot);
    this.#size++;
    this.#countBalanced(slot, 1);
    this.#insertAll(slot);
    return slot;
  }

  close(slot: number): void {
    if (slot >= this.#used || !this.#isUsed(slot)) return;
    for (const name of NAMES) if (this.#isFound(slot, name)) this.#erase(4 * slot + name);
    const owner = this.#ownerOf(this.#word(slot, OWNER));
    if (this.#memory[recordAt(slot) + PROVEN] === 1) this.#remove(owner, PROVEN_LIST, slot);
    else this.#leaveUnproven(owner, slot);
    this.#size--;
    this.#countBalanced(slot, -1);
    this.#freeSlot(slot);
  }

  #countBalanced(slot: number, change: 1 | -1): void {
    this.#balanced.change(this.records.pin(slot), this.records.table(slot), change);
  }

  claim(slot: number, generation: number): boolean {
    if (slot >= this.#used || generation === 0 || this.records.generation(slot) !== generation) return false;
    this.#countBalanced(slot, -1);
    this.records.clearTable(slot);
    return true;
  }

  addTable(id: number, table: BalancingTable): void {
    this.#tables.add(id, table);
  }

  removeTable(id: number): void {
    this.#tables.remove(id);
  }

  balancedTo(pin: number): number {
    return this.#balanced.to(pin);
  }

  balancedBy(id: number): number {
    return this.#balanced.by(id);
  }

  end(slot: number, nowMs: number): void {
    if (slot >= this.#used || !this.#isUsed(slot)) return;
    const wasFound = this.#isFound(slot, ORIGINAL);
    this.#countBalanced(slot, -1);
    this.records.clearTable(slot);
    this.records.setKind(slot, 'ended');
    if (wasFound && !this.#isFound(slot, ORIGINAL)) this.#erase(4 * slot + ORIGINAL);
    for (const reply of [false, true]) this.records.setFlow(slot, reply, 0);
    this.records.touch(slot, nowMs);
  }

  #isUsed(slot: number): boolean {
    return this.records.generation(slot) !== 0;
  }

  // Room

  #lookOn(owners: readonly number[]): void {
    for (const number of owners) {
      const owner = this.#ownerOf(number);
      for (let looked = 0; looked < LOOKED_ON; looked++) {
        const at = owner[HAND] || owner[UNPROVEN + FIRST]!;
        if (at === 0) break;
        owner[HAND] = this.#word(at - 1, NEXT);
        if (!this.#isExpendable(at - 1)) this.#prove(owner, at - 1);
      }
    }
  }

  room(owners: readonly number[], quota: number, unprovenQuota: number): number {
    this.#lookOn(owners);
    return this.#room(owners, quota, unprovenQuota, false);
  }

  /** @param itsOwn only those are given up that the datapath may close by itself */
  #room(owners: readonly number[], quota: number, unprovenQuota: number, itsOwn: boolean): number {
    const mayGo = (slot: number): number => (slot >= 0 && (!itsOwn || this.#isItsOwn(slot)) ? slot : ROOM_NONE);
    let [unproven, all] = [0, 0];
    for (const number of owners) {
      const owner = this.#ownerOf(number);
      unproven += owner[UNPROVEN + SIZE]!;
      all += owner[UNPROVEN + SIZE]! + owner[PROVEN_LIST + SIZE]!;
    }
    if (unproven >= unprovenQuota) {
      const slot = this.#oldest(owners, (owner) => this.#findUnproven(owner));
      if (slot >= 0) return mayGo(slot);
    }
    if (all >= quota) return mayGo(this.#oldest(owners, (owner) => this.#findExpendable(owner)));
    return this.#size < this.limit ? ROOM_FREE : mayGo(this.#findOfAll(itsOwn));
  }

  /** True if the datapath may close it by itself. */
  #isItsOwn(slot: number): boolean {
    return this.records.table(slot) !== 0 || this.records.kind(slot) === 'tracked';
  }

  #oldest(owners: readonly number[], findOne: (owner: Uint32Array) => number): number {
    let oldest = -1;
    for (const number of owners) {
      const slot = findOne(this.#ownerOf(number));
      if (slot < 0) continue;
      if (oldest < 0 || this.records.generation(slot) < this.records.generation(oldest)) oldest = slot;
    }
    return oldest;
  }

  #prove(owner: Uint32Array, slot: number): void {
    this.#leaveUnproven(owner, slot);
    this.#memory[recordAt(slot) + PROVEN] = 1;
    this.#append(owner, PROVEN_LIST, slot);
  }

  #leaveUnproven(owner: Uint32Array, slot: number): void {
    if (owner[HAND] === slot + 1) owner[HAND] = this.#word(slot, NEXT);
    this.#remove(owner, UNPROVEN, slot);
  }

  #findUnproven(owner: Uint32Array): number {
    for (let looked = 0; looked < UNPROVEN_LOOKED; looked++) {
      const at = owner[UNPROVEN + FIRST]!;
      if (at === 0) return -1;
      if (this.#isExpendable(at - 1)) return at - 1;
      this.#prove(owner, at - 1);
    }
    return -1;
  }

  #findExpendable(owner: Uint32Array): number {
    const unproven = this.#findUnproven(owner);
    if (unproven >= 0) return unproven;
    for (let looked = 0; looked < PROVEN_LOOKED; looked++) {
      const at = owner[PROVEN_LIST + FIRST]!;
      if (at === 0) return -1;
      if (this.#isExpendable(at - 1)) return at - 1;
      this.#remove(owner, PROVEN_LIST, at - 1);
      this.#append(owner, PROVEN_LIST, at - 1);
    }
    return -1;
  }

  #findOfAll(itsOwn: boolean): number {
    for (let looked = 0; looked < Math.min(PROVEN_LOOKED, this.#used); looked++) {
      const may = !itsOwn || this.#isItsOwn(this.#hand);
      if (may && this.#isUsed(this.#hand) && this.#isExpendable(this.#hand)) return this.#hand;
      this.#hand = (this.#hand + 1) % this.#used;
    }
    return -1;
  }

  #isExpendable(slot: number): boolean {
    return EXPENDABLE.has(this.records.state(slot) satisfies ConnectionState);
  }

  *owned(number: number): Generator<number> {
    const owner = this.#ownerOf(number);
    const slots: number[] = [];
    for (const list of [UNPROVEN, PROVEN_LIST]) {
      for (let at = owner[list + FIRST]!; at !== 0; at = this.#word(at - 1, NEXT)) slots.push(at - 1);
    }
    yield* slots;
  }

  /**
   * For a frame that came in by port `owner`: opens a tracked connection, unless it is known. -1 if there is no room.
   */
  track(places: readonly [Place, Place], protocol: number, tuple: Tuple, owner: number, nowMs: number): number {
    const known = this.find(places[0], protocol, tuple);
    if (known >= 0) return known;
    this.#lookOn([owner]);
    const room = this.#room([owner], this.quota, this.unprovenQuota, true);
    if (room === ROOM_NONE) return -1;
    const connection = { kind: 'tracked', places, protocol, original: tuple, translated: tuple } as const;
    const slot = this.open(connection, owner, nowMs, [room === ROOM_FREE ? -1 : room, -1]);
    return slot < 0 ? -1 : 2 * slot;
  }

  /**
   * Opens a connection to the backend that this table chooses, in the place of one between the same ends that is over.
   * @param owners the first one is its owner @returns its slot; -1 if whoever opens connections has to decide
   */
  openBalanced(id: number, owners: readonly number[], place: Place, original: ProtocolTuple, nowMs: number): number {
    const table = this.#tables.get(id);
    if (!table) return -1;
    const { protocol } = original;
    const { pin, address, target, replies } = backendOf(table, original);
    if (replies === undefined || sameBytes(address, original.source)) return -1;
    const known = this.find(place, protocol, original);
    const rival = known >> 1;
    if (known >= 0 && !this.#givesWay(known)) return -1;
    const destinationPort = (target + original.destinationPort - table.firstPort) & 0xffff;
    const translated = { ...original, destination: address, destinationPort };
    const taken = this.find(replies, protocol, turned(translated));
    if (taken >= 0 && taken >> 1 !== rival) return -1;
    this.#lookOn(owners);
    const room = this.#room(owners, table.quota, table.unprovenQuota, true);
    if (room === ROOM_NONE) return -1;
    const places = [place, replies] as const;
    const connection = { kind: 'translated', places, protocol, original, translated, pin, table: id } as const;
    return this.open(connection, owners[0]!, nowMs, [room === ROOM_FREE ? -1 : room, rival === room ? -1 : rival]);
  }

  /** True if the connection found by an original tuple makes room for another one between the same ends. */
  #givesWay(handle: number): boolean {
    const slot = handle >> 1;
    return (handle & 1) === 0 && this.records.table(slot) !== 0 && OVER.has(this.records.state(slot));
  }

  // Time

  expire(nowMs: number): number[] {
    const due: number[] = [];
    for (let n = Math.min(Math.max(SWEPT, this.#used >> 4), this.#used); n > 0; n--) {
      this.#swept = (this.#swept + 1) % this.#used;
      const slot = this.#swept;
      if (!this.#isUsed(slot)) continue;
      if (nowMs < this.records.lastSeenMs(slot) + connectionTimeoutMs(this.records, slot)) continue;
      if (this.#isItsOwn(slot)) this.close(slot);
      else due.push(slot);
    }
    return due;
  }

  recover(nowMs: number): number[] {
    const translated: number[] = [];
    const ready = Math.min(this.records.ready, this.records.count);
    for (let slot = 0; slot < ready; slot++) {
      const generation = this.records.generation(slot);
      if (generation === 0) continue;
      const connection = this.records.read(slot);
      const kind = this.#memory[recordAt(slot) + 5]!;
      const owner = this.#word(slot, OWNER);
      const isWhole = generation % 2 === 0 && isPlausible(kind, connection) && owner < CONNECTION_OWNERS;
      if (!isWhole || this.#size >= this.limit || this.#isKnown(connection)) {
        this.records.free(slot);
        continue;
      }
      for (let free = this.#used; free < slot; free++) this.#freeSlot(free);
      this.#used = slot + 1;
      this.#generation = Math.max(this.#generation, generation / 2);
      for (const reply of [false, true]) {
        this.records.writeHalf(slot, reply, { ...this.records.half(slot, reply), lastSeenMs: nowMs });
        this.records.setFlow(slot, reply, 0);
      }
      this.#memory[recordAt(slot) + PROVEN] = 0;
      this.records.clearTable(slot);
      this.#insertAll(slot);
      this.#size++;
      if (connection.kind === 'tracked') this.#append(this.#ownerOf(owner), UNPROVEN, slot);
      else translated.push(slot);
    }
    return translated;
  }

  adopt(slot: number, owner: number): void {
    this.#setWord(slot, OWNER, owner);
    this.#append(this.#ownerOf(owner), UNPROVEN, slot);
  }
}

/** Where in the memory this byte of a name is. @param handle 4 · slot + name */
function tupleByte(handle: number, byte: number): number {
  const at = recordAt(handle >> 2);
  switch (handle & 3) {
    case ORIGINAL:
      return at + CONNECTION_ORIGINAL + byte;
    case TAKEN:
      return at + CONNECTION_TRANSLATED + byte;
    default:
      return at + CONNECTION_TRANSLATED + turnedByte(byte);
  }
}

/** The offset that this byte of a reversed tuple had before. */
function turnedByte(byte: number): number {
  if (byte < ADDRESS_BYTES) return byte + ADDRESS_BYTES;
  if (byte < 2 * ADDRESS_BYTES) return byte - ADDRESS_BYTES;
  return byte < 34 ? byte + 2 : byte - 2;
}
