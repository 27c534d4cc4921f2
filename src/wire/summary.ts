/**
 * A frame as one line for people, in the manner of tcpdump:
 * `IP 10.0.0.1.1234 > 10.0.0.2.80: tcp S, length 0`. A frame that cannot be parsed is
 * shown as far as possible, never refused.
 */
import { ARP_REPLY, ARP_REQUEST, parseArp } from './arp.ts';
import { getU16 } from './bytes.ts';
import { ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_TYPE_MIN, parseEthernet } from './ethernet.ts';
import {
  ICMP_ECHO_REPLY,
  ICMP_ECHO_REQUEST,
  ICMPV6_ECHO_REPLY,
  ICMPV6_ECHO_REQUEST,
  parseEcho,
  parseIcmp,
} from './icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_SCTP, IP_TCP, IP_UDP, parseIpv4 } from './ipv4.ts';
import { EXT_FRAGMENT, parseIpv6 } from './ipv6.ts';
import { parseTcp, parseUdp } from './l4.ts';
import {
  ND_NEIGHBOR_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  ND_REDIRECT,
  ND_ROUTER_ADVERTISEMENT,
  ND_ROUTER_SOLICITATION,
  parseNeighbor,
} from './nd.ts';

/** One line. `lengthBytes` is the length of the whole frame when `frame` holds only its beginning. */
export function summary(frame: Uint8Array, lengthBytes = frame.length): string {
  const ethernet = parseEthernet(lengthBytes > frame.length ? extended(frame, lengthBytes) : frame);
  if (!ethernet) return `truncated frame, length ${lengthBytes}`;
  const tag = ethernet.vlan ? `vlan ${ethernet.vlan.tci & 0xfff}, ` : '';
  return (
    tag +
    network(
      ethernet.type,
      ethernet.payload,
      `${macText(ethernet.source)} > ${macText(ethernet.destination)}`,
      lengthBytes,
    )
  );
}

/** Filled with zeros for the bytes that were not captured, so that lengths fit. */
function extended(frame: Uint8Array, lengthBytes: number): Uint8Array {
  const whole = new Uint8Array(lengthBytes);
  whole.set(frame);
  return whole;
}

function network(type: number, payload: Uint8Array, macs: string, lengthBytes: number): string {
  if (type === ETH_ARP) return arp(payload);
  if (type === ETH_IPV4) return ipv4(payload);
  if (type === ETH_IPV6) return ipv6(payload);
  if (type < ETH_TYPE_MIN) return `802.3 ${macs}, length ${lengthBytes}`;
  return `${macs}, ethertype 0x${type.toString(16).padStart(4, '0')}, length ${lengthBytes}`;
}

function arp(payload: Uint8Array): string {
  const packet = parseArp(payload);
  if (!packet) return 'ARP malformed';
  const sender = ipText(packet.senderIp);
  if (packet.operation === ARP_REQUEST) return `ARP who-has ${ipText(packet.targetIp)} tell ${sender}`;
  if (packet.operation === ARP_REPLY) return `ARP ${sender} is-at ${macText(packet.senderMac)}`;
  return `ARP operation ${packet.operation}, from ${sender}`;
}

function ipv4(bytes: Uint8Array): string {
  const packet = parseIpv4(bytes);
  if (!packet) return 'IP malformed';
  const { source, destination, protocol, payload, fragmentOffset } = packet;
  if (fragmentOffset !== 0) {
    return `IP ${ipText(source)} > ${ipText(destination)}: fragment of ${protocolText(protocol)} at ${fragmentOffset}`;
  }
  return (
    transport('IP', ipText(source), ipText(destination), protocol, payload) +
    (packet.moreFragments ? ', first fragment' : '')
  );
}

function ipv6(bytes: Uint8Array): string {
  const packet = parseIpv6(bytes);
  if (!packet) return 'IP6 malformed';
  const source = ipText(packet.source);
  const destination = ipText(packet.destination);
  let { nextHeader, payload } = packet;
  // Skips only headers of the common form and fragment headers. The line names the header where this
  // stops.
  for (let walked = 0; walked < 8 && payload.length >= 8; walked++) {
    if (nextHeader === EXT_FRAGMENT) {
      const offset = getU16(payload, 2) & 0xfff8;
      if (offset !== 0) return `IP6 ${source} > ${destination}: fragment of ${protocolText(payload[0]!)} at ${offset}`;
      nextHeader = payload[0]!;
      payload = payload.subarray(8);
    } else if (nextHeader === 0 || nextHeader === 43 || nextHeader === 60) {
      nextHeader = payload[0]!;
      payload = payload.subarray((payload[1]! + 1) * 8);
    } else break;
  }
  return transport('IP6', source, destination, nextHeader, payload);
}

