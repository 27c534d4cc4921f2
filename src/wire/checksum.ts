/**
 * The Internet checksum (RFC 1071): the ones' complement of the ones'
 * complement sum of all 16-bit big-endian words, an odd last byte padded with
 * zero. Sums may be chained: pass one result as the `seed` of the next, as long
 * as every part but the last has an even length.
 */
import { setU16 } from './bytes.ts';

/** Unfolded-safe ones' complement sum of `bytes`, 0 … 0xffff, not complemented. */
export function onesSum(bytes: Uint8Array, seed = 0): number {
  let sum = seed;
  const even = bytes.length & ~1;
  for (let i = 0; i < even; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  if (even < bytes.length) sum += bytes[even]! << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

/** The checksum to store; 0 when taken over data that holds a correct checksum already. */
export function checksum(bytes: Uint8Array, seed = 0): number {
  return ~onesSum(bytes, seed) & 0xffff;
}

/**
 * Sum over the pseudo header of TCP, UDP and ICMPv6 (RFC 9293 §3.1, RFC 8200
 * §8.1): a seed for `checksum`. IPv4 and IPv6 give the same sum form, since the
 * words that differ in place do not differ in value.
 *
 * @param source 4 or 16 bytes, as `destination`
 * @param lengthBytes of the L4 header and its payload
 */
export function pseudoSum(source: Uint8Array, destination: Uint8Array, protocol: number, lengthBytes: number): number {
  const rest = Uint8Array.of(0, protocol, lengthBytes >>> 24, lengthBytes >>> 16, lengthBytes >>> 8, lengthBytes);
  return onesSum(rest, onesSum(destination, onesSum(source)));
}

/** L4 checksum over a segment whose checksum field is zero. */
export function l4Checksum(source: Uint8Array, destination: Uint8Array, protocol: number, segment: Uint8Array): number {
  return checksum(segment, pseudoSum(source, destination, protocol, segment.length));
}

/**
 * Writes a checksum of ICMP for IPv4 that was made from what changed (RFC 1624). Such a
 * sum comes out as 0 whether the words add up to 0xffff or are all zero, and over nothing
 * but zeros the checksum is 0xffff, as an echo reply without identifier, sequence and data
 * has it. Every other checksum covers something that is not zero.
 *
 * @param message what of it is there: of a first fragment, that part decides
 */
export function setIcmpChecksum(message: Uint8Array, value: number): void {
  setU16(message, 2, value);
  if (value === 0 && message.every((byte) => byte === 0)) setU16(message, 2, 0xffff);
}

/** UDP says "no checksum" with 0, so a computed 0 is sent as 0xffff (RFC 768). */
export function udpChecksum(source: Uint8Array, destination: Uint8Array, datagram: Uint8Array): number {
  return l4Checksum(source, destination, 17, datagram) || 0xffff;
}
