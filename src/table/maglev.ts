/**
 * Maglev: a table of slots in which the hash of a connection finds its backend (Eisenbud et al., NSDI 2016, §3.4).
 *
 * Each backend has an order of its own in which it likes the slots, and all of them take turns at the free ones. Here,
 * a backend has as many slots as its weight entitles it to, which differs by less than one slot from its exact share.
 *
 * When the backends change, a table is made from the one before, and only what has to move does: the slots of backends
 * that have gone, and those that somebody has too many of. (Made anew, as in the paper, the table of 100 backends would
 * move another 1.3 % of all slots when one of them goes.) So which table it is depends on the ones before it; hosts that
 * have seen the same changes in the same order have the same one.
 */

/** Sizes of tables: primes, so that every order reaches all slots. */
const SIZES = [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_537];
/** How many slots each backend has on average, at least, as long as there is such a table. */
const SLOTS_PER_BACKEND = 100;
const FREE = 0xffff;
/** The most backends of one table: their positions are 16 bits. */
export const MOST_BACKENDS = FREE;

export interface MaglevBackend {
  /** Who it is, for the caller. */
  readonly id: number;
  /** 32 random bits that are always the same for this backend: they determine its order. */
  readonly hash: number;
  /** 0 or more, relative to the others. */
  readonly weight: number;
}

export class MaglevTable {
  readonly #slots: Uint16Array;
  readonly #ids: readonly number[];

  private constructor(slots: Uint16Array, ids: readonly number[]) {
    this.#slots = slots;
    this.#ids = ids;
  }

  /**
   * @param backends at least one of them with a weight, at most MOST_BACKENDS, no id twice
   * @param before the table that this one takes the place of
   */
  static of(backends: readonly MaglevBackend[], before?: MaglevTable): MaglevTable {
    const size = sizeFor(backends.length);
    const ids = backends.map(({ id }) => id);
    const slots = new Uint16Array(size).fill(FREE);
    const missing = quotas(backends, size);
    if (before?.size === size) keep(before, { slots, ids, missing });
    fill(backends, slots, missing);
    return new MaglevTable(slots, ids);
  }

  get size(): number {
    return this.#slots.length;
  }

  /** Positions of backends. Not to be written to. */
  get slots(): Uint16Array {
    return this.#slots;
  }

  get lengthBytes(): number {
    return this.#slots.byteLength;
  }

  /** The id of the backend that a hash of 32 bits finds. */
  at(hash: number): number {
    return this.#ids[this.positionAt(hash)]!;
  }

  /** The position of this backend among those that the table was made of. */
  positionAt(hash: number): number {
    return this.#slots[hash % this.#slots.length]!;
  }
}

/** How many slots the table of so many backends has. */
export function sizeFor(backends: number): number {
  return SIZES.find((size) => size >= backends * SLOTS_PER_BACKEND) ?? SIZES.at(-1)!;
}

/** How many slots each one is entitled to, all of them together: the largest remainders are rounded up. */
function quotas(backends: readonly MaglevBackend[], size: number): Uint32Array {
  const total = backends.reduce((sum, { weight }) => sum + weight, 0);
  const exact = backends.map(({ weight }) => (size * weight) / total);
  const quota = Uint32Array.from(exact, Math.floor);
  const rest = size - quota.reduce((sum, slots) => sum + slots, 0);
  const byRemainder = exact
    .map((share, at) => ({ at, remainder: share - Math.floor(share) }))
    .sort((a, b) => b.remainder - a.remainder || backends[a.at]!.hash - backends[b.at]!.hash);
  for (const { at } of byRemainder.slice(0, rest)) quota[at]!++;
  return quota;
}

interface Filling {
  readonly slots: Uint16Array;
  readonly ids: readonly number[];
  /** How many more slots each one is entitled to. */
  readonly missing: Uint32Array;
}

/** Leaves slots to those who had them, as far as they are entitled to so many. */
function keep(before: MaglevTable, { slots, ids, missing }: Filling): void {
  const positions = new Map(ids.map((id, at) => [id, at]));
  for (let slot = 0; slot < slots.length; slot++) {
    const at = positions.get(before.at(slot));
    if (at === undefined || missing[at] === 0) continue;
    missing[at]!--;
    slots[slot] = at;
  }
}

/** All take turns, each at the free slot that it likes best, until they have what they are entitled to. */
function fill(backends: readonly MaglevBackend[], slots: Uint16Array, missing: Uint32Array): void {
  const size = slots.length;
  const orders = backends.map(
    ({ hash }): Order => ({
      next: hash % size,
      step: 1 + ((Math.imul(hash ^ 0x5bd1e995, 0x9e3779b1) >>> 0) % (size - 1)),
    }),
  );
  // Whoever is entitled to twice as many has two turns where another one has one.
  const most = missing.reduce((most, slots) => Math.max(most, slots), 0);
  const taken = new Uint32Array(backends.length);
  for (let turn = 1; turn <= most; turn++) {
    for (let at = 0; at < orders.length; at++) {
      const due = Math.ceil((missing[at]! * turn) / most);
      for (; taken[at]! < due; taken[at]!++) slots[nextFree(orders[at]!, slots)] = at;
    }
  }
}

/** Where a backend is in its order of slots. */
interface Order {
  next: number;
  readonly step: number;
}

/** The free slot that it likes best. Most of the time goes into this loop, which does without a division. */
function nextFree(order: Order, slots: Uint16Array): number {
  const { step } = order;
  const size = slots.length;
  let { next } = order;
  while (slots[next] !== FREE) {
    next += step;
    if (next >= size) next -= size;
  }
  order.next = next;
  return next;
}
