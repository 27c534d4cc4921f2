/**
 * Ranges of addresses by where they begin: which one is the last that begins before an address, found in the same time however
 * many ranges there are.
 *
 * A run is a part of the ranges. Between the first and the last start of a run, all addresses begin with the bits that these two
 * have in common. So the bits behind those choose a slot, about as many as the run has starts, and each slot is a run again. Of a
 * short run, the starts are compared.
 */
import { HIGHEST, wordAt, type AddressWords } from './block-range.ts';

/** A run of no more than these has no slots. */
const SHORT = 6;
const MOST_SLOT_BITS = 16;

/** What comes before the slots of a run: which word chooses, by how much it is shifted, how many slots there are. */
const HEAD = 3;

/** The address that is looked for. */
const wanted = new Int32Array(4);

/** The runs of an index while it is made: so much of it is used. */
let runs = new Int32Array(1024);
let used = 0;

/** True if the address that was looked for last is not before another one. @param end undefined: that is behind all addresses */
export function isBehindWanted(end: AddressWords | undefined): boolean {
  if (!end) return false;
  for (let word = 0; word < end.length; word++) if (end[word] !== wanted[word]) return end[word]! < wanted[word]!;
  return true;
}

export class RangeIndex {
  readonly #words: number;
  /** In order, some words each. */
  readonly #starts: Int32Array;
  readonly #size: number;
  /**
   * For each run that is not short: its head, for each slot the first of its ranges, where the last slot ends, and for each slot
   * where its own run is here. The run of all ranges comes first.
   */
  readonly #runs: Int32Array;

  /** @param starts in order, some words each, as `AddressWords` has them @param words of an address */
  constructor(starts: Int32Array, words: number) {
    this.#words = words;
    this.#size = starts.length / words;
    this.#starts = starts;
    used = 0;
    this.#addRun(0, this.#size);
    this.#runs = runs.slice(0, used);
  }

  /** The last range that begins at an address of 16 bytes or before it; -1 if there is none. */
  find(address: Uint8Array): number {
    const words = this.#words;
    for (let word = 0, at = 16 - 4 * words; word < words; word++, at += 4) wanted[word] = wordAt(address, at);
    return (words === 1 ? this.#firstBehindWord(wanted[0]!) : this.#firstBehind()) - 1;
  }

  /** The first range that begins behind an IPv4 address. */
  #firstBehindWord(address: number): number {
    const starts = this.#starts;
    const its = this.#runs;
    let [low, high, run] = [0, this.#size, 0];
    while (high - low > SHORT) {
      if (starts[low]! > address) return low;
      if (starts[high - 1]! <= address) return high;
      const slots = its[run + 2]!;
      const place = run + HEAD + (((address ^ HIGHEST) >>> its[run + 1]!) & (slots - 1));
      low = its[place]!;
      high = its[place + 1]!;
      run = its[place + slots + 1]!;
    }
    while (low < high && starts[low]! <= address) low++;
    return low;
  }

  /** The first range that begins behind the address in `wanted`. */
  #firstBehind(): number {
    const its = this.#runs;
    let [low, high, run] = [0, this.#size, 0];
    while (high - low > SHORT) {
      if (this.#isBehind(low)) return low;
      if (!this.#isBehind(high - 1)) return high;
      const slots = its[run + 2]!;
      const place = run + HEAD + (((wanted[its[run]!]! ^ HIGHEST) >>> its[run + 1]!) & (slots - 1));
      low = its[place]!;
      high = its[place + 1]!;
      run = its[place + slots + 1]!;
    }
    while (low < high && !this.#isBehind(low)) low++;
    return low;
  }

  /** True if that range begins behind the address in `wanted`. */
  #isBehind(range: number): boolean {
    for (let word = 0, at = range * this.#words; word < this.#words; word++, at++) {
      const start = this.#starts[at]!;
      const here = wanted[word]!;
      if (start !== here) return start > here;
    }
    return false;
  }

  /** Adds the run of the ranges from `low` to before `high` to `runs`. @returns where it is */
  #addRun(low: number, high: number): number {
    if (high - low <= SHORT) return 0;
    const [words, starts] = [this.#words, this.#starts];
    let word = 0;
    while (word < words && starts[low * words + word] === starts[(high - 1) * words + word]) word++;
    // All of them begin at the same address, so nothing is between.
    if (word === words) return 0;
    const first = Math.clz32(starts[low * words + word]! ^ starts[(high - 1) * words + word]!);
    const bits = Math.min(32 - Math.clz32(high - low - 1), MOST_SLOT_BITS, 32 - first);
    const [shift, slots] = [32 - first - bits, 1 << bits];
    const run = used;
    makeRoom(HEAD + 2 * slots + 1);
    runs[run] = word;
    runs[run + 1] = shift;
    runs[run + 2] = slots;
    for (let at = low, slot = 0; slot <= slots; at++) {
      const its = at < high ? ((starts[at * words + word]! ^ HIGHEST) >>> shift) & (slots - 1) : slots;
      for (; slot <= its; slot++) runs[run + HEAD + slot] = at;
    }
    for (let slot = 0; slot < slots; slot++) {
      const place = run + HEAD + slot;
      const own = this.#addRun(runs[place]!, runs[place + 1]!);
      runs[place + slots + 1] = own;
    }
    return run;
  }
}

function makeRoom(more: number): void {
  used += more;
  if (used <= runs.length) return;
  const before = runs;
  runs = new Int32Array(2 * used);
  runs.set(before);
}
