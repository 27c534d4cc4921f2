/**
 * What the two stages have in common that ask policies about a packet that begins a conversation (`egress-policy.ts`,
 * `ingress-policy.ts`; table/policies.ts knows what they say).
 *
 * - Judged is what is meant: after a service has been replaced by its backend, and by the client itself; of one that the host has
 *   lent an address, by that one, so that all hosts say the same.
 * - Not judged is what keeps a link working: ARP, neighbor discovery between neighbors, and reports of group members to link-local
 *   groups. What looks like it, but leaves the link or is for somebody else, is judged. What is not IP is not judged, since policies
 *   know only IP.
 * - The open connection does not depend on what policies say, so they are consulted until it is open.
 * - As few as possible of the destination ports are read: of ports that make no difference, nothing.
 */
import { isGroupIp, isGroupMac, linkLocalOf, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { identityObject, namespaceObject, type Peer, type PolicySet } from '../table/policies.ts';
import type { JudgedEnd, PolicyJudgement } from '../table/policy/judgement.ts';
import { isInPrefix, type Route } from '../table/routes.ts';
import type { Backend } from '../table/service.ts';
import { networkNameObject, type AccessPort, type VirtualNetwork } from '../table/topology.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { hasPorts, IP_ICMPV6, IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import {
  ND_NEIGHBOR_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  ND_ROUTER_ADVERTISEMENT,
  ND_ROUTER_SOLICITATION,
} from '../wire/nd.ts';
import type { FrameOrigin, PortOrigin, TunnelOrigin } from './origin.ts';
import { refuseAsDestination, reject, routeTo } from './routed.ts';
import { drop, next, type StageResult, type Tables } from './stage.ts';
import { text, type Text, type TextValue } from './text.ts';

const IP_IGMP = 2;
/** Only trusted ports may send router advertisements. */
const discovery: readonly number[] = [
  ND_ROUTER_SOLICITATION,
  ND_ROUTER_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  ND_NEIGHBOR_ADVERTISEMENT,
];
/** Multicast listener query, report and done, version 1 and 2 (RFC 2710, RFC 3810). */
const listenerMessages: readonly number[] = [130, 131, 132, 143];

export const notJudged = text`not judged: the link itself needs it`;

/** True if policies are not asked about such a packet. */
export function isOfLink(view: FlowView, origin: FrameOrigin): boolean {
  const type = view.number('eth_type');
  if (type !== ETH_IPV4 && type !== ETH_IPV6) return true;
  const protocol = view.number('ip_proto');
  if (type === ETH_IPV4) return protocol === IP_IGMP && isForGroupOfLink(view);
  if (protocol !== IP_ICMPV6) return false;
  const message = view.number('l4_src');
  if (listenerMessages.includes(message)) return isForGroupOfLink(view);
  return discovery.includes(message) && (isForGroupOfLink(view) || isForNeighbor(view, origin));
}

function isForGroupOfLink(view: FlowView): boolean {
  return isGroupMac(view.bytes('eth_dst')) && isGroupOfLink(view.bytes('ip_dst'));
}

/** 224.0.0.0/24 (RFC 5771 §4) and ff02::/16 (RFC 4291 §2.7). */
function isGroupOfLink(ip: Uint8Array): boolean {
  if (!isGroupIp(ip)) return false;
  return ip[0] === 0xff ? (ip[1]! & 15) === 2 : ip[12] === 224 && ip[13] === 0 && ip[14] === 0;
}

/** True if it is for one neighbor, by an address of the network, or for the gateway itself; and has not been routed. */
function isForNeighbor(view: FlowView, origin: FrameOrigin): boolean {
  if (origin.kind !== 'port' && origin.kind !== 'tunnel') return false;
  const { gateways, gatewayMac, subnets } = origin.network;
  const address = view.bytes('ip_dst');
  // Nobody routes to a link-local address.
  if (address[0] === 0xfe && (address[1]! & 0xc0) === 0x80) return true;
  if (gateways.length === 0) return subnets.some((subnet) => isInPrefix(subnet, address));
  if (sameBytes(view.bytes('eth_dst'), gatewayMac)) return gateways.some((gateway) => sameBytes(gateway, address));
  const isRouted = origin.kind === 'tunnel' && sameBytes(view.bytes('eth_src'), gatewayMac);
  return !isRouted && subnets.some((subnet) => isInPrefix(subnet, address));
}

/** Somebody who is known by the address only. */
export function stranger(address: Uint8Array): Peer {
  return { address, identity: undefined, endpoint: undefined };
}

