/**
 * Many keys, without a turn of the event loop that takes long. A `Set` puts all that it has into a larger table at once, which
 * takes more than ten milliseconds for a hundred thousand. So there are many small ones.
 */
const PARTS = 256;
/** So many of its last characters say in which part a key is. */
const TOLD_BY = 4;

export class KeySet {
  readonly #parts = Array.from({ length: PARTS }, () => new Set<string>());

  add(key: string): void {
    this.#partOf(key).add(key);
  }

  has(key: string): boolean {
    return this.#partOf(key).has(key);
  }

  #partOf(key: string): Set<string> {
    let part = 0;
    for (let at = Math.max(0, key.length - TOLD_BY); at < key.length; at++)
      part = (part * 31 + key.charCodeAt(at)) % PARTS;
    return this.#parts[part]!;
  }
}
