/**
 * The store of connections (flow/connection-store.ts) in plain TypeScript, on typed arrays.
 * native/connection_table.h explains how it works; this one does the same, slot by slot. Its index finds them
 * (connection-index.ts), and the lists of their owners tell which can make room (connection-owners.ts).
 */
import {
  CONNECTION_BYTES,
  ConnectionRecords,
  endVerdicts,
  recordAt,
  SEEN_RST,
  turned,
  type ConnectionOpening,
  type ConnectionTuples,
  type EndVerdict,
  type Place,
  type ProtocolTuple,
  type Tuple,
} from '../../flow/connection.ts';
import {
  CONNECTION_OWNERS,
  FIRST_FREE_OWNER,
  ROOM_FREE,
  ROOM_NONE,
  type ConnectionStore,
  type FoundConnection,
  type GivenUp,
  type ConnectionStoreOptions,
} from '../../flow/connection-store.ts';
import { backendOf, type BalancingTable } from '../../flow/balancing.ts';
import { connectionTimeoutMs, OVER, wasEstablished } from '../../flow/connection-state.ts';
import type { Treatment } from '../../flow/treatment.ts';
import { sameBytes, type PortNo } from '../../flow/types.ts';
import { IP_TCP, IP_UDP } from '../../wire/ipv4.ts';
import { BalancedCounts, ReferenceTables } from './balancing.ts';
import { ConnectionIndex, ORIGINAL } from './connection-index.ts';
import { OwnerLists, type Whose } from './connection-owners.ts';
import { isPlausible } from './plausible.ts';

/** Another result of `openBalanced`: its owners give up no more for it now. */
export const REFUSED = -3;

