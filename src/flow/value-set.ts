/**
 * A set of values of one field that can say how much of a key is needed to tell it apart from all of them, at the same
 * cost however many values there are. Every prefix of every value is counted, one table for each length. The longest
 * prefix is the value itself.
 */
export class ValueSet {
  /** By length in bytes less 1: how many values begin with a prefix, which is read as a big-endian number. */
  readonly #prefixes: readonly Map<number, number>[];

  /** @param size of each value in bytes, at most 6, so that a number holds it exactly */
  constructor(size: number, values: Iterable<Uint8Array> = []) {
    if (size > 6) throw new RangeError(`values of ${size} bytes do not fit into a number`);
    this.#prefixes = Array.from({ length: size }, () => new Map<number, number>());
    for (const value of values) this.add(value);
  }

  get isEmpty(): boolean {
    return this.#prefixes[0]!.size === 0;
  }

  /** A value that is added twice must be deleted twice. */
  add(value: Uint8Array): void {
    this.#count(value, 1);
  }

  delete(value: Uint8Array): void {
    this.#count(value, -1);
  }

  /** How many of the first bytes at `offset` the most similar value shares: all of them if they are in the set. */
  sharedBytes(bytes: Uint8Array, offset: number): number {
    let prefix = 0;
    for (const [at, values] of this.#prefixes.entries()) {
      prefix = prefix * 256 + bytes[offset + at]!;
      if (!values.has(prefix)) return at;
    }
    return this.#prefixes.length;
  }

  #count(value: Uint8Array, change: number): void {
    let prefix = 0;
    for (const [at, values] of this.#prefixes.entries()) {
      prefix = prefix * 256 + value[at]!;
      const count = (values.get(prefix) ?? 0) + change;
      if (count > 0) values.set(prefix, count);
      else values.delete(prefix);
    }
  }
}
