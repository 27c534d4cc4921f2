/**
 * Subnets as intervals of numbers. An address is a bigint of 128 bits, IPv4 as
 * IPv4-mapped, so one order holds both families and they never overlap.
 */
import { formatIp, parseIp } from '../flow/types.ts';

export interface Interval {
  readonly first: bigint;
  /** Inclusive. */
  readonly last: bigint;
}

/** @throws RangeError when it is no IP address. */
export function addressNumber(text: string): bigint {
  return parseIp(text).reduce((number, byte) => (number << 8n) | BigInt(byte), 0n);
}

/** Canonical text. */
export function addressText(number: bigint): string {
  return formatIp(Uint8Array.from({ length: 16 }, (_, i) => Number((number >> BigInt(8 * (15 - i))) & 0xffn)));
}

/** Of a valid subnet like `10.0.0.0/24`. */
export function subnetInterval(subnet: string): Interval {
  const [address = '', length] = subnet.split('/');
  const hostBits = BigInt((address.includes(':') ? 128 : 32) - Number(length));
  const first = addressNumber(address);
  return { first, last: first + (1n << hostBits) - 1n };
}

/** Of a valid range like `10.0.0.10-10.0.0.99`. */
export function rangeInterval(range: string): Interval {
  const [first = '', last = ''] = range.split('-');
  return { first: addressNumber(first), last: addressNumber(last) };
}

/** The first subnet of `a` and of `b` that have addresses in common. */
export function findOverlap(a: readonly string[], b: readonly string[]): [string, string] | undefined {
  for (const one of a) {
    const { first, last } = subnetInterval(one);
    const other = b
      .map((subnet) => ({ subnet, ...subnetInterval(subnet) }))
      .find((it) => first <= it.last && it.first <= last);
    if (other) return [one, other.subnet];
  }
  return undefined;
}

export function rangeIsWithin(range: string, subnet: string): boolean {
  const inner = rangeInterval(range);
  const outer = subnetInterval(subnet);
  return outer.first <= inner.first && inner.last <= outer.last;
}
