/**
 * The ports of one family and protocol that sources have reserved: which port a source has, and how
 * many connections use it. Over typed arrays of a fixed size, since a source is a tuple, and there may
 * be one for each port.
 */
import { NAT_PORTS } from '../flow/connection.ts';

/** A source: VNI, address, port. */
export const SOURCE_BYTES = 22;
/** Of the index: a power of two, at most half of which is taken. */
const PLACES = 32_768;

export class ReservedPorts {
  /** By port: how many connections use it; 0: it is not reserved. */
  readonly #uses = new Uint32Array(NAT_PORTS.count);
  readonly #sources = new Uint8Array(NAT_PORTS.count * SOURCE_BYTES);
  readonly #hashes = new Uint32Array(NAT_PORTS.count);
  /** Open addressing by the hash of the source: the port's number in the range + 1; 0: free. */
  readonly #index = new Uint16Array(PLACES);
  #size = 0;

  get isFull(): boolean {
    return this.#size === NAT_PORTS.count;
  }

  isReserved(port: number): boolean {
    return (this.#uses[port - NAT_PORTS.first] ?? 0) > 0;
  }

  /** The port of a source; undefined if it has none. @param hash of the source, by a key that no container knows */
  portOf(source: Uint8Array, hash: number): number | undefined {
    for (let at = hash % PLACES; ; at = (at + 1) % PLACES) {
      const number = this.#index[at]! - 1;
      if (number < 0) return undefined;
      if (this.#hashes[number] === hash && this.#isOf(number, source)) return NAT_PORTS.first + number;
    }
  }

  /** Reserves a port for a source that has none. The first connection uses it. */
  reserve(source: Uint8Array, hash: number, port: number): void {
    const number = port - NAT_PORTS.first;
    this.#uses[number] = 1;
    this.#sources.set(source, number * SOURCE_BYTES);
    this.#hashes[number] = hash;
    let at = hash % PLACES;
    while (this.#index[at] !== 0) at = (at + 1) % PLACES;
    this.#index[at] = number + 1;
    this.#size++;
  }

  /** One more connection uses the port. */
  use(port: number): void {
    this.#uses[port - NAT_PORTS.first]!++;
  }

  /** One connection less uses the port. True if it was the last one: the port is no longer reserved. */
  release(port: number): boolean {
    const number = port - NAT_PORTS.first;
    if (--this.#uses[number]! > 0) return false;
    this.#erase(number);
    this.#size--;
    return true;
  }

  #erase(number: number): void {
    let hole = this.#hashes[number]! % PLACES;
    while (this.#index[hole] !== number + 1) hole = (hole + 1) % PLACES;
    for (let at = (hole + 1) % PLACES; this.#index[at] !== 0; at = (at + 1) % PLACES) {
      // May move back unless its probe begins behind the hole.
      const home = this.#hashes[this.#index[at]! - 1]! % PLACES;
      if ((at - home + PLACES) % PLACES < (at - hole + PLACES) % PLACES) continue;
      this.#index[hole] = this.#index[at]!;
      hole = at;
    }
    this.#index[hole] = 0;
  }

  #isOf(number: number, source: Uint8Array): boolean {
    const from = number * SOURCE_BYTES;
    for (let i = 0; i < SOURCE_BYTES; i++) if (this.#sources[from + i] !== source[i]) return false;
    return true;
  }
}
