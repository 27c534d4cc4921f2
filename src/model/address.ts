/**
 * Arithmetic on addresses. An address is a 128-bit number, IPv4 in its IPv4-mapped form (RFC
 * 4291 section 2.5.5.2), so one comparison serves both families, and they are never equal by
 * accident.
 *
 * Some addresses of a subnet are reserved: the first one is the network itself (IPv4) or the
 * subnet-router anycast address (IPv6, RFC 4291 section 2.6.1), the second one is the
 * gateway's, and the last one in IPv4 is the broadcast address. The addresses between them are
 * one run without gaps.
 */
import ipaddr from 'ipaddr.js';
import { textOf, wordsOf } from '../wire/address-text.ts';

/** From `first` to `last`, both included. */
export interface AddressRange {
  readonly first: bigint;
  readonly last: bigint;
}

export interface Subnet extends AddressRange {
  readonly prefixLength: number;
}

const MAPPED = 0xffffn << 32n;

/** @param text a valid IPv4 or IPv6 address */
export function addressValue(text: string): bigint {
  const words = wordsOf(text);
  if (words) {
    const [a = 0, b = 0, c = 0, d = 0] = words;
    // The usual case: IPv4.
    if (a === 0 && b === 0) return BigInt(c * 2 ** 32 + d);
    return (((BigInt(a) << 32n) | BigInt(b)) << 64n) | (BigInt(c) << 32n) | BigInt(d);
  }
  const address = ipaddr.parse(text);
  const value = BigInt(`0x${Buffer.from(address.toByteArray()).toString('hex')}`);
  return address.kind() === 'ipv4' ? MAPPED | value : value;
}

/** Whether it is an IPv4 or IPv6 address. A zone (`%eth0`) has a meaning on one host only. */
export function isAddress(text: string): boolean {
  if (wordsOf(text)) return true;
  return text.includes(':')
    ? ipaddr.IPv6.isValid(text) && !text.includes('%')
    : ipaddr.IPv4.isValidFourPartDecimal(text);
}

/** The canonical text of a valid address, as `addressText` has it. */
export function canonicalAddress(text: string): string {
  // Nearly all addresses are IPv4, of which `wordsOf` reads the canonical form alone.
  return !text.includes(':') && wordsOf(text) ? text : addressText(addressValue(text));
}

const words = new Uint32Array(4);

/** Canonical text: dotted decimal, or RFC 5952 for IPv6. */
export function addressText(value: bigint): string {
  const [high, low] = [value >> 64n, BigInt.asUintN(64, value)];
  words[0] = Number(high >> 32n);
  words[1] = Number(BigInt.asUintN(32, high));
  words[2] = Number(low >> 32n);
  words[3] = Number(BigInt.asUintN(32, low));
  return textOf(words);
}

export function isIp4(value: bigint): boolean {
  return value >> 32n === 0xffffn;
}

/** @param text a valid ADDRESS/PREFIX; host bits are ignored */
export function parseSubnet(text: string): Subnet {
  const [address = '', prefix] = text.split('/');
  const value = addressValue(address);
  const prefixLength = Number(prefix);
  const hostBits = BigInt((isIp4(value) ? 32 : 128) - prefixLength);
  const first = (value >> hostBits) << hostBits;
  return { first, last: first + (1n << hostBits) - 1n, prefixLength };
}

/** @param text a valid FIRST-LAST */
export function parseRange(text: string): AddressRange {
  const [first = '', last = ''] = text.split('-');
  return { first: addressValue(first), last: addressValue(last) };
}

export function overlaps(a: AddressRange, b: AddressRange): boolean {
  return a.first <= b.last && b.first <= a.last;
}

export function isWithin(inner: AddressRange, outer: AddressRange): boolean {
  return outer.first <= inner.first && inner.last <= outer.last;
}

export function gatewayOf(subnet: Subnet): bigint {
  return subnet.first + 1n;
}

/** The addresses that containers can have, within `range` if it is given. Empty when `first` is above `last`. */
export function usableRange(subnet: Subnet, range: AddressRange = subnet): AddressRange {
  const first = subnet.first + 2n;
  const last = isIp4(subnet.first) ? subnet.last - 1n : subnet.last;
  return { first: range.first > first ? range.first : first, last: range.last < last ? range.last : last };
}
