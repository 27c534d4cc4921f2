/**
 * A set of IP addresses that can say how much of a key is needed to tell it apart from all of them, as `ValueSet` does for
 * shorter values. An address costs some tens of bytes. They are sorted when that question is asked for the first time after
 * a change, which happens only when something is refused.
 */
import { bytesId } from './key.ts';

const ADDRESS_BYTES = 16;

export class AddressSet {
  /** By the bytes of the address: how often it was added. */
  readonly #counts = new Map<string, number>();
  /** The keys of `#counts`, in order; undefined after a change. */
  #sorted: readonly string[] | undefined;

  get isEmpty(): boolean {
    return this.#counts.size === 0;
  }

  has(ip: Uint8Array): boolean {
    return this.#counts.has(bytesId(ip));
  }

  /** An address that is added twice must be deleted twice. @param id `bytesId` of the address @returns true if it is new */
  add(id: string): boolean {
    const count = this.#counts.get(id) ?? 0;
    this.#counts.set(id, count + 1);
    if (count === 0) this.#sorted = undefined;
    return count === 0;
  }

  /** @returns true if it is not in the set any more */
  delete(id: string): boolean {
    const count = this.#counts.get(id) ?? 0;
    if (count > 1) this.#counts.set(id, count - 1);
    if (count !== 1) return false;
    this.#counts.delete(id);
    this.#sorted = undefined;
    return true;
  }

  /** How many of the first bytes at `offset` the most similar address shares: all of them if it is in the set. */
  sharedBytes(bytes: Uint8Array, offset: number): number {
    const id = bytesId(bytes.subarray(offset, offset + ADDRESS_BYTES));
    if (this.#counts.has(id)) return ADDRESS_BYTES;
    const sorted = (this.#sorted ??= [...this.#counts.keys()].sort());
    // The most similar address is next to the place where this one would be.
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sorted[middle]! < id) low = middle + 1;
      else high = middle;
    }
    return Math.max(shared(sorted[low - 1], id), shared(sorted[low], id));
  }
}

function shared(a: string | undefined, b: string): number {
  let bytes = 0;
  while (a !== undefined && bytes < b.length && a.charCodeAt(bytes) === b.charCodeAt(bytes)) bytes++;
  return bytes;
}
