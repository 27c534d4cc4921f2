/** The packet that an ICMP error quotes: which conversation the error is about (RFC 792, RFC 4443 §3). */
import { getU16 } from '../wire/bytes.ts';
import { hasPorts, IP_ICMP, IP_ICMPV6, IPV4_HEADER_BYTES } from '../wire/ipv4.ts';
import { EXT_FRAGMENT, IPV6_HEADER_BYTES } from '../wire/ipv6.ts';
import type { Tuple } from './connection.ts';
import { isIp4 } from './types.ts';

const FRAGMENT_HEADER_BYTES = 8;
/** Bytes of the quoted packet that must be present after its IP header (RFC 792). */
const L4_BYTES = 8;

export interface Quoted {
  readonly protocol: number;
  /** Addresses are 16 bytes. */
  readonly tuple: Tuple;
  /** Length of its IP header, including the Fragment header of a first fragment. */
  readonly headerBytes: number;
}

/**
 * @param packet from its IP header on, perhaps cut short
 * @returns its ports are its identifier if it is an echo, and 0 if its protocol has none; undefined if these cannot be read:
 * ICMP of the other family, later fragments, IPv6 with extension headers other than the fragment header of a first fragment,
 * and packets that are cut too short
 */
export function readQuoted(packet: Uint8Array, v4: boolean): Quoted | undefined {
  if (packet.length < (v4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES)) return undefined;
  if (packet[0]! >>> 4 !== (v4 ? 4 : 6)) return undefined;
  // IPv6 packets are fragmented by their sender, so a first fragment may be quoted.
  const hasFragmentHeader = !v4 && packet[6] === EXT_FRAGMENT;
  const fragmentBytes = hasFragmentHeader ? FRAGMENT_HEADER_BYTES : 0;
  const headerBytes = v4 ? (packet[0]! & 15) * 4 : IPV6_HEADER_BYTES + fragmentBytes;
  if (headerBytes < IPV4_HEADER_BYTES || packet.length < headerBytes + L4_BYTES) return undefined;
  if (v4 && (getU16(packet, 6) & 0x1fff) !== 0) return undefined;
  if (hasFragmentHeader && (getU16(packet, IPV6_HEADER_BYTES + 2) & 0xfff8) !== 0) return undefined;
  const protocol = packet[v4 ? 9 : hasFragmentHeader ? IPV6_HEADER_BYTES : 6]!;
  if (protocol === (v4 ? IP_ICMPV6 : IP_ICMP)) return undefined;
  const [sourcePort, destinationPort] = portsOf(packet.subarray(headerBytes), protocol);
  const [source, destination] = v4
    ? [mapped(packet.subarray(12, 16)), mapped(packet.subarray(16, 20))]
    : [packet.slice(8, 24), packet.slice(24, 40)];
  // An IPv4-mapped address in an IPv6 packet would be taken for IPv4.
  if (!v4 && (isIp4(source) || isIp4(destination))) return undefined;
  return { protocol, tuple: { source, destination, sourcePort, destinationPort }, headerBytes };
}

function portsOf(l4: Uint8Array, protocol: number): readonly [source: number, destination: number] {
  if (hasPorts(protocol)) return [getU16(l4, 0), getU16(l4, 2)];
  const identifier = protocol === IP_ICMP || protocol === IP_ICMPV6 ? getU16(l4, 4) : 0;
  return [identifier, identifier];
}

function mapped(ip4: Uint8Array): Uint8Array {
  const ip = new Uint8Array(16);
  ip.fill(0xff, 10, 12);
  ip.set(ip4, 12);
  return ip;
}
