/** A prefix as the range of its addresses, which is made to be compared. */
import { isIp4 } from '../../flow/types.ts';
import type { Prefix } from '../routes.ts';

/** An address: one word of IPv4, four of IPv6. Their highest bits are turned over, so that signed numbers have the order of addresses. */
export type AddressWords = readonly number[];

/** Those of different families are never compared. */
export interface BlockRange {
  readonly length: number;
  readonly first: AddressWords;
  /** The first address behind it; undefined: there is none. */
  readonly end: AddressWords | undefined;
}

export function rangeOf({ ip, length }: Prefix): BlockRange {
  const count = isIp4(ip) ? 1 : 4;
  const first: number[] = [];
  for (let word = 0, at = 16 - 4 * count; word < count; word++, at += 4) {
    first.push(wordAt(ip, at, maskOf(length - 32 * word)));
  }
  const end = [...first];
  let word = Math.ceil(length / 32) - 1;
  // What is added may be carried into the words before.
  for (let step = word < 0 ? 0 : 2 ** (32 * (word + 1) - length); word >= 0; word--, step = 1) {
    const sum = ((end[word]! ^ HIGHEST) >>> 0) + step;
    end[word] = sum ^ HIGHEST;
    if (sum < 2 ** 32) break;
  }
  return { length, first, end: word < 0 ? undefined : end };
}

export const HIGHEST = 0x8000_0000;

/** A word of an address, as `AddressWords` has it. @param mask the bits that count */
export function wordAt(bytes: Uint8Array, at: number, mask = -1): number {
  const word = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
  return (word & mask) ^ HIGHEST;
}

/** The first bits of a word, as many as that: none or less, or up to all of them. */
function maskOf(bits: number): number {
  return bits <= 0 ? 0 : bits >= 32 ? -1 : -1 << (32 - bits);
}

/** By their first addresses; outer ones come before inner ones. */
export function compareRanges(a: BlockRange, b: BlockRange): number {
  return compareWords(a.first, b.first) || a.length - b.length;
}

function compareWords(a: AddressWords, b: AddressWords): number {
  for (let word = 0; word < a.length; word++) if (a[word] !== b[word]) return a[word]! < b[word]! ? -1 : 1;
  return 0;
}

/** True if all addresses of `inner` are in `outer`. */
export function covers(outer: BlockRange, inner: BlockRange): boolean {
  if (outer.length > inner.length || compareWords(outer.first, inner.first) > 0) return false;
  return outer.end === undefined || compareWords(inner.first, outer.end) < 0;
}
