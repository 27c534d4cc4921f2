/**
 * A map whose entries are in the order in which they were used last, so that the oldest one can give way. All of it takes the
 * same time however many there are. (A Map keeps the places of deleted entries for a while, and whoever looks for its first
 * entry walks over all of them.)
 */
interface Entry<V> {
  readonly key: string;
  value: V;
  older: Entry<V> | undefined;
  newer: Entry<V> | undefined;
}

export class Recent<V> {
  readonly #entries = new Map<string, Entry<V>>();
  #oldest: Entry<V> | undefined;
  #newest: Entry<V> | undefined;

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): V | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Sets a value, and makes it the one that was used last. @returns the value before */
  use(key: string, value: V): V | undefined {
    const known = this.#entries.get(key);
    const before = known?.value;
    const entry = known ?? { key, value, older: undefined, newer: undefined };
    entry.value = value;
    if (!known) this.#entries.set(key, entry);
    if (entry === this.#newest) return before;
    if (known) this.#unlink(entry);
    entry.older = this.#newest;
    if (this.#newest) this.#newest.newer = entry;
    this.#newest = entry;
    this.#oldest ??= entry;
    return before;
  }

  /** Removes the one that was used the longest ago. */
  takeOldest(): V | undefined {
    const oldest = this.#oldest;
    if (oldest) this.#remove(oldest);
    return oldest?.value;
  }

  /** Removes those for which `isOver` is true. */
  removeIf(isOver: (value: V) => boolean): void {
    for (const entry of this.#entries.values()) if (isOver(entry.value)) this.#remove(entry);
  }

  #remove(entry: Entry<V>): void {
    this.#entries.delete(entry.key);
    this.#unlink(entry);
  }

  #unlink(entry: Entry<V>): void {
    const { older, newer } = entry;
    if (older) older.newer = newer;
    else this.#oldest = newer;
    if (newer) newer.older = older;
    else this.#newest = older;
    entry.older = entry.newer = undefined;
  }
}