/** Who has an address in this network. */
export function peerIn(view: FlowView, { policies }: Tables, { vni }: VirtualNetwork, address: Uint8Array): Peer {
  if (isGroupIp(address)) return stranger(address);
  view.consultUntilOpen(identityObject(address));
  const peer = policies.peerAt(address, vni);
  if (peer.identity) view.consultUntilOpen(namespaceObject(peer.identity.namespace));
  return peer;
}

/** Who a backend of a service is. @param asksIdentity false: only its address counts */
export function peerOfBackend(
  view: FlowView,
  tables: Tables,
  { address, vni }: Pick<Backend, 'address' | 'vni'>,
  asksIdentity: boolean,
): Peer {
  const home = vni === undefined ? undefined : tables.topology.network(vni);
  return home && asksIdentity ? peerIn(view, tables, home, address) : stranger(address);
}

/**
 * Who has sent what came in from a network, and not from outside by another host. A trusted endpoint of this host may send from any
 * address, but has only its own ones: whoever may be behind it, policies know by the address alone.
 */
export function senderOf(view: FlowView, tables: Tables, origin: PortOrigin | TunnelOrigin, address: Uint8Array): Peer {
  const { network } = origin;
  if (origin.kind === 'port') {
    return isBehind(origin.port, address) ? stranger(address) : peerIn(view, tables, network, address);
  }
  const isRouted = sameBytes(view.bytes('eth_src'), network.gatewayMac);
  const route = isRouted ? routeTo(view, network, address, 'open') : undefined;
  return peerIn(view, tables, homeOf(view, tables, network, route), address);
}

/** True if what comes from that address by this port is from somebody else behind it: the port is trusted, and has other addresses. */
export function isBehind({ trust, addresses, mac }: AccessPort, address: Uint8Array): boolean {
  return trust && ![...addresses, linkLocalOf(mac)].some((own) => sameBytes(own, address));
}

/** The network in which an address is known that this one has this route to: `homeBehind`. */
export function homeOf(
  view: FlowView,
  { topology }: Tables,
  network: VirtualNetwork,
  route: Route | undefined,
): VirtualNetwork {
  if (route?.kind === 'network') view.consultUntilOpen(networkNameObject(route.network));
  return homeBehind(route, network, topology);
}

/** The one to whose subnets the address is routed. Of what is behind a router, or has no route, this one is asked itself. */
export function homeBehind(
  route: Route | undefined,
  network: VirtualNetwork,
  topology: Tables['topology'],
): VirtualNetwork {
  return (route?.kind === 'network' ? topology.networkNamed(route.network) : undefined) ?? network;
}

/** @param l4Port the destination port if it is known already, because it is translated */
export function judge(view: FlowView, set: PolicySet, peer: Peer, l4Port?: number): PolicyJudgement {
  const protocol = view.number('ip_proto');
  if (!hasPorts(protocol)) return set.judge(peer, protocol, 0);
  if (l4Port !== undefined) return set.judge(peer, protocol, l4Port);
  const { singles, hasRanges } = set.portsFor(peer, protocol);
  if (hasRanges) return set.judge(peer, protocol, view.number('l4_dst'));
  const at = view.whichOf(
    'l4_dst',
    singles.map((port) => Uint8Array.of(port >>> 8, port)),
  );
  return set.judge(peer, protocol, at < 0 ? otherThan(singles) : singles[at]!);
}

/** A port that is none of these. */
function otherThan(ports: readonly number[]): number {
  let other = 0;
  while (ports.includes(other)) other++;
  return other;
}

export function peerText({ address, endpoint }: Peer): TextValue {
  return endpoint === undefined ? address : text`${address} (${endpoint})`;
}

/** The packet goes on if it is allowed. Else it is refused, and its sender is told if the policies say so. */
export function asJudged<Known>(
  view: FlowView,
  origin: FrameOrigin,
  judged: JudgedEnd,
  because: Text,
  known: Known,
): StageResult<Known> {
  const { direction, judgement } = judged;
  if (judgement.verdict === 'allow') return next(because, known, [], judged);
  const reason = `policy_${direction}` as const;
  if (!judgement.rejects) return { ...drop(reason, because), judged };
  // As a host answers that does not listen there; what is neither TCP nor UDP is prohibited.
  const error = view.number('ip_proto') === IP_UDP ? 'port_unreachable' : 'prohibited';
  const isByDestination = origin.kind === 'tunnel' && view.number('ip_proto') !== IP_TCP;
  const refused = isByDestination
    ? refuseAsDestination(view, reason, because, error)
    : reject(view, origin, reason, because, error);
  return { ...refused, judged };
}
