/**
 * Which addresses routers forward between, and which addresses ICMP errors may be about (RFC 1812 §5.3.7, §4.3.2.7, RFC
 * 4291 §2.5).
 */
import { isIp4, isZero, parseIp, sameBytes } from '../flow/types.ts';

const limitedBroadcast = parseIp('255.255.255.255');

/** Multicast or limited broadcast. */
export function isGroupIp(ip: Uint8Array): boolean {
  return isIp4(ip) ? ip[12]! >> 4 === 14 || sameBytes(ip, limitedBroadcast) : ip[0] === 0xff;
}

/** True unless it is unspecified, loopback, link-local, reserved or a group address. */
export function isRoutable(ip: Uint8Array): boolean {
  if (isZero(ip) || isGroupIp(ip)) return false;
  if (isIp4(ip)) {
    const [a, b] = [ip[12]!, ip[13]!];
    return a !== 0 && a !== 127 && a < 240 && !(a === 169 && b === 254);
  }
  const isLoopback = ip[15] === 1 && ip.subarray(0, 15).every((byte) => byte === 0);
  return !isLoopback && !(ip[0] === 0xfe && (ip[1]! & 0xc0) === 0x80);
}
