/**
 * ICMP errors (RFC 792, RFC 4443 §3): which ones exist, for which packets none may be sent, and the
 * frame that carries one.
 */
import { concat, setU32 } from './bytes.ts';
import { buildEthernet, ETH_HEADER_BYTES, ETH_IPV4, ETH_IPV6 } from './ethernet.ts';
import { buildIcmp4, buildIcmp6 } from './icmp.ts';
import { buildIpv4, IP_ICMP, IP_ICMPV6 } from './ipv4.ts';
import { buildIpv6 } from './ipv6.ts';
import { ND_REDIRECT } from './nd.ts';

/** [ICMPv4 type, code, ICMPv6 type, code] */
const codes = {
  time_exceeded: [11, 0, 3, 0],
  net_unreachable: [3, 0, 1, 0],
  host_unreachable: [3, 1, 1, 3],
  port_unreachable: [3, 3, 1, 4],
  prohibited: [3, 13, 1, 1],
  /** Fragmentation needed (RFC 1191), packet too big (RFC 4443 §3.2). */
  too_big: [3, 4, 2, 0],
} as const;

export type IcmpErrorName = keyof typeof codes;

/** Bytes of the packet to quote: as many as keep the error within 576 bytes (RFC 1812 §4.3.2.3), or 1280. */
const QUOTED_BYTES_4 = 576 - 28;
const QUOTED_BYTES_6 = 1280 - 48;
/** Internetwork control (RFC 1812 §4.3.2.5). */
const TOS_CONTROL = 0xc0;

export const ICMP_SOURCE_QUENCH = 4;
export const ICMP_REDIRECT = 5;

/** Is it the type of an ICMP error? */
export function isIcmpError(protocol: number, type: number): boolean {
  if (protocol === IP_ICMPV6) return type < 128;
  return protocol === IP_ICMP && [3, ICMP_SOURCE_QUENCH, ICMP_REDIRECT, 11, 12].includes(type);
}

/** Does such an error say that its packet will not arrive, whatever its sender changes about it? */
export function isUnreachable(protocol: number, type: number, code: number): boolean {
  const [time4, , time6] = codes.time_exceeded;
  const [unreachable4, , unreachable6] = codes.host_unreachable;
  if (protocol === IP_ICMPV6) return type === unreachable6 || type === time6;
  return type === time4 || (type === unreachable4 && code !== codes.too_big[1]);
}

/** May no ICMP error be sent about it? It is an ICMP error, or a redirect (RFC 1122 §3.2.2, RFC 4443 §2.4 e). */
export function isNeverReported(protocol: number, type: number): boolean {
  return isIcmpError(protocol, type) || (protocol === IP_ICMPV6 && type === ND_REDIRECT);
}

/**
 * The whole frame.
 * @param refused the frame that the error is about, perhaps cut short; untagged IPv4 or IPv6
 * @param from MAC and address (16 bytes) of the router that refuses it
 * @param mtu for `too_big`: the largest packet that would have passed, in bytes
 */
export function buildIcmpError(
  name: IcmpErrorName,
  refused: Uint8Array,
  from: { readonly mac: Uint8Array; readonly ip: Uint8Array },
  mtu = 0,
): Uint8Array {
  const [type4, code4, type6, code6] = codes[name];
  const packet = refused.subarray(ETH_HEADER_BYTES);
  const frame = { destination: refused.subarray(6, 12), source: from.mac };
  const rest = new Uint8Array(4);
  setU32(rest, 0, mtu);
  if (packet[0]! >>> 4 === 4) {
    const body = concat(rest, packet.subarray(0, QUOTED_BYTES_4));
    const payload = buildIpv4({
      source: from.ip.subarray(12),
      destination: packet.subarray(12, 16),
      protocol: IP_ICMP,
      tos: TOS_CONTROL,
      payload: buildIcmp4({ type: type4, code: code4, body }),
    });
    return buildEthernet({ ...frame, type: ETH_IPV4, payload });
  }
  const destination = packet.subarray(8, 24);
  const body = concat(rest, packet.subarray(0, QUOTED_BYTES_6));
  const payload = buildIpv6({
    source: from.ip,
    destination,
    nextHeader: IP_ICMPV6,
    payload: buildIcmp6(from.ip, destination, { type: type6, code: code6, body }),
  });
  return buildEthernet({ ...frame, type: ETH_IPV6, payload });
}