function transport(family: string, source: string, destination: string, protocol: number, bytes: Uint8Array): string {
  const hosts = `${family} ${source} > ${destination}: `;
  if (protocol === IP_TCP) {
    const tcp = parseTcp(bytes);
    if (!tcp) return `${hosts}tcp truncated`;
    const ports = `${family} ${source}.${tcp.sourcePort} > ${destination}.${tcp.destinationPort}: `;
    return `${ports}tcp ${flagsText(tcp.flags)}, length ${tcp.payload.length}`;
  }
  if (protocol === IP_UDP) {
    if (bytes.length < 8) return `${hosts}udp truncated`;
    const ports = `${family} ${source}.${getU16(bytes, 0)} > ${destination}.${getU16(bytes, 2)}: `;
    return `${ports}udp, length ${parseUdp(bytes)?.payload.length ?? bytes.length - 8}`;
  }
  if (family === 'IP' && protocol === IP_ICMP) return hosts + icmp(bytes, false);
  if (family === 'IP6' && protocol === IP_ICMPV6) return hosts + icmp(bytes, true);
  return `${hosts}${protocolText(protocol)}, length ${bytes.length}`;
}

function icmp(bytes: Uint8Array, v6: boolean): string {
  const name = v6 ? 'icmp6' : 'icmp';
  const message = parseIcmp(bytes);
  if (!message) return `${name} truncated`;
  const echo = parseEcho(bytes);
  const [request, reply] = v6 ? [ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY] : [ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY];
  if (echo && (echo.type === request || echo.type === reply)) {
    const which = echo.type === request ? 'request' : 'reply';
    return `${name} echo ${which}, id ${echo.identifier}, seq ${echo.sequence}, length ${bytes.length}`;
  }
  const neighbor = v6 ? parseNeighbor(bytes) : undefined;
  if (neighbor?.type === ND_NEIGHBOR_SOLICITATION)
    return `${name} neighbor solicitation, who has ${ipText(neighbor.target)}`;
  if (neighbor) return `${name} neighbor advertisement, target ${ipText(neighbor.target)}`;
  return `${name} ${(v6 && ndNames[message.type]) || `type ${message.type} code ${message.code}`}, length ${bytes.length}`;
}

const ndNames: Record<number, string> = {
  [ND_ROUTER_SOLICITATION]: 'router solicitation',
  [ND_ROUTER_ADVERTISEMENT]: 'router advertisement',
  [ND_NEIGHBOR_SOLICITATION]: 'neighbor solicitation malformed',
  [ND_NEIGHBOR_ADVERTISEMENT]: 'neighbor advertisement malformed',
  [ND_REDIRECT]: 'redirect',
};

const protocolNames: Record<number, string> = {
  [IP_ICMP]: 'icmp',
  [IP_TCP]: 'tcp',
  [IP_UDP]: 'udp',
  [IP_ICMPV6]: 'icmp6',
  [IP_SCTP]: 'sctp',
};

function protocolText(protocol: number): string {
  return protocolNames[protocol] ?? `proto ${protocol}`;
}

function flagsText(flags: number): string {
  const letters = ['F', 'S', 'R', 'P', '.', 'U'].filter((_, bit) => (flags >> bit) & 1);
  return letters.join('') || 'none';
}

function macText(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** 4 bytes dotted; 16 bytes by RFC 5952, where the longest run of two or more zero groups becomes `::`. */
function ipText(ip: Uint8Array): string {
  if (ip.length === 4) return ip.join('.');
  const groups = Array.from({ length: 8 }, (_, index) => getU16(ip, index * 2));
  let best = { at: 0, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (groups[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
  }
  const text = (part: number[]) => part.map((group) => group.toString(16)).join(':');
  if (best.length < 2) return text(groups);
  return `${text(groups.slice(0, best.at))}::${text(groups.slice(best.at + best.length))}`;
}
