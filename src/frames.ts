/**
 * Frames for simulations and tests, from addresses as text; every length and checksum is right unless the caller breaks it. What
 * is not given has a default.
 */
import { parseIp, parseMac, isIp4 } from './flow/types.ts';
import { ARP_REPLY, ARP_REQUEST, buildArp } from './wire/arp.ts';
import { buildEthernet, ETH_ARP, ETH_IPV4, ETH_IPV6, type VlanTag } from './wire/ethernet.ts';
import { buildEchoBody, buildIcmp4, buildIcmp6, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REQUEST } from './wire/icmp.ts';
import { buildIpv4, IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP, type Ipv4 } from './wire/ipv4.ts';
import { buildIpv6, type Ipv6 } from './wire/ipv6.ts';
import { buildTcp, buildUdp, type TcpFields } from './wire/l4.ts';
import {
  buildNeighborBody,
  ND_HOP_LIMIT,
  ND_NEIGHBOR_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  type NdOption,
} from './wire/nd.ts';

/** The addresses of a frame, and fields of its headers that are not as usual. */
export interface Ends {
  readonly srcMac?: string;
  readonly dstMac?: string;
  /** IPv4 or IPv6, both of the same family. */
  readonly src?: string;
  readonly dst?: string;
  readonly vlan?: VlanTag;
  readonly ip4?: Partial<Ipv4>;
  readonly ip6?: Partial<Ipv6>;
}

const defaults = {
  srcMac: '02:00:00:00:00:01',
  dstMac: '02:00:00:00:00:02',
  src: '10.0.0.1',
  dst: '10.0.0.2',
};

const parsedIps = new Map<string, Uint8Array>();

/** The form on the wire: 4 bytes for IPv4, 16 for IPv6. */
export function wireIp(text: string): Uint8Array {
  let ip = parsedIps.get(text);
  if (!ip) {
    // Parsing text costs more than everything else about a frame, and many are made.
    ip = parseIp(text);
    if (isIp4(ip)) ip = ip.slice(12);
    parsedIps.set(text, ip);
  }
  return ip;
}

/** @param type the EtherType */
export function ethernet(ends: Ends, type: number, payload: Uint8Array): Uint8Array {
  const { srcMac, dstMac, vlan } = { ...defaults, ...ends };
  const header = { destination: parseMac(dstMac), source: parseMac(srcMac), type, payload };
  return buildEthernet(vlan ? { ...header, vlan } : header);
}

/** An IP packet of either family in a frame. */
export function ip(ends: Ends, protocol: number, payload: Uint8Array): Uint8Array {
  const [source, destination] = addresses(ends);
  if (source.length === 4) {
    return ethernet(ends, ETH_IPV4, buildIpv4({ source, destination, protocol, payload, ...ends.ip4 }));
  }
  return ethernet(ends, ETH_IPV6, buildIpv6({ source, destination, nextHeader: protocol, payload, ...ends.ip6 }));
}

/** A segment; `fields` are its ports, flags, numbers and payload. */
export function tcp(ends: Ends, fields: TcpFields): Uint8Array {
  return ip(ends, IP_TCP, buildTcp(...addresses(ends), fields));
}

export function udp(
  ends: Ends,
  sourcePort: number,
  destinationPort: number,
  payload: Uint8Array = new Uint8Array(),
): Uint8Array {
  return ip(ends, IP_UDP, buildUdp(...addresses(ends), { sourcePort, destinationPort, payload }));
}

/** An echo request. */
export function echo(
  ends: Ends,
  identifier: number,
  sequence: number,
  data: Uint8Array = new Uint8Array(),
): Uint8Array {
  const [source, destination] = addresses(ends);
  const body = buildEchoBody(identifier, sequence, data);
  if (source.length === 4) return ip(ends, IP_ICMP, buildIcmp4({ type: ICMP_ECHO_REQUEST, code: 0, body }));
  return ip(ends, IP_ICMPV6, buildIcmp6(source, destination, { type: ICMPV6_ECHO_REQUEST, code: 0, body }));
}

/** From `src` to everybody, about `dst`. */
export function arpRequest(ends: Ends): Uint8Array {
  return arp({ dstMac: 'ff:ff:ff:ff:ff:ff', ...ends }, ARP_REQUEST);
}

export function arpReply(ends: Ends): Uint8Array {
  return arp(ends, ARP_REPLY);
}

function arp(ends: Ends, operation: number): Uint8Array {
  const [senderIp, targetIp] = addresses(ends);
  const { srcMac, dstMac } = { ...defaults, ...ends };
  const targetMac = operation === ARP_REQUEST ? new Uint8Array(6) : parseMac(dstMac);
  return ethernet(ends, ETH_ARP, buildArp({ operation, senderMac: parseMac(srcMac), senderIp, targetMac, targetIp }));
}

/** Of a message of neighbor discovery (RFC 4861). */
export interface NeighborEnds extends Ends {
  readonly target: string;
  readonly options?: readonly NdOption[];
  readonly flags?: number;
}

export function solicitation(ends: NeighborEnds): Uint8Array {
  return neighbor(ends, ND_NEIGHBOR_SOLICITATION);
}

export function advertisement(ends: NeighborEnds): Uint8Array {
  return neighbor(ends, ND_NEIGHBOR_ADVERTISEMENT);
}

function neighbor(ends: NeighborEnds, type: number): Uint8Array {
  const body = buildNeighborBody({ flags: ends.flags ?? 0, target: parseIp(ends.target), options: ends.options ?? [] });
  const message = buildIcmp6(...addresses(ends), { type, code: 0, body });
  return ip({ ...ends, ip6: { hopLimit: ND_HOP_LIMIT, ...ends.ip6 } }, IP_ICMPV6, message);
}

function addresses(ends: Ends): [Uint8Array, Uint8Array] {
  return [wireIp(ends.src ?? defaults.src), wireIp(ends.dst ?? defaults.dst)];
}
