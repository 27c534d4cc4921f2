/**
 * The connections of one address, so that one that can be given up is found without a
 * look at all of them.
 *
 * Whether a connection is in use follows from what the datapath counts, and nobody is told
 * when that begins. So a connection is unproven until somebody looks at it and sees it in
 * use, and before a new one is opened some of the unproven are looked at.
 */
import { SlotList, type SlotLinks } from './slot-list.ts';

/** Connections that are looked at, at most, to find one that can be given up. */
export const LOOKED_AT = 256;
/** Unproven ones that are looked at before each new connection: they are seen in use before they are too many. */
const LOOKED_ON = 8;

export class OwnedSlots {
  readonly #links: SlotLinks;
  /** Not seen in use yet, the longest known first. */
  readonly #unproven: SlotList;
  /** Seen in use, the longest not looked at first: they may be over by now. */
  readonly #proven: SlotList;
  /** The unproven one that is looked at next; undefined: the first. */
  #hand: number | undefined;

  constructor(links: SlotLinks) {
    this.#links = links;
    this.#unproven = new SlotList(links);
    this.#proven = new SlotList(links);
  }

  get size(): number {
    return this.#unproven.size + this.#proven.size;
  }

  /** Those that may be half-open or over, and have never been seen in use. */
  get unproven(): number {
    return this.#unproven.size;
  }

  add(slot: number): void {
    this.#links.isProven[slot] = 0;
    this.#unproven.append(slot);
  }

  delete(slot: number): void {
    if (this.#links.isProven[slot]) this.#proven.delete(slot);
    else this.#leaveUnproven(slot);
  }

  *[Symbol.iterator](): Generator<number> {
    yield* this.#unproven;
    yield* this.#proven;
  }

  /** Looks at some of the unproven, and at others the next time. */
  lookOn(isExpendable: (slot: number) => boolean): void {
    for (let looked = 0; looked < LOOKED_ON; looked++) {
      const slot = this.#hand ?? this.#unproven.first;
      if (slot === undefined) return;
      this.#hand = this.#unproven.after(slot);
      if (!isExpendable(slot)) this.#prove(slot);
    }
  }

  /** The one that was opened first of those that have never been in use. What is found in use is none of them from now on. */
  findUnproven(isExpendable: (slot: number) => boolean): number | undefined {
    for (let looked = 0; looked < LOOKED_AT; looked++) {
      const slot = this.#unproven.first;
      if (slot === undefined || isExpendable(slot)) return slot;
      this.#prove(slot);
    }
    return undefined;
  }

  /** The same, or else one that is over. What is found in use is looked at last from now on; nothing else changes. */
  findExpendable(isExpendable: (slot: number) => boolean): number | undefined {
    const unproven = this.findUnproven(isExpendable);
    if (unproven !== undefined) return unproven;
    for (let looked = 0; looked < LOOKED_AT; looked++) {
      const slot = this.#proven.first;
      if (slot === undefined || isExpendable(slot)) return slot;
      this.#proven.delete(slot);
      this.#proven.append(slot);
    }
    return undefined;
  }

  #prove(slot: number): void {
    this.#leaveUnproven(slot);
    this.#links.isProven[slot] = 1;
    this.#proven.append(slot);
  }

  #leaveUnproven(slot: number): void {
    if (this.#hand === slot) this.#hand = this.#unproven.after(slot);
    this.#unproven.delete(slot);
  }
}
