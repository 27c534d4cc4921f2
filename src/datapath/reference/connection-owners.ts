/**
 * The owners of connections in the reference store, and what each can give up for a new connection. Their lists are linked
 * through the records. native/connection_table.h explains which connections are unproven, and why they are looked at.
 */
import { CONNECTION_BYTES, CONNECTION_OWNER, recordAt, type ConnectionRecords } from '../../flow/connection.ts';
import { FIRST_FREE_OWNER } from '../../flow/connection-store.ts';
import { EXPENDABLE, isQuiet } from '../../flow/connection-state.ts';

/** The same as in native/connection_room.cc. */
const UNPROVEN_LOOKED = 256;
const PROVEN_LOOKED = 32;
const ALL_LOOKED = 32;
const ALL_LOOKED_SELDOM = 256;
const OWNERS_LOOKED = 32;
const SEARCH_AGAIN_MS = 1;
const LOOKED_ON = 8;
const GIVEN_UP_AHEAD_MS = 1000;

const WORDS_PER_RECORD = CONNECTION_BYTES / 4;
/** Offsets in a record, in words. */
const OWNER = CONNECTION_OWNER / 4;
const NEXT = OWNER + 1;
const PREVIOUS = OWNER + 2;
/** The offset in a record of the mark of those that were seen in use, in bytes. */
const IS_PROVEN = 7;

/** Offsets in an owner: two lists, its hand, and the class of its size. Slots are stored as slot + 1; 0 means none. */
const UNPROVEN = 0;
const PROVEN = 3;
const HAND = 6;
const SIZE_CLASS = 7;
const OWNER_WORDS = 8;
/** Offsets in a list. */
const [FIRST, LAST, SIZE] = [0, 1, 2];

/** Whose place a new connection may take: that of any other, of those that the datapath may close, or of tracked ones. */
export type Whose = 'any' | 'datapath' | 'tracked';

export class OwnerLists {
  readonly #records: ConnectionRecords;
  readonly #words: Uint32Array;
  /** By number. An owner stays even after it has no connections left. */
  readonly #owners = new Map<number, Uint32Array>();
  /** Owners of tracked ones, by how many they have: in set n those with 2^(n-1) or more, and fewer than 2^n. */
  readonly #bySize = Array.from({ length: 33 }, () => new Set<number>());
  readonly #free = new Uint32Array(3);
  #hand = 0;
  /** When a tracked connection may search the proven ones of this owner again, after a search that was in vain. */
  readonly #searchFromMs = new Map<Uint32Array, number>();
  /** The same for those of all owners. */
  #searchAllFromMs = 0;
  /** Until then, an owner has given up as many that were never established as it may; at most a second ahead. */
  readonly #givenUpUntilMs = new Map<number, number>();

  constructor(records: ConnectionRecords) {
    const { buffer, byteOffset, byteLength } = records.memory;
    this.#records = records;
    this.#words = new Uint32Array(buffer, byteOffset, byteLength >> 2);
  }

  /** Appends a connection, which is unproven, to those of an owner. */
  add(slot: number, owner: number): void {
    this.#setWord(slot, OWNER, owner);
    this.#records.memory[recordAt(slot) + IS_PROVEN] = 0;
    this.#append(this.#of(owner), UNPROVEN, slot);
    this.#resized(owner);
  }

  delete(slot: number): void {
    const owner = this.#of(this.number(slot));
    if (this.#records.memory[recordAt(slot) + IS_PROVEN] === 1) this.#remove(owner, PROVEN, slot);
    else this.#leaveUnproven(owner, slot);
    this.#resized(this.number(slot));
  }

  /** Puts the owner of tracked ones into the set of those that have about as many. */
  #resized(number: number): void {
    if (number >= FIRST_FREE_OWNER) return;
    const owner = this.#of(number);
    const sizeClass = 32 - Math.clz32(this.#sizeOf(number));
    if (sizeClass === owner[SIZE_CLASS]) return;
    this.#bySize[owner[SIZE_CLASS]!]!.delete(number);
    owner[SIZE_CLASS] = sizeClass;
    if (sizeClass > 0) this.#bySize[sizeClass]!.add(number);
  }

  #sizeOf(number: number): number {
    const owner = this.#of(number);
    return owner[UNPROVEN + SIZE]! + owner[PROVEN + SIZE]!;
  }

