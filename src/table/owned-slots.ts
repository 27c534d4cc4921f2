/** The connections of one address, among which one that can be given up is found without a look at all of them. */

/** Connections that are looked at, at most, to find one that can be given up. */
export const LOOKED_AT = 256;

export class OwnedSlots {
  /** Not seen in use yet, the longest known first. */
  readonly #unproven = new Set<number>();
  /** Seen in use, the longest not looked at first: they may be over by now. */
  readonly #proven = new Set<number>();

  get size(): number {
    return this.#unproven.size + this.#proven.size;
  }

  add(slot: number): void {
    this.#unproven.add(slot);
  }

  delete(slot: number): void {
    if (!this.#unproven.delete(slot)) this.#proven.delete(slot);
  }

  *[Symbol.iterator](): Generator<number> {
    yield* this.#unproven;
    yield* this.#proven;
  }

  /** What is found in use is looked at last from now on; nothing else changes. */
  findExpendable(isExpendable: (slot: number) => boolean): number | undefined {
    let looked = 0;
    for (const slots of [this.#unproven, this.#proven]) {
      for (const slot of slots) {
        if (isExpendable(slot)) return slot;
        slots.delete(slot);
        this.#proven.add(slot);
        if (++looked === LOOKED_AT) return undefined;
      }
    }
    return undefined;
  }
}
