/** Names of addresses: `5.0.0.10.in-addr.arpa` and `….ip6.arpa` (RFC 1035 section 3.5, RFC 3596 section 2.5). */
import { isIp4, parseIp } from '../flow/types.ts';
import type { Prefix } from '../table/routes.ts';

const FAMILIES = [
  { suffix: ['in-addr', 'arpa'], bits: 8, digits: 4, label: /^(?:0|[1-9]\d{0,2})$/, radix: 10, at: 12 },
  { suffix: ['ip6', 'arpa'], bits: 4, digits: 32, label: /^[0-9a-f]$/, radix: 16, at: 0 },
] as const;

/** What a name below `in-addr.arpa` or `ip6.arpa` says, which need not be a whole address. */
export interface ReverseName {
  /** All addresses that have it in common. */
  readonly prefix: Prefix;
  /** False if the name stands for many addresses. */
  readonly isWhole: boolean;
  /** The name of the zone that weft answers for: the first byte. */
  readonly zone: string;
}

/** @param labels in lower case. @returns undefined if it is no such name, `invalid` if it never can be an address */
export function reverseName(labels: readonly string[]): ReverseName | 'invalid' | undefined {
  const suffix = labels.slice(-2).join('.');
  const family = FAMILIES.find((one) => one.suffix.join('.') === suffix);
  if (!family) return undefined;
  const { bits, digits, label, radix, at } = family;
  const parts = labels.slice(0, -2).reverse();
  const values = parts.map((part) => (label.test(part) ? Number.parseInt(part, radix) : -1));
  if (parts.length > digits || values.some((value) => value < 0 || value >= 1 << bits)) return 'invalid';
  const ip = at === 0 ? new Uint8Array(16) : parseIp('0.0.0.0');
  for (const [i, value] of values.entries()) {
    if (bits === 8) ip[at + i] = value;
    else ip[i >> 1]! |= value << (i % 2 === 0 ? 4 : 0);
  }
  const zone = [...parts.slice(0, 8 / bits).reverse(), suffix].join('.');
  return { prefix: { ip, length: bits * values.length }, isWhole: values.length === digits, zone };
}

/** Addresses that nobody outside can name: RFC 1918, 6598, 3927, 4193, 4291, and loopback. */
const PRIVATE: readonly Prefix[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['::', 64],
  ['fc00::', 7],
  ['fe80::', 10],
].map(([text, length]) => ({ ip: parseIp(text as string), length: length as number }));

/** True if weft alone answers for all of these addresses. */
export function isPrivate(addresses: Prefix): boolean {
  return PRIVATE.some((range) => isWithin(addresses, range));
}

export function isWithin(inner: Prefix, outer: Prefix): boolean {
  const isV4 = isIp4(outer.ip);
  if (isIp4(inner.ip) !== isV4 || inner.length < outer.length) return false;
  const bits = (isV4 ? 96 : 0) + outer.length;
  for (let bit = 0; bit < bits; bit += 8) {
    const mask = 0xff00 >> Math.min(8, bits - bit);
    if (((inner.ip[bit >> 3]! ^ outer.ip[bit >> 3]!) & mask & 0xff) !== 0) return false;
  }
  return true;
}
