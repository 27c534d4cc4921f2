/** Which addresses routers forward between (RFC 1812 §5.3.7, RFC 4291 §2.5). */
import { isGroupIp, isIp4, isZero } from '../flow/types.ts';

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