/** The same as in native/connection_table.cc. */
const SWEPT = 4096;
const PREPARED = 4096;

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
  readonly #guaranteed: number;
  readonly #reserved: number;
  readonly #populate: ReferenceConnectionOptions['populate'];
  readonly #index: ConnectionIndex;
  readonly #owners: OwnerLists;
  readonly #tables = new ReferenceTables();
  readonly #balanced = new BalancedCounts();
  #size = 0;
  #tracked = 0;
  #ended = 0;
  #used = 0;
  #generation = 0;
  #swept = 0;

  constructor(options: ReferenceConnectionOptions) {
    const { memory, limit, quota, unprovenQuota, guaranteed = 0, reserved = 0, populate } = options;
    this.records = new ConnectionRecords(memory);
    this.limit = limit;
    this.quota = quota;
    this.unprovenQuota = unprovenQuota;
    this.#guaranteed = guaranteed;
    this.#reserved = reserved;
    this.#populate = populate;
    this.#index = new ConnectionIndex(this.records);
    this.#owners = new OwnerLists(this.records);
  }

  get size(): number {
    return this.#size;
  }

  get tracked(): number {
    return this.#tracked;
  }

  get ended(): number {
    return this.#ended;
  }

  get latest(): number {
    return this.#generation * 2;
  }

  // Finding

  find(place: Place, protocol: number, tuple: Tuple): number {
    return this.#size === 0 ? -1 : this.#index.find(place, protocol, tuple);
  }

  lookup(place: Place, protocol: number, tuple: Tuple): FoundConnection | undefined {
    const handle = this.find(place, protocol, tuple);
    const slot = handle >> 1;
    return handle < 0 ? undefined : { slot, generation: this.records.generation(slot), reply: (handle & 1) === 1 };
  }

  hasAnyIn(place: Place): boolean {
    return this.#index.hasAnyIn(place);
  }

  isTaken(place: Place, protocol: number, tuple: Tuple): boolean {
    return this.#size > 0 && this.#index.isTaken(place, protocol, tuple);
  }

  #isKnown(connection: ConnectionTuples): boolean {
    const { kind, places, protocol, original, translated } = connection;
    const isOfReplies = kind === 'ended' && protocol === IP_UDP;
    if (!isOfReplies && this.find(places[0], protocol, original) >= 0) return true;
    return this.find(places[1], protocol, turned(translated)) >= 0;
  }

  // Slots

  #takeSlot(): number {
    const free = this.#owners.takeFree();
    if (free >= 0) return free;
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
    this.#owners.addFree(slot);
  }

  #isUsed(slot: number): boolean {
    return this.records.generation(slot) !== 0;
  }

  // Opening and closing

  open(connection: ConnectionOpening, owner: number, nowMs: number, givenUp: readonly GivenUp[] = []): number {
    const slot = this.#takeSlot();
    if (slot < 0) return -1;
    for (const other of givenUp) if (other.generation !== 0) this.close(other.slot, other.generation);
    if (this.#size >= this.limit || this.#isKnown(connection)) {
      this.#freeSlot(slot);
      return -1;
    }
    this.#generation = (this.#generation % 0x7fff_ffff) + 1;
    this.records.write(slot, this.#generation * 2, connection);
    this.records.touch(slot, nowMs);
    this.#owners.add(slot, owner);
    this.#size++;
    this.#countKind(slot, 1);
    this.#countBalanced(slot, 1);
    this.#index.insertAll(slot);
    return slot;
  }

  close(slot: number, generation = 0): void {
    if (slot >= this.#used || !this.#isUsed(slot)) return;
    if (generation !== 0 && this.records.generation(slot) !== generation) return;
    this.#index.eraseAll(slot);
    this.#owners.delete(slot);
    this.#size--;
    this.#countKind(slot, -1);
    this.#countBalanced(slot, -1);
    this.#freeSlot(slot);
  }

  #countKind(slot: number, change: 1 | -1): void {
    const kind = this.records.kind(slot);
    if (kind === 'tracked') this.#tracked += change;
    else if (kind === 'ended') this.#ended += change;
  }

  #countBalanced(slot: number, change: 1 | -1): void {
    this.#balanced.change(this.records.pin(slot), this.records.table(slot), change);
  }

  setFlow({ slot, generation, reply }: FoundConnection, flow: number): void {
    if (this.records.generation(slot) === generation) this.records.setFlow(slot, reply, flow);
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

  end(slot: number, nowMs: number, generation = 0, verdict: EndVerdict = endVerdicts.other): void {
    if (slot >= this.#used || !this.#isUsed(slot)) return;
    if (generation !== 0 && this.records.generation(slot) !== generation) return;
    const wasFound = this.#index.isFound(slot, ORIGINAL);
    this.#countBalanced(slot, -1);
    this.records.clearTable(slot);
    this.#countKind(slot, -1);
    this.records.end(slot, verdict);
    this.#countKind(slot, 1);
    if (wasFound && !this.#index.isFound(slot, ORIGINAL)) this.#index.erase(slot, ORIGINAL);
    for (const reply of [false, true]) this.records.setFlow(slot, reply, 0);
    this.records.touch(slot, nowMs);
  }

  noteTold(slot: number, generation: number): void {
    if (generation === 0 || this.records.generation(slot) !== generation) return;
    if (this.records.kind(slot) === 'ended') this.records.noteSeen(slot, true, SEEN_RST);
  }

  // Room

  room(owners: readonly number[], quota: number, unprovenQuota: number): ReturnType<ConnectionStore['room']> {
    this.#owners.lookOn(owners);
    const room = this.#room(owners, quota, unprovenQuota, 'any', 0);
    if (room === ROOM_FREE || room === ROOM_NONE) return room;
    return { slot: room, generation: this.records.generation(room) };
  }

  /** Those in these slots, of which -1 and ROOM_FREE are none. */
  #givenUp(...slots: readonly number[]): GivenUp[] {
    const some = slots.filter((slot) => slot >= 0);
    return some.map((slot) => ({ slot, generation: this.records.generation(slot) }));
  }

  /** @param whose only such connections are given up */
  #room(owners: readonly number[], quota: number, unprovenQuota: number, whose: Whose, nowMs: number): number {
    const may = {
      any: () => true,
      datapath: (slot: number) => this.#isItsOwn(slot),
      tracked: (slot: number) => this.#isOfPort(slot),
    }[whose];
    const orNone = (slot: number): number => (slot >= 0 && may(slot) ? slot : ROOM_NONE);
    const { unproven, all } = this.#owners.count(owners);
    if (unproven >= unprovenQuota) {
      const slot = this.#owners.oldestUnproven(owners);
      if (slot >= 0) return orNone(slot);
    }
    if (all >= quota) return orNone(this.#owners.oldestExpendable(owners, whose, nowMs));
    const isTracked = whose === 'tracked';
    const hasReachedReserved = !isTracked && this.#size - this.#tracked + this.#reserved >= this.limit;
    if (this.#size < this.limit && !hasReachedReserved) return ROOM_FREE;
    const isOfTracked = this.#tracked > this.#reserved;
    const found = this.#owners.findOfAll(this.#used, isOfTracked, whose, nowMs, may);
    if (found >= 0) return found;
    if (isTracked) return unproven < this.#guaranteed ? orNone(this.#owners.findOfFullest(all + 1, nowMs)) : ROOM_NONE;
    return isOfTracked ? orNone(this.#owners.findOfFullest(0, nowMs)) : ROOM_NONE;
  }

  /** True if the datapath may close it by itself. */
  #isItsOwn(slot: number): boolean {
    return this.records.table(slot) !== 0 || this.#isOfPort(slot);
  }

  /** Tracked, or it was when policies ended it: it counts for a port. */
  #isOfPort(slot: number): boolean {
    const kind = this.records.kind(slot);
    return kind === 'tracked' || (kind === 'ended' && this.#owners.number(slot) < FIRST_FREE_OWNER);
  }

  owned(owner: number): Iterable<number> {
    return this.#owners.owned(owner);
  }

  closeOwned(owner: number, limit: number, until: number): number {
    let closed = 0;
    for (let slot = 0; closed < limit && (slot = this.#owners.firstUntil(owner, until)) >= 0; closed++)
      this.close(slot);
    return closed;
  }

  /**
   * For a frame that came in by port `owner`, or from that host: opens a tracked connection, unless it is known. If the frame
   * `begins` one, that takes the place of a tracked one with the same ends: of its own direction, if that has been answered,
   * and of the other one, if that is over.
   * @returns what `find` returns; -1 if it has to go on without one: the ends are those of another connection, or there is no
   * room
   */
  track(
    places: readonly [Place, Place],
    { protocol, ...tuple }: ProtocolTuple,
    owner: number,
    nowMs: number,
    begins: boolean,
    treatment?: Treatment,
  ): number {
    const known = this.find(places[0], protocol, tuple);
    const rival = known >> 1;
    const isReply = (known & 1) === 1;
    const isAnew = known >= 0 && begins && !isReply && this.records.half(rival, true).packets > 0;
    if (known >= 0) {
      if (this.records.kind(rival) !== 'tracked') return -1;
      if (!begins || (!isReply && !isAnew)) return known;
      if (isReply && !OVER.has(this.records.state(rival))) return -1;
    }
    this.#owners.lookOn([owner]);
    const hasRoom = isAnew && this.#owners.number(rival) === owner;
    const room = hasRoom ? ROOM_FREE : this.#room([owner], this.quota, this.unprovenQuota, 'tracked', nowMs);
    if (room === ROOM_NONE) return -1;
    const connection = { kind: 'tracked', places, protocol, original: tuple, translated: tuple, treatment } as const;
    const slot = this.open(connection, owner, nowMs, this.#givenUp(room, rival === room ? -1 : rival));
    return slot < 0 ? -1 : 2 * slot;
  }

  /**
   * Opens a connection to the backend that this table chooses, in the place of one between the same ends that is over.
   * @param owners the first one is its owner
   * @returns its slot; -1 if whoever opens connections has to decide; REFUSED if it may not be opened now
   */
  openBalanced(
    id: number,
    owners: readonly number[],
    { place, port }: { readonly place: Place; readonly port: PortNo },
    original: ProtocolTuple,
    nowMs: number,
  ): number {
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
    // The client may talk straight to the backend, wherever the replies to that come in.
    const direct = this.find(place, protocol, translated);
    if (direct >= 0 && (direct & 1) === 0 && this.records.kind(direct >> 1) === 'tracked') return -1;
    this.#owners.lookOn(owners);
    const room = this.#room(owners, table.quota, table.unprovenQuota, 'datapath', nowMs);
    if (room === ROOM_NONE) return -1;
    if (this.#isRefused(room, protocol, owners, table.unprovenQuota, nowMs)) return REFUSED;
    const places = [place, replies] as const;
    const connection = { kind: 'translated', places, protocol, original, translated, pin, table: id, port } as const;
    return this.open(connection, owners[0]!, nowMs, this.#givenUp(room, rival === room ? -1 : rival));
  }

  /**
   * True if the connection in that slot is one of these owners that was never established, and may not be given up now for one
   * with this protocol.
   */
  #isRefused(slot: number, protocol: number, owners: readonly number[], unprovenQuota: number, nowMs: number): boolean {
    if (slot === ROOM_FREE || protocol !== IP_TCP || wasEstablished(this.records, slot)) return false;
    return owners.includes(this.#owners.number(slot)) && !this.#owners.mayGiveUpOne(owners, unprovenQuota, nowMs);
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
    const isTranslated = (slot: number): boolean =>
      this.records.generation(slot) !== 0 && this.records.kind(slot) !== 'tracked';
    let others = 0;
    for (let slot = 0; slot < ready; slot++) if (isTranslated(slot)) others++;
    for (let slot = 0; slot < ready; slot++) {
      const generation = this.records.generation(slot);
      if (generation === 0) continue;
      if (isTranslated(slot)) others--;
      const comeFirst = isTranslated(slot) ? 0 : others;
      const connection = this.records.read(slot);
      const kind = this.records.memory[recordAt(slot) + 5]!;
      const owner = this.#owners.number(slot);
      const isWhole = generation % 2 === 0 && isPlausible(kind, connection) && owner < CONNECTION_OWNERS;
      if (!isWhole || this.#size + comeFirst >= this.limit || this.#isKnown(connection)) {
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
      this.records.clearTable(slot);
      this.#index.insertAll(slot);
      this.#size++;
      this.#countKind(slot, 1);
      if (connection.kind === 'tracked') this.#owners.add(slot, owner);
      else translated.push(slot);
    }
    return translated;
  }

  adopt(slot: number, owner: number): void {
    this.#owners.add(slot, owner);
  }
}
