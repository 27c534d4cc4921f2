/**
 * Many keys, without a turn of the event loop that takes long. A `Set` puts all that it has into a larger table at once, which
 * takes more than ten milliseconds for a hundred thousand. So there are many small ones, about as large as each other, whatever
 * the keys have in common.
 */
export const PARTS = 256;

export class KeySet {
  readonly #parts = Array.from({ length: PARTS }, () => new Set<string>());

  add(key: string): void {
    this.#parts[partOf(key)]!.add(key);
  }

  has(key: string): boolean {
    return this.#parts[partOf(key)]!.has(key);
  }
}

/** In which of the parts a key is. */
export function partOf(key: string): number {
  let hash = 0;
  for (let at = 0; at < key.length; at++) hash = (Math.imul(hash, 31) + key.charCodeAt(at)) | 0;
  // The upper bits have more of the first characters.
  return (hash ^ (hash >>> 8) ^ (hash >>> 16) ^ (hash >>> 24)) & (PARTS - 1);
}
