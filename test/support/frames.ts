/** Frames for tests, from text addresses; every length and checksum is right unless the caller breaks it. */
import { parseIp, parseMac, isIp4 } from '../../src/flow/types.ts';
import { ARP_REPLY, ARP_REQUEST, buildArp } from '../../src/wire/arp.ts';
import { setU16 } from '../../src/wire/bytes.ts';
import { pseudoSum } from '../../src/wire/checksum.ts';
import { buildEthernet, ETH_ARP, ETH_IPV4, ETH_IPV6, parseEthernet, type VlanTag } from '../../src/wire/ethernet.ts';
import { buildEchoBody, buildIcmp4, buildIcmp6, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REQUEST } from '../../src/wire/icmp.ts';
import { buildIpv4, IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP, parseIpv4, type Ipv4 } from '../../src/wire/ipv4.ts';
import { buildIpv6, parseIpv6, type Ipv6 } from '../../src/wire/ipv6.ts';
import { buildTcp, buildUdp, type TcpFields } from '../../src/wire/l4.ts';
import {
  buildNeighborBody,
  ND_HOP_LIMIT,
  ND_NEIGHBOR_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  type NdOption,
} from '../../src/wire/nd.ts';

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
    // Parsing text costs more than everything else about a frame, and random tests make many.
    ip = parseIp(text);
    if (isIp4(ip)) ip = ip.slice(12);
    parsedIps.set(text, ip);
  }
  return ip;
}

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

/**
 * TCP or UDP as it leaves a host whose network card computes checksums: the checksum field holds
 * the sum of the pseudo header. Any other frame is returned unchanged.
 */
export function unfinished(frame: Uint8Array): Uint8Array {
  const ethernetFrame = parseEthernet(frame);
  if (!ethernetFrame || ethernetFrame.vlan) return frame;
  const packet = ethernetFrame.type === ETH_IPV4 ? parseIpv4(ethernetFrame.payload) : undefined;
  const packet6 = ethernetFrame.type === ETH_IPV6 ? parseIpv6(ethernetFrame.payload) : undefined;
  const protocol = packet?.protocol ?? packet6?.nextHeader;
  const { source, destination, payload } = packet ?? packet6 ?? {};
  if (!source || !destination || !payload || (protocol !== IP_TCP && protocol !== IP_UDP)) return frame;
  const field = payload.byteOffset - frame.byteOffset + (protocol === IP_TCP ? 16 : 6);
  if (field + 2 > frame.length) return frame;
  const copy = frame.slice();
  setU16(copy, field, pseudoSum(source, destination, protocol, payload.length));
  return copy;
}
