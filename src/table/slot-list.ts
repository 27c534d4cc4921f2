/**
 * Lists of slots, doubly linked: to append, to take out and to find the first costs the
 * same, however many there are. The links of all lists lie in the same arrays, so a slot
 * is in one list at a time.
 */

/** No slot: the end of a list. */
const NONE = -1;

export class SlotLinks {
  readonly next: Int32Array;
  readonly previous: Int32Array;
  /** 1: in its owner's list of what was seen in use (`owned-slots.ts`). */
  readonly isProven: Uint8Array;

  constructor(count: number) {
    this.next = new Int32Array(count);
    this.previous = new Int32Array(count);
    this.isProven = new Uint8Array(count);
  }
}

export class SlotList {
  readonly #links: SlotLinks;
  #first = NONE;
  #last = NONE;
  #size = 0;

  constructor(links: SlotLinks) {
    this.#links = links;
  }

  get size(): number {
    return this.#size;
  }

  get first(): number | undefined {
    return this.#first === NONE ? undefined : this.#first;
  }

  /** What comes behind a slot of this list. */
  after(slot: number): number | undefined {
    const next = this.#links.next[slot]!;
    return next === NONE ? undefined : next;
  }

  /** Puts a slot that is in no list to the end of this one. */
  append(slot: number): void {
    const { next, previous } = this.#links;
    next[slot] = NONE;
    previous[slot] = this.#last;
    if (this.#last === NONE) this.#first = slot;
    else next[this.#last] = slot;
    this.#last = slot;
    this.#size++;
  }

  /** Takes a slot out of this list, which it is in. */
  delete(slot: number): void {
    const [before, behind] = [this.#links.previous[slot]!, this.#links.next[slot]!];
    if (before === NONE) this.#first = behind;
    else this.#links.next[before] = behind;
    if (behind === NONE) this.#last = before;
    else this.#links.previous[behind] = before;
    this.#size--;
  }

  /** Whoever iterates may take out the slot that came last, and no other. */
  *[Symbol.iterator](): Generator<number> {
    for (let slot = this.#first; slot !== NONE; ) {
      const next = this.#links.next[slot]!;
      yield slot;
      slot = next;
    }
  }
}
