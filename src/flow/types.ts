/** The small values that every layer uses: branded numbers, MAC and IP bytes and their text. */
import ipaddr from 'ipaddr.js';
import { textOf, wordsOf } from '../wire/address-text.ts';

declare const brand: unique symbol;
type Branded<T, B extends string> = T & { readonly [brand]: B };

/** Number of a switch port, 1 … 65,535. Not a TCP or UDP port: that is an `l4Port`. */
export type PortNo = Branded<number, 'PortNo'>;
/** VXLAN network identifier, 1 … 16,777,215. */
export type Vni = Branded<number, 'Vni'>;
/** Number of a cached flow, unique while the switch runs. */
export type FlowId = Branded<number, 'FlowId'>;

/** Are the bytes of both addresses the same? */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** 6 bytes from `02:00:00:00:00:01`. @throws RangeError when it is no MAC address. */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)) throw new RangeError(`"${text}" is not a MAC address`);
  return Uint8Array.from(text.split(/[:-]/), (hex) => Number.parseInt(hex, 16));
}

const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function formatMac(mac: Uint8Array): string {
  return `${hex[mac[0]!]}:${hex[mac[1]!]}:${hex[mac[2]!]}:${hex[mac[3]!]}:${hex[mac[4]!]}:${hex[mac[5]!]}`;
}

/** 16 bytes (IPv4 as IPv4-mapped) from text. @throws RangeError when it is no IP address. */
export function parseIp(text: string): Uint8Array {
  const words = wordsOf(text);
  if (words) {
    const ip = new Uint8Array(16);
    for (let i = 0; i < 16; i++) ip[i] = words[i >> 2]! >>> (24 - 8 * (i & 3));
    return ip;
  }
  // Asking for the other family would throw inside, which takes much longer.
  if (!(text.includes(':') ? ipaddr.IPv6.isValid(text) : ipaddr.IPv4.isValidFourPartDecimal(text))) {
    throw new RangeError(`"${text}" is not an IP address`);
  }
  const address = ipaddr.parse(text);
  return Uint8Array.from(
    (address.kind() === 'ipv4' ? (address as ipaddr.IPv4).toIPv4MappedAddress() : address).toByteArray(),
  );
}

const words = new Uint32Array(4);

/** RFC 5952 text; IPv4-mapped addresses print as IPv4. */
export function formatIp(ip: Uint8Array): string {
  for (let i = 0; i < 4; i++) {
    words[i] = (ip[4 * i]! << 24) | (ip[4 * i + 1]! << 16) | (ip[4 * i + 2]! << 8) | ip[4 * i + 3]!;
  }
  return textOf(words);
}

/** IPv4-mapped? */
export function isIp4(ip: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (ip[i] !== 0) return false;
  return ip[10] === 0xff && ip[11] === 0xff;
}

export function isZero(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** Broadcast or multicast: the group bit of the first octet. */
export function isGroupMac(mac: Uint8Array): boolean {
  return (mac[0]! & 1) === 1;
}

const limitedBroadcast = parseIp('255.255.255.255');

/** An IPv4 or IPv6 multicast address, or 255.255.255.255? */
export function isGroupIp(ip: Uint8Array): boolean {
  return isIp4(ip) ? ip[12]! >> 4 === 14 || sameBytes(ip, limitedBroadcast) : ip[0] === 0xff;
}

/** The link-local address that a MAC gives by modified EUI-64 (RFC 4291 appendix A). */
export function linkLocalOf(mac: Uint8Array): Uint8Array {
  return Uint8Array.of(
    0xfe,
    0x80,
    0,
    0,
    0,
    0,
    0,
    0,
    mac[0]! ^ 2,
    mac[1]!,
    mac[2]!,
    0xff,
    0xfe,
    mac[3]!,
    mac[4]!,
    mac[5]!,
  );
}
