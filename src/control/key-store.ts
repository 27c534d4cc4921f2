/**
 * The keys of cached flows, in pages of plain bytes: an array for each key would cost several times
 * its bytes, and time to create. A key is identified by its slot, which is free again after it
 * was removed.
 */
import { KEY_BYTES } from '../flow/fields.ts';
import { emptyKey, type FlowKey } from '../flow/key.ts';

const PAGE_KEYS = 1024;

export class KeyStore {
  readonly #pages: Uint8Array[] = [];
  readonly #free: number[] = [];
  #slots = 0;

  /** Copies a key in. Returns its slot. */
  add(key: FlowKey): number {
    const slot = this.#free.pop() ?? this.#slots++;
    const page = (this.#pages[Math.floor(slot / PAGE_KEYS)] ??= new Uint8Array(PAGE_KEYS * KEY_BYTES));
    page.set(key, (slot % PAGE_KEYS) * KEY_BYTES);
    return slot;
  }

  /** Copies a key out, into `to` if it is given. */
  read(slot: number, to: Uint8Array = emptyKey()): FlowKey {
    const page = this.#pages[Math.floor(slot / PAGE_KEYS)]!;
    const at = (slot % PAGE_KEYS) * KEY_BYTES;
    for (let i = 0; i < KEY_BYTES; i++) to[i] = page[at + i]!;
    return to;
  }

  remove(slot: number): void {
    this.#free.push(slot);
  }
}
