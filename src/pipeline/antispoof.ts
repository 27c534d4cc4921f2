/**
 * Anti-spoofing: a workload may use its own addresses only, and only protocols that are understood. The
 * rules of each EtherType follow in packet order. Each has its own drop reason, and uses only as much of
 * a wrong address as distinguishes it from the right ones. Ports are read after protocols, so that the
 * mask is no wider than the protocol needs: of UDP only the destination port is used.
 */
import { ETH_TYPE_LENGTH } from '../flow/extract.ts';
import { isZero, parseIp } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { AccessPort } from '../table/topology.ts';
import { ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_RARP } from '../wire/ethernet.ts';
import { IP_ICMPV6, IP_UDP } from '../wire/ipv4.ts';
import { ND_NEIGHBOR_ADVERTISEMENT, ND_NEIGHBOR_SOLICITATION, ND_ROUTER_SOLICITATION } from '../wire/nd.ts';
import { etherTypeBytes, etherTypeText } from './frame.ts';
import { refuseServer } from './server.ts';
import { drop, firstRefusal, type Drop, type Tables } from './stage.ts';
import { text, type Text } from './text.ts';

/** Its source MAC must be the port's. */
export function checkSourceMac(view: FlowView, port: AccessPort): Drop | undefined {
  if (view.isOneOf('eth_src', [port.mac])) return undefined;
  return drop('spoof_mac', text`source MAC ${view.used('eth_src')} is not ${port.mac}`);
}

/** Why the frame, whose source MAC has been checked, is refused; undefined if it is honest. */
export function antispoof(view: FlowView, tables: Tables, port: AccessPort): Drop | undefined {
  const types =
    port.allowedEtherTypes.length === 0 ? always : [...always, ...port.allowedEtherTypes.map(etherTypeBytes)];
  // Nothing is known about the contents of other types, so nothing could be checked.
  if (!view.isOneOf('eth_type', types)) return refuseEtherType(view, port);
  return firstRefusal(rulesOf(view.number('eth_type')), view, tables, port);
}

type Rule = (view: FlowView, tables: Tables, port: AccessPort) => Drop | undefined;

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

/** EtherTypes whose contents are checked, and those that are refused for a reason of their own. */
const understood: readonly number[] = [ETH_ARP, ETH_IPV4, ETH_IPV6];
const named: readonly number[] = [ETH_TYPE_LENGTH, ETH_RARP];
const always = [...understood, ...named].map(etherTypeBytes);

function refuseEtherType(view: FlowView, port: AccessPort): Drop {
  const type = view.used('eth_type');
  const shown = typeof type === 'number' ? etherTypeText(type) : type;
  return drop('ethertype_refused', text`EtherType ${shown} is not allowed to port ${port.name}`);
}

function checkEtherType(view: FlowView, _tables: Tables, port: AccessPort): Drop | undefined {
  const type = view.number('eth_type');
  if (port.allowedEtherTypes.includes(type)) return undefined;
  switch (type) {
    case ETH_TYPE_LENGTH:
      return drop('ethertype_llc', text`an 802.3 length in place of an EtherType`);
    case ETH_RARP:
      return drop('ethertype_rarp', text`RARP`);
    default:
      return refuseEtherType(view, port);
  }
}

/** It must be the port's. */
function checkArpSenderMac(view: FlowView, _tables: Tables, port: AccessPort): Drop | undefined {
  if (view.isOneOf('nd_lla', [port.mac])) return undefined;
  return drop('spoof_arp', text`ARP sender MAC ${view.used('nd_lla')} is not ${port.mac}`);
}

/** It must be one of the port's, or 0.0.0.0: a probe (RFC 5227). */
function checkArpSenderIp(view: FlowView, tables: Tables, port: AccessPort): Drop | undefined {
  if (view.isOneOf('ip_src', [...ownOf(tables, port), unspecified4])) return undefined;
  return drop('spoof_arp', text`ARP sender ${view.used('ip_src')} is ${notOwned(port)}`);
}

/** It must be one of the port's, or 0.0.0.0 towards a DHCP server (RFC 2131 §4.1). */
function checkSource4(view: FlowView, tables: Tables, port: AccessPort): Drop | undefined {
  const own = ownOf(tables, port);
  const mayBe = view.isOneOf('ip_src', [...own, unspecified4]);
  if (mayBe && view.isOneOf('ip_src', own)) return undefined;
  if (mayBe && view.number('ip_proto') === IP_UDP && view.number('l4_dst') === DHCP_SERVER) return undefined;
  return drop('spoof_ip4', text`source ${view.used('ip_src')} is ${notOwned(port)}`);
}

/**
 * It must be one of the port's or its EUI-64 link-local address, or `::` where that is right: duplicate
 * address detection (RFC 4862 §5.4), router solicitations (RFC 4861 §4.1) and multicast listener reports
 * (RFC 3590).
 */
function checkSource6(view: FlowView, tables: Tables, port: AccessPort): Drop | undefined {
  const own = ownOf(tables, port);
  const mayBe = view.isOneOf('ip_src', [...own, unspecified6]);
  if (mayBe && view.isOneOf('ip_src', own)) return undefined;
  if (mayBe && view.number('ip_proto') === IP_ICMPV6) {
    const type = view.number('l4_src');
    if (type === ND_NEIGHBOR_SOLICITATION || type === ND_ROUTER_SOLICITATION || listenerTypes.includes(type)) {
      return undefined;
    }
  }
  return drop('spoof_ip6', text`source ${view.used('ip_src')} is ${notOwned(port)}`);
}

/** The target of an advertisement, or of duplicate address detection, must be an address of its own. */
function checkNdTarget(view: FlowView, tables: Tables, port: AccessPort): Drop | undefined {
  if (view.number('ip_proto') !== IP_ICMPV6) return undefined;
  const type = view.number('l4_src');
  const isDetection = type === ND_NEIGHBOR_SOLICITATION && isZero(view.bytes('ip_src'));
  if (type !== ND_NEIGHBOR_ADVERTISEMENT && !isDetection) return undefined;
  if (view.isOneOf('nd_target', ownOf(tables, port))) return undefined;
  return drop('spoof_nd', text`target ${view.used('nd_target')} is ${notOwned(port)}`);
}

/** The link-layer option, if there is one, must have its own MAC. */
function checkNdMac(view: FlowView, _tables: Tables, port: AccessPort): Drop | undefined {
  if (view.number('ip_proto') !== IP_ICMPV6 || !hasLinkLayerOption.includes(view.number('l4_src'))) return undefined;
  if (view.isOneOf('nd_lla', [none, port.mac])) return undefined;
  return drop('spoof_nd', text`link-layer option ${view.used('nd_lla')} is not ${port.mac}`);
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
const unspecified6 = parseIp('::');
/** The value of a link-layer option that is missing. */
const none = new Uint8Array(6);

function ownOf(tables: Tables, port: AccessPort): readonly Uint8Array[] {
  return tables.topology.sourcesOf(port.portNo);
}

function notOwned(port: AccessPort): Text {
  return text`not an address of port ${port.name} (${[...port.addresses, ...port.allowedAddresses]})`;
}