  /** The owner of the connection in that slot. */
  number(slot: number): number {
    return this.#word(slot, OWNER);
  }

  owned(number: number): number[] {
    const owner = this.#of(number);
    const slots: number[] = [];
    for (const list of [UNPROVEN, PROVEN]) {
      for (let at = owner[list + FIRST]!; at !== 0; at = this.#word(at - 1, NEXT)) slots.push(at - 1);
    }
    return slots;
  }

  /** One of its connections; -1 if it has none. */
  first(number: number): number {
    const owner = this.#of(number);
    return (owner[PROVEN + FIRST]! || owner[UNPROVEN + FIRST]!) - 1;
  }

  /**
   * One of its connections that is not later than that of this generation; -1 if there is none. Later ones of those that were
   * seen in use are looked at last from now on.
   */
  firstUntil(number: number, until: number): number {
    const owner = this.#of(number);
    const isLater = (slot: number): boolean => ((this.#records.generation(slot) - until) | 0) > 0;
    for (let left = owner[PROVEN + SIZE]!; left > 0; left--) {
      const slot = owner[PROVEN + FIRST]! - 1;
      if (!isLater(slot)) return slot;
      this.#remove(owner, PROVEN, slot);
      this.#append(owner, PROVEN, slot);
    }
    const slot = owner[UNPROVEN + FIRST]! - 1;
    return slot >= 0 && !isLater(slot) ? slot : -1;
  }

  // Free slots

  addFree(slot: number): void {
    this.#append(this.#free, 0, slot);
  }

  /** -1 if there is none. */
  takeFree(): number {
    if (this.#free[SIZE] === 0) return -1;
    const slot = this.#free[FIRST]! - 1;
    this.#free[FIRST] = this.#word(slot, NEXT);
    if (--this.#free[SIZE]! === 0) this.#free[LAST] = 0;
    return slot;
  }

  // Those to give up

  /** How many connections these owners have. */
  count(owners: readonly number[]): { readonly unproven: number; readonly all: number } {
    let [unproven, all] = [0, 0];
    for (const number of owners) {
      const owner = this.#of(number);
      unproven += owner[UNPROVEN + SIZE]!;
      all += this.#sizeOf(number);
    }
    return { unproven, all };
  }

  lookOn(owners: readonly number[]): void {
    for (const number of owners) {
      const owner = this.#of(number);
      for (let looked = 0; looked < LOOKED_ON; looked++) {
        const at = owner[HAND] || owner[UNPROVEN + FIRST]!;
        if (at === 0) break;
        owner[HAND] = this.#word(at - 1, NEXT);
        if (!this.#isExpendable(at - 1)) this.#prove(owner, at - 1);
      }
    }
  }

  /**
   * True if one that was never established may be given up now: `unprovenQuota` of them at once, and a second. If so, it
   * counts.
   */
  mayGiveUpOne(owners: readonly number[], unprovenQuota: number, nowMs: number): boolean {
    const untilOf = (owner: number): number => this.#givenUpUntilMs.get(owner) ?? 0;
    if (owners.some((owner) => untilOf(owner) - nowMs >= GIVEN_UP_AHEAD_MS)) return false;
    for (const owner of owners) {
      this.#givenUpUntilMs.set(owner, Math.max(untilOf(owner), nowMs) + GIVEN_UP_AHEAD_MS / Math.max(unprovenQuota, 1));
    }
    return true;
  }

  /** The oldest connection of these that has never been in use; -1: none. */
  oldestUnproven(owners: readonly number[]): number {
    return this.#oldest(owners, (owner) => this.#findUnproven(owner));
  }

  /** The same, or else one that is over or a quiet tracked one. */
  oldestExpendable(owners: readonly number[], whose: Whose, nowMs: number): number {
    return this.#oldest(owners, (owner) => this.#findExpendable(owner, whose, nowMs));
  }

  /**
   * One of any owner that is over or a quiet tracked one.
   * @param used slots below this one have been used
   * @param ofTracked whether a tracked one gives way, or another one: to a translated one
   */
  findOfAll(used: number, ofTracked: boolean, whose: Whose, nowMs: number, may: (slot: number) => boolean): number {
    if (whose === 'tracked' && nowMs < this.#searchAllFromMs) return -1;
    const most = Math.min(whose === 'tracked' ? ALL_LOOKED_SELDOM : ALL_LOOKED, used);
    for (let looked = 0; looked < most; looked++) {
      const slot = this.#hand;
      this.#hand = (slot + 1) % used;
      if (this.#records.generation(slot) === 0 || !may(slot)) continue;
      if (whose !== 'tracked' && (this.#records.kind(slot) === 'tracked') !== ofTracked) continue;
      if (this.#isExpendable(slot) || isQuiet(this.#records, slot, nowMs)) return slot;
    }
    if (whose === 'tracked') this.#searchAllFromMs = nowMs + SEARCH_AGAIN_MS;
    return -1;
  }

  /**
   * One of the owner that has the most tracked ones, if these are more than so many: one that is over or quiet, or else the
   * one that has not been looked at for longest. -1 if there is no such owner.
   */
  findOfFullest(moreThan: number, nowMs: number): number {
    const number = this.#fullest();
    if (number === undefined || this.#sizeOf(number) <= moreThan) return -1;
    const expendable = this.#findExpendable(this.#of(number), 'tracked', nowMs);
    return expendable >= 0 ? expendable : this.first(number);
  }

  /** Of some of those with about as many. */
  #fullest(): number | undefined {
    const fullest = this.#bySize.findLast(({ size }) => size > 0) ?? [];
    const [first, ...others] = [...fullest].slice(0, OWNERS_LOOKED);
    return others.reduce((most, number) => (this.#sizeOf(number) > this.#sizeOf(most!) ? number : most), first);
  }

  #oldest(owners: readonly number[], findOne: (owner: Uint32Array) => number): number {
    let oldest = -1;
    for (const number of owners) {
      const slot = findOne(this.#of(number));
      if (slot < 0) continue;
      if (oldest < 0 || this.#records.generation(slot) < this.#records.generation(oldest)) oldest = slot;
    }
    return oldest;
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

  #findExpendable(owner: Uint32Array, whose: Whose, nowMs: number): number {
    const unproven = this.#findUnproven(owner);
    if (unproven >= 0) return unproven;
    if (whose === 'tracked' && nowMs < (this.#searchFromMs.get(owner) ?? 0)) return -1;
    for (let looked = 0; looked < PROVEN_LOOKED; looked++) {
      const at = owner[PROVEN + FIRST]!;
      if (at === 0) break;
      if (this.#isExpendable(at - 1) || isQuiet(this.#records, at - 1, nowMs)) return at - 1;
      this.#remove(owner, PROVEN, at - 1);
      this.#append(owner, PROVEN, at - 1);
    }
    if (whose === 'tracked') this.#searchFromMs.set(owner, nowMs + SEARCH_AGAIN_MS);
    return -1;
  }

  #prove(owner: Uint32Array, slot: number): void {
    this.#leaveUnproven(owner, slot);
    this.#records.memory[recordAt(slot) + IS_PROVEN] = 1;
    this.#append(owner, PROVEN, slot);
  }

  #leaveUnproven(owner: Uint32Array, slot: number): void {
    if (owner[HAND] === slot + 1) owner[HAND] = this.#word(slot, NEXT);
    this.#remove(owner, UNPROVEN, slot);
  }

  #isExpendable(slot: number): boolean {
    return EXPENDABLE.has(this.#records.state(slot));
  }

  // Lists

  #of(number: number): Uint32Array {
    let owner = this.#owners.get(number);
    if (!owner) this.#owners.set(number, (owner = new Uint32Array(OWNER_WORDS)));
    return owner;
  }

  #word(slot: number, word: number): number {
    return this.#words[(slot + 1) * WORDS_PER_RECORD + word]!;
  }

  #setWord(slot: number, word: number, value: number): void {
    this.#words[(slot + 1) * WORDS_PER_RECORD + word] = value;
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
}
