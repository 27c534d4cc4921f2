/**
 * Destination ports cut into ranges, each of which has one value: what rules say about them is the same within each. A value
 * is found at the same cost however many ranges there are.
 */

/** Destination ports from `first` to `last`. */
export interface DestinationPorts {
  readonly first: number;
  readonly last: number;
}

/** Which ports make a difference. */
export interface PortsThatMatter {
  /** Each of them is to be told apart from all others. In order. */
  readonly singles: readonly number[];
  /** True if others have different values, too, so that the port itself has to be known. */
  readonly hasRanges: boolean;
}

const PORTS = 65_536;
export const ALL_PORTS: DestinationPorts = { first: 0, last: PORTS - 1 };
/** A narrow range is listed as single ports, as long as there are no more than these of it. */
const MOST_SINGLES_OF_RANGE = 16;

/** Where ranges begin, in order, from 0 on. */
export function cutPorts(ranges: Iterable<DestinationPorts>): Uint16Array {
  const starts = new Set([0]);
  for (const { first, last } of ranges) {
    starts.add(first);
    if (last + 1 < PORTS) starts.add(last + 1);
  }
  return Uint16Array.from(starts).sort();
}

/** The last of the ranges that begin at the port or before it. */
export function rangeAt(starts: Uint16Array, port: number): number {
  let [low, high] = [0, starts.length];
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (starts[middle]! <= port) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * For ranges that begin at `starts`: the first of some rules that covers each, -1 if there is none. Each range is looked at
 * once for each rule that covers none before it, so that thousands of rules for all ports cost no more than their number.
 */
export class FirstMatch {
  readonly #starts: Uint16Array;
  /** By range; -1: none yet. */
  readonly found: Int32Array;
  /** By range: one from which on the next range without a rule is to be looked for. */
  readonly #next: Uint32Array;

  constructor(starts: Uint16Array) {
    this.#starts = starts;
    this.found = new Int32Array(starts.length).fill(-1);
    this.#next = Uint32Array.from({ length: starts.length + 1 }, (_, at) => at);
  }

  /** @param rule comes after all that were added before @param range ends where ranges end */
  add(rule: number, { first, last }: DestinationPorts): void {
    const end = last + 1 < PORTS ? rangeAt(this.#starts, last + 1) : this.#starts.length;
    for (let at = this.#free(rangeAt(this.#starts, first)); at < end; at = this.#free(at)) {
      this.found[at] = rule;
      this.#next[at] = at + 1;
    }
  }

  /** The first range from `at` on that no rule covers yet. */
  #free(at: number): number {
    let free = at;
    while (this.#next[free] !== free) free = this.#next[free]!;
    for (let passed = at; passed !== free; ) {
      const after = this.#next[passed]!;
      this.#next[passed] = free;
      passed = after;
    }
    return free;
  }
}

/** A value for each port. */
export class PortTable<V> {
  readonly #starts: Uint16Array;
  readonly #values: readonly V[];
  #mattering: PortsThatMatter | undefined;

  /** @param values of the ranges that begin at `starts`; neighbors with the same value become one range */
  constructor(starts: Uint16Array, values: readonly V[]) {
    const isNew = (at: number): boolean => at === 0 || values[at] !== values[at - 1];
    this.#starts = starts.filter((_, at) => isNew(at));
    this.#values = values.filter((_, at) => isNew(at));
  }

  /** How many ranges there are. */
  get size(): number {
    return this.#values.length;
  }

  at(port: number): V {
    return this.#values[rangeAt(this.#starts, port)]!;
  }

  get mattering(): PortsThatMatter {
    return (this.#mattering ??= this.#whatMatters());
  }

  #whatMatters(): PortsThatMatter {
    const widths = this.#values.map((_, at) => (this.#starts[at + 1] ?? PORTS) - this.#starts[at]!);
    const widest = widths.reduce((best, width, at) => (width > widths[best]! ? at : best), 0);
    const usual = this.#values[widest];
    const others = [...widths.keys()].filter((at) => this.#values[at] !== usual);
    const narrow = others.filter((at) => widths[at]! <= MOST_SINGLES_OF_RANGE);
    return {
      singles: narrow.flatMap((at) => Array.from({ length: widths[at]! }, (_, n) => this.#starts[at]! + n)),
      hasRanges: narrow.length < others.length,
    };
  }
}
