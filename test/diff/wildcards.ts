/**
 * A mask may leave out only what the decision did not depend on: for a cached flow, the decision is the
 * same whatever the wildcarded fields contain.
 */
import { fieldList, fields, type Field } from '../../src/flow/fields.ts';
import { readBytes, type FlowKey, type FlowMask } from '../../src/flow/key.ts';
import { formatActions, type Action } from '../../src/flow/action.ts';
import { formatMegaflow } from '../../src/flow/key.ts';
import type { Random } from '../support/random.ts';

export interface WildcardOptions {
  readonly flows: Iterable<{ readonly key: FlowKey; readonly mask: FlowMask }>;
  /** Decides a key with the current tables, with which the flows were decided. */
  readonly decide: (key: FlowKey) => { readonly actions: readonly Action[] };
  readonly random: Random;
  /** Keys whose field values are worth a try: those of other flows, or of hosts that exist. */
  readonly interesting?: readonly FlowKey[];
}

/** One line for each flow and field whose change changes the decision; none if all masks are right. */
export function findWideMasks({ flows, decide, random, interesting = [] }: WildcardOptions): string[] {
  const wide: string[] = [];
  for (const { key, mask } of flows) {
    const decided = formatActions(decide(key).actions);
    const kept = (value: Uint8Array, { offset }: Field): Uint8Array =>
      value.map((byte, i) => (mask[offset + i] === 0 ? byte : key[offset + i]!));
    // If only the beginning of a field is used, the rest is free.
    const free = fieldList
      .filter(({ offset, size }) => mask[offset + size - 1] === 0)
      .map((field) => ({ field, tries: values(key, field, random, interesting).map((value) => kept(value, field)) }));
    const check = (other: FlowKey, what: string) => {
      const now = formatActions(decide(other).actions);
      if (now === decided) return;
      const hex = Buffer.from(other).toString('hex');
      wide.push(`${formatMegaflow(key, mask)}: ${what} turns ${decided} into ${now} (key ${hex})`);
    };
    for (const { field, tries } of free) {
      for (const value of tries) {
        const other = key.slice();
        other.set(value, field.offset);
        check(other, `another ${field.name}`);
      }
    }
    // Fields that only matter together.
    for (let i = 0; i < 8; i++) {
      const other = key.slice();
      for (const { field, tries } of free) other.set(random.pick(tries), field.offset);
      check(other, 'a change of all of them');
    }
  }
  return wide;
}

/** Each bit flipped, all zero, all ones, random, and as in other keys. */
function values(key: FlowKey, field: Field, random: Random, interesting: readonly FlowKey[]): Uint8Array[] {
  const { size } = fields[field.name];
  const own = readBytes(key, field);
  const flips = Array.from({ length: size * 8 }, (_, bit) => {
    const flipped = own.slice();
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    return flipped;
  });
  const others =
    interesting.length > 0 ? Array.from({ length: 4 }, () => readBytes(random.pick(interesting), field).slice()) : [];
  return [...flips, new Uint8Array(size), new Uint8Array(size).fill(0xff), random.bytes(size), ...others];
}
