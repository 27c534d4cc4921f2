/**
 * A map with several values for a key, each once. Most keys have one value, which is stored directly:
 * a set for each key would take most of the memory.
 */
export class MultiMap<K, V extends number | object> {
  readonly #values = new Map<K, V | Set<V>>();

  get(key: K): Iterable<V> {
    const values = this.#values.get(key);
    if (values === undefined) return [];
    return values instanceof Set ? values : [values];
  }

  /** Returns whether it is the first value of this key. */
  add(key: K, value: V): boolean {
    const values = this.#values.get(key);
    if (values === undefined) this.#values.set(key, value);
    else if (values instanceof Set) values.add(value);
    else if (values !== value) this.#values.set(key, new Set([values, value]));
    return values === undefined;
  }

  /** Returns whether it was the last value of this key. */
  delete(key: K, value: V): boolean {
    const values = this.#values.get(key);
    if (values instanceof Set) {
      values.delete(value);
      if (values.size > 0) return false;
    } else if (values !== value) return false;
    this.#values.delete(key);
    return true;
  }
}
