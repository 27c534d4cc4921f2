/**
 * FlowView: the only way in which a decision sees a flow.
 *
 * Reading a field through a getter sets that field in the mask, so a cached
 * decision can never be wider than what it was made from (the bug class of
 * CVE-2020-35498 and CVE-2023-1668). `consult` does the same for objects: a
 * decision carries the names of all the table entries that it looked up, found
 * or not, and is made anew when one of them changes.
 *
 * A view belongs to one translation and is not kept.
 */
import { fields, KEY_BYTES, type FieldName } from './fields.ts';
import { readBytes, readNumber, type FlowKey, type FlowMask } from './key.ts';

export class FlowView {
  readonly mask: FlowMask = new Uint8Array(KEY_BYTES);
  readonly consulted = new Set<string>();
  readonly #key: FlowKey;
  #read = new Set<FieldName>();

  constructor(key: FlowKey) {
    this.#key = key;
  }

  /** The value of a numeric field (ports, EtherType, protocol, …). */
  number(name: FieldName): number {
    this.#use(name);
    return readNumber(this.#key, fields[name]);
  }

  /** The bytes of an address field; valid as long as the key, not to be written to. */
  bytes(name: FieldName): Uint8Array {
    this.#use(name);
    return readBytes(this.#key, fields[name]);
  }

  /** Notes that the decision depends on a table entry, present or absent. */
  consult(object: string): void {
    this.consulted.add(object);
  }

  /** The fields read since the last call: what one stage used, for `weft trace`. */
  takeRead(): FieldName[] {
    const read = [...this.#read];
    this.#read = new Set();
    return read;
  }

  #use(name: FieldName): void {
    this.#read.add(name);
    const { offset, size } = fields[name];
    this.mask.fill(0xff, offset, offset + size);
  }
}
