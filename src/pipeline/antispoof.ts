/**
 * Anti-spoofing: a workload speaks for its own addresses only, and only what is
 * understood. The rules of each EtherType, in packet order; each has its own drop
 * reason. Ports are read after protocols, so that the mask is no wider than the
 * protocol needs: of UDP only the destination port is used.
 */
import { ETH_TYPE_LENGTH } from '../flow/extract.ts';
import { isZero, parseIp, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { AccessPort } from '../table/topology.ts';
import { ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_RARP } from '../wire/ethernet.ts';
import { IP_ICMPV6, IP_UDP } from '../wire/ipv4.ts';
import { ND_NEIGHBOR_ADVERTISEMENT, ND_NEIGHBOR_SOLICITATION, ND_ROUTER_SOLICITATION } from '../wire/nd.ts';
import { etherTypeText } from './frame.ts';
import { refuseServer } from './server.ts';
import { drop, firstRefusal, type StageContext, type StageResult } from './stage.ts';
import { text, type Text } from './text.ts';

/** Its source MAC is the port's. */
export function checkSourceMac(view: FlowView, port: AccessPort): StageResult | undefined {
  const mac = view.bytes('eth_src');
  return sameBytes(mac, port.mac) ? undefined : drop('spoof_mac', text`source MAC ${mac} is not ${port.mac}`);
}

/** Why the frame, whose source MAC has been checked, is refused; undefined if it is honest. */
export function antispoof(view: FlowView, context: StageContext, port: AccessPort): StageResult | undefined {
  return firstRefusal(rulesOf(view.number('eth_type')), view, context, port);
}

type Rule = (view: FlowView, context: StageContext, port: AccessPort) => StageResult | undefined;

function rulesOf(type: number): readonly Rule[] {
  switch (type) {
    case ETH_ARP:
      return [checkArpSenderMac, checkArpSenderIp];
    case ETH_IPV4:
      return [checkSource4, refuseServer];
    case ETH_IPV6:
      return [checkSource6, refuseServer, checkNdTarget, checkNdMac];
    default:
      return [checkEtherType];
  }
}

/** Nothing is known of what is behind it, so nothing could be checked. */
function checkEtherType(view: FlowView, _context: StageContext, port: AccessPort): StageResult | undefined {
  const type = view.number('eth_type');
  if (port.allowedEtherTypes.includes(type)) return undefined;
  switch (type) {
    case ETH_TYPE_LENGTH:
      return drop('ethertype_llc', text`an 802.3 length in place of an EtherType`);
    case ETH_RARP:
      return drop('ethertype_rarp', text`RARP`);
    default:
      return drop('ethertype_refused', text`EtherType ${etherTypeText(type)} is not allowed to port ${port.name}`);
  }
}

/** It is the port's. */
function checkArpSenderMac(view: FlowView, _context: StageContext, port: AccessPort): StageResult | undefined {
  const mac = view.bytes('nd_lla');
  return sameBytes(mac, port.mac) ? undefined : drop('spoof_arp', text`ARP sender MAC ${mac} is not ${port.mac}`);
}

/** It is one of the port's, or 0.0.0.0: a probe (RFC 5227). */
function checkArpSenderIp(view: FlowView, context: StageContext, port: AccessPort): StageResult | undefined {
  const sender = view.bytes('ip_src');
  if (isUnspecified4(sender) || owns(context, port, sender)) return undefined;
  return drop('spoof_arp', text`ARP sender ${sender} is ${notOwned(port)}`);
}

/** It is one of the port's, or 0.0.0.0 towards a DHCP server (RFC 2131 §4.1). */
function checkSource4(view: FlowView, context: StageContext, port: AccessPort): StageResult | undefined {
  const source = view.bytes('ip_src');
  if (owns(context, port, source)) return undefined;
  const isDhcpClient =
    isUnspecified4(source) && view.number('ip_proto') === IP_UDP && view.number('l4_dst') === DHCP_SERVER;
  return isDhcpClient ? undefined : drop('spoof_ip4', text`source ${source} is ${notOwned(port)}`);
}

/**
 * It is one of the port's or its EUI-64 link-local one, or `::` where that is right:
 * duplicate address detection (RFC 4862 §5.4), asking for routers (RFC 4861 §4.1) and
 * multicast listener reports (RFC 3590).
 */
function checkSource6(view: FlowView, context: StageContext, port: AccessPort): StageResult | undefined {
  const source = view.bytes('ip_src');
  if (owns(context, port, source)) return undefined;
  if (isZero(source) && view.number('ip_proto') === IP_ICMPV6) {
    const type = view.number('l4_src');
    if (type === ND_NEIGHBOR_SOLICITATION || type === ND_ROUTER_SOLICITATION || listenerTypes.includes(type)) {
      return undefined;
    }
  }
  return drop('spoof_ip6', text`source ${source} is ${notOwned(port)}`);
}

/** An advertisement, and a detection of duplicates, is for an address of its own. */
function checkNdTarget(view: FlowView, context: StageContext, port: AccessPort): StageResult | undefined {
  if (view.number('ip_proto') !== IP_ICMPV6) return undefined;
  const type = view.number('l4_src');
  const isDetection = type === ND_NEIGHBOR_SOLICITATION && isZero(view.bytes('ip_src'));
  if (type !== ND_NEIGHBOR_ADVERTISEMENT && !isDetection) return undefined;
  const target = view.bytes('nd_target');
  return owns(context, port, target) ? undefined : drop('spoof_nd', text`target ${target} is ${notOwned(port)}`);
}

/** The link-layer option, if there is one, has its own MAC. */
function checkNdMac(view: FlowView, _context: StageContext, port: AccessPort): StageResult | undefined {
  if (view.number('ip_proto') !== IP_ICMPV6 || !hasLinkLayerOption.includes(view.number('l4_src'))) return undefined;
  const mac = view.bytes('nd_lla');
  if (isZero(mac) || sameBytes(mac, port.mac)) return undefined;
  return drop('spoof_nd', text`link-layer option ${mac} is not ${port.mac}`);
}

/** UDP port (RFC 2131 §4.1). */
const DHCP_SERVER = 67;
/** Multicast listener report and done, version 1 and 2 (RFC 2710, RFC 3810). */
const listenerTypes: readonly number[] = [131, 132, 143];
const hasLinkLayerOption: readonly number[] = [
  ND_ROUTER_SOLICITATION,
  ND_NEIGHBOR_SOLICITATION,
  ND_NEIGHBOR_ADVERTISEMENT,
];
const unspecified4 = parseIp('0.0.0.0');

function isUnspecified4(ip: Uint8Array): boolean {
  return sameBytes(ip, unspecified4);
}

function owns({ tables }: StageContext, port: AccessPort, ip: Uint8Array): boolean {
  return tables.topology.maySendFrom(port.portNo, ip);
}

function notOwned(port: AccessPort): Text {
  return text`not an address of port ${port.name} (${[...port.addresses, ...port.allowedAddresses]})`;
}
