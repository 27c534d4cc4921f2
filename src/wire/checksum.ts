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

/** The checksum to store; 0 over data that already contains a correct checksum. */
export function checksum(bytes: Uint8Array, seed = 0): number {
  return ~onesSum(bytes, seed) & 0xffff;
}

/**
 * Sum over the pseudo header of TCP, UDP and ICMPv6 (RFC 9293 §3.1, RFC 8200 §8.1): a seed
 * for `checksum`. IPv4 and IPv6 give the same sum: the words stand at different places, but
 * they have the same values.
 *
 * @param source 4 or 16 bytes, like `destination`
 * @param lengthBytes length of the L4 header and its payload
 */
export function pseudoSum(source: Uint8Array, destination: Uint8Array, protocol: number, lengthBytes: number): number {
  const rest = Uint8Array.of(0, protocol, lengthBytes >>> 24, lengthBytes >>> 16, lengthBytes >>> 8, lengthBytes);
  return onesSum(rest, onesSum(destination, onesSum(source)));
}

/** The L4 checksum of a segment whose checksum field is zero. */
export function l4Checksum(source: Uint8Array, destination: Uint8Array, protocol: number, segment: Uint8Array): number {
  return checksum(segment, pseudoSum(source, destination, protocol, segment.length));
}

/**
 * Writes an ICMP checksum for IPv4 that was computed from what changed (RFC 1624). That
 * computation gives 0 both when the words add up to 0xffff and when they are all zero. But
 * over nothing except zeros the checksum is 0xffff: an echo reply without identifier, sequence
 * number and data has it. Every other message contains something that is not zero.
 *
 * @param message the part of it that is there; for a first fragment, that part decides
 */
export function setIcmpChecksum(message: Uint8Array, value: number): void {
  setU16(message, 2, value);
  if (value === 0 && message.every((byte) => byte === 0)) setU16(message, 2, 0xffff);
}

/** UDP says "no checksum" with 0, so a computed 0 is sent as 0xffff (RFC 768). */
export function udpChecksum(source: Uint8Array, destination: Uint8Array, datagram: Uint8Array): number {
  return l4Checksum(source, destination, 17, datagram) || 0xffff;
}
