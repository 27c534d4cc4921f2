/** How routing ends, wherever the packet came from: it goes to its next hop, or its sender is told why not. */
import { FRAG_LATER } from '../flow/fields.ts';
import type { DropReason } from '../flow/reason.ts';
import type { RefusalAnswer } from '../flow/refusal.ts';
import { isGroupIp, isIp4 } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { isRepeated } from '../table/balancer.ts';
import { neighborObject } from '../table/neighbor.ts';
import type { Route } from '../table/routes.ts';
import type { Choice } from '../table/service-choices.ts';
import type { VirtualNetwork } from '../table/topology.ts';
import { ETH_IPV4 } from '../wire/ethernet.ts';
import { isNeverReported } from '../wire/icmp-error.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP } from '../wire/ipv4.ts';
import { gatewayOf, type FrameOrigin } from './origin.ts';
import {
  drop,
  next,
  type Beginning,
  type Drop,
  type Entered,
  type Nat,
  type Routed,
  type StageResult,
} from './stage.ts';
import { text, type Text } from './text.ts';

type IcmpAnswer = Exclude<RefusalAnswer['kind'], 'tcp_reset'>;

/** The connection that a packet belongs to, or begins. */
export interface OfConnection {
  readonly nat?: Nat;
  readonly begins?: Beginning;
}

/**
 * The network's route to an address. It is consulted whether or not there is one.
 * @param until `open` if only the beginning of a connection depends on it
 */
export function routeTo(
  view: FlowView,
  network: VirtualNetwork,
  ip: Uint8Array,
  until: 'always' | 'open' = 'always',
): Route | undefined {
  const { route, object } = network.routes.lookup(ip);
  if (until === 'open') view.consultUntilOpen(object);
  else view.consult(object);
  return route;
}

/** Called if the packet is refused because of this backend: the next one may get another. */
export function ofOneChoice(view: FlowView, choice: Choice): void {
  if (!isRepeated(choice)) view.forThisFrame();
}

/** Sends to a next hop in a network: its MAC is known, has failed, or must be asked for while the frame waits. */
export function sendTo(
  view: FlowView,
  known: Entered,
  { network, hop, nat, begins }: { readonly network: VirtualNetwork; readonly hop: Uint8Array } & OfConnection,
  way: Text,
): StageResult<Routed> {
  const { tables, origin } = known;
  const { vni } = network;
  view.consult(neighborObject(vni, hop));
  const mac = tables.neighbors.resolve(vni, hop);
  if (mac === undefined) return { kind: 'wait', because: text`${way}: ask who has ${hop}`, neighbor: { vni, ip: hop } };
  if (mac === 'failed') {
    return refuse(view, origin, 'neighbor_unresolved', text`${way}: nobody answers for ${hop}`, 'host_unreachable');
  }
  const macs = { source: network.gatewayMac, destination: mac };
  return next(text`${way}, at ${mac}`, { tables, origin, way: { kind: 'network', network, macs }, nat, begins });
}

/**
 * No router forwards to that destination. If the destination is a single host, the sender is told (`refuse` recognizes
 * groups).
 */
export function refuseMartian(view: FlowView, origin: FrameOrigin, source: Uint8Array, destination: Uint8Array): Drop {
  return refuse(view, origin, 'martian', text`${source} to ${destination} is not routed`, 'net_unreachable');
}

/** No router believes or answers an IPv4 header with a wrong checksum (RFC 1812 §5.2.2). */
export function refuseWrongHeader(view: FlowView): Drop | undefined {
  if (view.number('eth_type') !== ETH_IPV4 || view.hasRightIpv4Header()) return undefined;
  return drop('ipv4_checksum', text`the checksum of its IPv4 header is wrong`);
}

/**
 * Refuses the packet so that its sender gives up at once: TCP gets a reset, everything else an ICMP error.
 * @param error by default as from a host that does not listen there
 */
export function reject(
  view: FlowView,
  origin: FrameOrigin,
  reason: DropReason,
  because: Text,
  error: IcmpAnswer = 'port_unreachable',
): Drop {
  const isTcp = view.number('ip_proto') === IP_TCP && view.number('ip_frag') !== FRAG_LATER;
  if (!isTcp) return refuse(view, origin, reason, because, error);
  return { kind: 'drop', reason, because: text`${because}; answered by a TCP reset`, answer: { kind: 'tcp_reset' } };
}

/**
 * Refuses the packet and tells its sender by an ICMP error, if that is allowed (RFC 1122 §3.2.2, RFC 4443 §2.4). The gateway says so,
 * if it is one of this host.
 */
export function refuse(
  view: FlowView,
  origin: FrameOrigin,
  reason: DropReason,
  because: Text,
  error: IcmpAnswer,
): Drop {
  if (!mayBeTold(view)) return drop(reason, because);
  const isV4 = view.number('eth_type') === ETH_IPV4;
  const from = gatewayOf(origin)?.addresses.find((address) => isIp4(address) === isV4);
  return from ? told(reason, because, error, from) : drop(reason, because);
}

/** The same, as the destination of the packet would say it: to senders on other hosts, whose gateway is not this host. */
export function refuseAsDestination(view: FlowView, reason: DropReason, because: Text, error: IcmpAnswer): Drop {
  return mayBeTold(view) ? told(reason, because, error, view.bytes('ip_dst')) : drop(reason, because);
}

function mayBeTold(view: FlowView): boolean {
  if (view.number('ip_frag') === FRAG_LATER || isGroupIp(view.bytes('ip_dst'))) return false;
  const proto = view.number('ip_proto');
  return !(proto === IP_ICMP || proto === IP_ICMPV6) || !isNeverReported(proto, view.number('l4_src'));
}

function told(reason: DropReason, because: Text, error: IcmpAnswer, from: Uint8Array): Drop {
  const answered = text`${because}; answered by ICMP ${error.replaceAll('_', ' ')}`;
  return { kind: 'drop', reason, because: answered, answer: { kind: error, from } };
}
