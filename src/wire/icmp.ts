/** ICMP echo for IPv4 (RFC 792) and IPv6 (RFC 4443 §4). */
import { concat, getU16, setU16 } from './bytes.ts';
import { checksum, l4Checksum } from './checksum.ts';
import { IP_ICMPV6 } from './ipv4.ts';

export const ICMP_ECHO_REPLY = 0;
export const ICMP_ECHO_REQUEST = 8;
/** RFC 1256 */
export const ICMP_ROUTER_ADVERTISEMENT = 9;
export const ICMPV6_ECHO_REQUEST = 128;
export const ICMPV6_ECHO_REPLY = 129;

export interface Icmp {
  readonly type: number;
  readonly code: number;
  /** Everything after the checksum. */
  readonly body: Uint8Array;
}

export interface Echo {
  /** ICMP_ECHO_… or ICMPV6_ECHO_…, depending on the address family. */
  readonly type: number;
  readonly identifier: number;
  readonly sequence: number;
  readonly data: Uint8Array;
}

/** Undefined when it is shorter than type, code and checksum. The result is a view of `message`. */
export function parseIcmp(message: Uint8Array): Icmp | undefined {
  if (message.length < 4) return undefined;
  return { type: message[0]!, code: message[1]!, body: message.subarray(4) };
}

/** Undefined when it is not an echo message of either family. */
export function parseEcho(message: Uint8Array): Echo | undefined {
  const icmp = parseIcmp(message);
  if (!icmp || icmp.code !== 0 || icmp.body.length < 4) return undefined;
  const echoes: number[] = [ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST];
  if (!echoes.includes(icmp.type)) return undefined;
  const { type, body } = icmp;
  return { type, identifier: getU16(body, 0), sequence: getU16(body, 2), data: body.subarray(4) };
}

/** The body of an echo message, for `buildIcmp4` and `buildIcmp6`. */
export function buildEchoBody(identifier: number, sequence: number, data: Uint8Array): Uint8Array {
  const head = new Uint8Array(4);
  setU16(head, 0, identifier);
  setU16(head, 2, sequence);
  return concat(head, data);
}

/** A new ICMPv4 message with its checksum. */
export function buildIcmp4(icmp: Icmp): Uint8Array {
  const message = concat(Uint8Array.of(icmp.type, icmp.code, 0, 0), icmp.body);
  setU16(message, 2, checksum(message));
  return message;
}

/** A new ICMPv6 message; its checksum covers the pseudo header (RFC 4443 §2.3). */
export function buildIcmp6(source: Uint8Array, destination: Uint8Array, icmp: Icmp): Uint8Array {
  const message = concat(Uint8Array.of(icmp.type, icmp.code, 0, 0), icmp.body);
  setU16(message, 2, l4Checksum(source, destination, IP_ICMPV6, message));
  return message;
}
