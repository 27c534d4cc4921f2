/**
 * Anti-spoofing: a workload speaks for its own addresses only.
 *
 * 1. The source MAC is the port's.
 * 2. ARP: the sender is the port's MAC with one of its addresses, or 0.0.0.0 (a
 *    probe, RFC 5227).
 * 3. IPv4: the source is one of its addresses, or 0.0.0.0 towards a DHCP server.
 * 4. IPv6: the source is one of its addresses or its EUI-64 link-local one, or
 *    `::` where that is right: duplicate address detection (RFC 4862 §5.4) and
 *    multicast listener reports (RFC 3590).
 * 5. Neighbor discovery: an advertisement, and a detection, is for its own
 *    address, and the link-layer option is its own MAC.
 * 6. It is no router and no DHCP server.
 *
 * Each has its own drop reason. Ports are read before protocols where that
 * keeps the mask narrow: of UDP only the destination port is used.
 */
import { isZero, parseIp, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { AccessPort } from '../table/topology.ts';
import { ETH_ARP, ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { IP_ICMPV6, IP_UDP } from '../wire/ipv4.ts';
import {
  ND_NEIGHBOR_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  ND_REDIRECT,
  ND_ROUTER_ADVERTISEMENT,
  ND_ROUTER_SOLICITATION,
} from '../wire/nd.ts';
import { drop, type StageContext, type StageResult } from './stage.ts';
import { text, type Text } from './text.ts';

/** UDP ports (RFC 2131 §4.1, RFC 8415 §7.2). */
const DHCP_SERVER = 67;
const DHCP_CLIENT = 68;
const DHCPV6_CLIENT = 546;
/** Multicast listener report and done, version 1 and 2 (RFC 2710, RFC 3810). */
const listenerTypes: readonly number[] = [131, 132, 143];

/** Why the frame is refused; undefined if it is honest. */
export function antispoof(view: FlowView, context: StageContext, port: AccessPort): StageResult | undefined {
  const mac = view.bytes('eth_src');
  if (!sameBytes(mac, port.mac)) {
    return drop('spoof_mac', text`source MAC ${mac} is not ${port.mac}`);
  }
  switch (view.number('eth_type')) {
    case ETH_ARP:
      return checkArp(view, context, port);
    case ETH_IPV4:
      return checkIp4(view, context, port);
    case ETH_IPV6:
      return checkIp6(view, context, port);
    default:
      return undefined;
  }
}

function checkArp(view: FlowView, context: StageContext, port: AccessPort): StageResult | undefined {
  const senderMac = view.bytes('nd_lla');
  if (!sameBytes(senderMac, port.mac)) {
    return drop('spoof_arp', text`ARP sender MAC ${senderMac} is not ${port.mac}`);
  }
  const sender = view.bytes('ip_src');
  if (isUnspecified4(sender) || context.tables.topology.maySendFrom(port.portNo, sender)) return undefined;
  return drop('spoof_arp', text`ARP sender ${sender} is ${notOwned(port)}`);
}

function checkIp4(view: FlowView, context: StageContext, port: AccessPort): StageResult | undefined {
  const source = view.bytes('ip_src');
  const isUdp = view.number('ip_proto') === IP_UDP;
  const owned = context.tables.topology.maySendFrom(port.portNo, source);
  if (!owned) {
    const isDhcpClient = isUnspecified4(source) && isUdp && view.number('l4_dst') === DHCP_SERVER;
    return isDhcpClient ? undefined : drop('spoof_ip4', text`source ${source} is ${notOwned(port)}`);
  }
  if (isUdp && view.number('l4_dst') === DHCP_CLIENT)
    return drop('rogue_dhcp', text`a DHCP server message (UDP to port 68)`);
  return undefined;
}

function checkIp6(view: FlowView, context: StageContext, port: AccessPort): StageResult | undefined {
  const source = view.bytes('ip_src');
  const proto = view.number('ip_proto');
  if (proto === IP_ICMPV6) return checkIcmp6(view, context, port, source);
  if (!context.tables.topology.maySendFrom(port.portNo, source)) {
    return drop('spoof_ip6', text`source ${source} is ${notOwned(port)}`);
  }
  if (proto === IP_UDP && view.number('l4_dst') === DHCPV6_CLIENT) {
    return drop('rogue_dhcp', text`a DHCPv6 server message (UDP to port 546)`);
  }
  return undefined;
}

function checkIcmp6(
  view: FlowView,
  context: StageContext,
  port: AccessPort,
  source: Uint8Array,
): StageResult | undefined {
  const { topology } = context.tables;
  const type = view.number('l4_src');
  const isUnspecified = isZero(source);
  const isDetection = isUnspecified && type === ND_NEIGHBOR_SOLICITATION;
  const mayBeUnspecified = isDetection || type === ND_ROUTER_SOLICITATION || listenerTypes.includes(type);
  if (!(isUnspecified && mayBeUnspecified) && !topology.maySendFrom(port.portNo, source)) {
    return drop('spoof_ip6', text`source ${source} is ${notOwned(port)}`);
  }
  if (type === ND_ROUTER_ADVERTISEMENT || type === ND_REDIRECT) {
    return drop('rogue_ra', type === ND_REDIRECT ? text`an ICMPv6 redirect` : text`a router advertisement`);
  }
  if (type !== ND_NEIGHBOR_SOLICITATION && type !== ND_NEIGHBOR_ADVERTISEMENT) return undefined;

  const target = view.bytes('nd_target');
  const speaksFor = isDetection || type === ND_NEIGHBOR_ADVERTISEMENT;
  if (speaksFor && !topology.maySendFrom(port.portNo, target)) {
    return drop('spoof_nd', text`target ${target} is ${notOwned(port)}`);
  }
  const lla = view.bytes('nd_lla');
  if (!isZero(lla) && !sameBytes(lla, port.mac)) {
    return drop('spoof_nd', text`link-layer option ${lla} is not ${port.mac}`);
  }
  return undefined;
}

const unspecified4 = parseIp('0.0.0.0');

function isUnspecified4(ip: Uint8Array): boolean {
  return sameBytes(ip, unspecified4);
}

function notOwned(port: AccessPort): Text {
  return text`not an address of port ${port.name} (${[...port.addresses, ...port.allowedAddresses]})`;
}
