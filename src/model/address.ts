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
  const address = ipaddr.parse(text);
  const value = BigInt(`0x${Buffer.from(address.toByteArray()).toString('hex')}`);
  return address.kind() === 'ipv4' ? MAPPED | value : value;
}

/** Canonical text: dotted decimal, or RFC 5952 for IPv6. */
export function addressText(value: bigint): string {
  const bytes = [...Buffer.from(value.toString(16).padStart(32, '0'), 'hex')];
  if (isIp4(value)) return bytes.slice(12).join('.');
  return new ipaddr.IPv6(bytes).toRFC5952String();
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
