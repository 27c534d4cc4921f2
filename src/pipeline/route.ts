/**
 * Route: frames addressed to the network's gateway are routed or answered here, on the host where they
 * came in.
 *
 *   0. from outside, or from weft's own sockets: to the endpoint of its connection (`outside.ts`, `internal.ts`); through a
 *      service: to its backend (`backend.ts`), or back to its client; from outside by another host, and back to that host:
 *      `entry.ts`
 *   1. for other MACs: bridged; nothing below applies, except what is learned about neighbors (`hear.ts`)
 *   2. answers to neighbor requests of the gateway, or of this host, are learned
 *   3. ARP, ND and ping for the gateway's own addresses are answered; what weft listens on there goes to
 *      its own sockets (`internal.ts`)
 *   4. a router does not forward packets with a wrong header checksum (RFC 1812 §5.2.2), nor those with
 *      link-local, loopback or multicast addresses (RFC 1812 §5.3.7, RFC 4291 §2.5), nor those whose TTL
 *      is used up
 *   5. the route with the longest prefix is followed (`follow.ts`)
 *
 * The gateway has the same addresses on every host, and a container is answered only by the host that it
 * is on. So what a container replies to the gateway comes to its own host, which passes it on to the
 * other hosts, since one of them has asked.
 */
import type { Action } from '../flow/action.ts';
import { isGroupMac, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { neighborObject } from '../table/neighbor.ts';
import type { Route } from '../table/routes.ts';
import { isReservedMac, tunnelObject } from '../table/topology.ts';
import { ARP_REPLY } from '../wire/arp.ts';
import { ETH_ARP, ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { ICMP_ECHO_REQUEST, ICMPV6_ECHO_REQUEST } from '../wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6 } from '../wire/ipv4.ts';
import { ND_NEIGHBOR_ADVERTISEMENT } from '../wire/nd.ts';
import { answer } from './answer.ts';
import { toBackend, toClient } from './backend.ts';
import { claimOf } from './claim.ts';
import { deliver, returnToEntry } from './entry.ts';
import { listeners } from './flood.ts';
import { follow, networkNamed } from './follow.ts';
import { hear } from './hear.ts';
import { answerClient, toInternal } from './internal.ts';
import { enter, leaveHere } from './outside.ts';
import type { OriginInNetwork, PortOrigin } from './origin.ts';
import { isRoutable } from './routable.ts';
import { refuse, refuseMartian, refuseWrongHeader, routeTo } from './routed.ts';
import {
  drop,
  next,
  type Balanced,
  type Effect,
  type Entered,
  type Routed,
  type Stage,
  type StageResult,
  type Tables,
  type Verdict,
} from './stage.ts';
import { text, type Text } from './text.ts';

export const route: Stage<Balanced, Routed> = (view, known) => {
  const { origin, leg } = known;
  if (leg?.kind === 'to_client') return toClient(view, known, leg);
  if (leg) return toBackend(view, known, leg);
  if (origin.kind === 'outside') return enter(view, known, origin.link);
  if (origin.kind === 'internal') return answerClient(view, known);
  if (origin.kind === 'weft') return bridged(known, origin, text`for its network`);
  if (origin.kind === 'tunnel' && origin.isEntry) return deliver(view, known, origin);
  const { network } = origin;
  const mac = view.bytes('eth_dst');
  if (sameBytes(mac, known.tables.topology.hostMac)) {
    const left = origin.kind === 'tunnel' && leaveHere(view, known, origin);
    if (left) return left;
    return takeAnswer(view, known, origin) ?? drop('gateway_refused', text`no answer to a request for a neighbor`);
  }
  if (network.gateways.length === 0) return bridged(known, origin, text`not for the gateway`);
  if (!sameBytes(mac, network.gatewayMac)) {
    const heard = isGroupMac(mac) ? hear(view, known.tables, origin) : [];
    return bridged(known, origin, text`not for the gateway`, heard);
  }
  const answered = takeAnswer(view, known, origin);
  if (answered) return answered;
  if (origin.kind === 'tunnel') {
    return drop('gateway_elsewhere', text`${mac} is the gateway’s, of each host for its own ports`);
  }
  const returned = known.connection && returnToEntry(view, known, origin, known.connection);
  return returned ?? forGateway(view, known, origin);
};

/** The frame stays in its network unchanged. */
function bridged(
  { tables, origin }: Entered,
  { network }: OriginInNetwork,
  because: Text,
  effects: readonly Effect[] = [],
): StageResult<Routed> {
  return next(because, { tables, origin, way: { kind: 'network', network, macs: undefined }, nat: undefined }, effects);
}

function forGateway(view: FlowView, known: Balanced, origin: PortOrigin): StageResult<Routed> {
  const type = view.number('eth_type');
  const asked = answer(view, known.tables, origin);
  if (asked) return { ...asked, effects: [...hear(view, known.tables, origin), ...(asked.effects ?? [])] };
  if (type !== ETH_IPV4 && type !== ETH_IPV6)
    return drop('gateway_refused', text`neither IP nor a request for its MAC`);
  const wrong = refuseWrongHeader(view);
  if (wrong) return wrong;
  const source = view.bytes('ip_src');
  const destination = view.bytes('ip_dst');
  const found = routeTo(view, origin.network, destination);
  if (!isRoutable(source)) return drop('martian', text`${source} to ${destination} is not routed`);
  // A container that calls a published port is seen as the host’s end of the link, which is link-local: `leave`.
  if (!isRoutable(destination) && found?.kind !== 'outside') return refuseMartian(view, origin, source, destination);
  const local = localGateway(view, known, origin, found, destination);
  if (local) return local;
  if (view.number('ip_ttl') <= 1) return refuse(view, origin, 'ttl_exceeded', text`TTL 1 ends here`, 'time_exceeded');

  if (!found) return refuse(view, origin, 'no_route', text`no route to ${destination}`, 'net_unreachable');
  return follow(view, known, origin, found, destination);
}

// 2. Learn

/**
 * Takes an ARP reply or an advertisement. One that this host has not asked for is for another host, and is passed on to
 * all.
 */
function takeAnswer(view: FlowView, { tables }: Entered, origin: OriginInNetwork): Verdict | undefined {
  const type = view.number('eth_type');
  if (type !== ETH_ARP && type !== ETH_IPV6) return undefined;
  const proto = view.number('ip_proto');
  const isArp = type === ETH_ARP && proto === ARP_REPLY;
  const isNd = type === ETH_IPV6 && proto === IP_ICMPV6 && view.number('l4_src') === ND_NEIGHBOR_ADVERTISEMENT;
  const claim = isArp || isNd ? claimOf(view) : undefined;
  if (!claim) return undefined;
  const { ip, mac } = claim;
  if (isGroupMac(mac) || isReservedMac(mac))
    return drop('gateway_refused', text`${mac} is a group address or one of weft’s own, which no neighbor has`);
  const { vni } = origin.network;
  view.consult(neighborObject(vni, ip));
  return {
    kind: 'decide',
    because: text`${ip} is at ${mac}`,
    actions: passedOn(view, tables, origin, isArp ? ip : undefined),
    effects: tables.neighbors.isWanted(vni, ip) ? [{ kind: 'neighbor', vni, ip, mac }] : [],
  };
}

/**
 * Sends it to the other hosts that may have asked, if it came from a container and is for the gateway, which all hosts are.
 * @param ip what an ARP reply says who has
 */
function passedOn(
  view: FlowView,
  tables: Tables,
  origin: OriginInNetwork,
  ip: Uint8Array | undefined,
): readonly Action[] {
  const { vni, gateways } = origin.network;
  const isForAll = ip && origin.kind === 'port' && gateways.some((gateway) => sameBytes(gateway, view.bytes('ip_dst')));
  if (!isForAll) return [{ op: 'consume' }];
  view.consult(tunnelObject);
  if (tables.topology.tunnelPort === undefined) return [{ op: 'consume' }];
  const others = listeners(view, tables, vni, ip).map((vtep): Action => ({ op: 'encap', vni, vtep }));
  return others.length > 0 ? others : [{ op: 'consume' }];
}

// 3. The gateway's own addresses

/** A gateway of this network or of another one that is here: this host is the gateway of them all. */
function localGateway(
  view: FlowView,
  known: Balanced,
  origin: PortOrigin,
  to: Route | undefined,
  destination: Uint8Array,
): StageResult<Routed> | undefined {
  const { tables } = known;
  const of = to?.kind === 'network' ? networkNamed(view, tables, to.network) : undefined;
  if (!of?.gateways.some((gateway) => sameBytes(gateway, destination))) return undefined;
  const proto = view.number('ip_proto');
  const isEcho =
    (proto === IP_ICMP && view.number('l4_src') === ICMP_ECHO_REQUEST) ||
    (proto === IP_ICMPV6 && view.number('l4_src') === ICMPV6_ECHO_REQUEST);
  if (!isEcho) {
    const taken = toInternal(view, known, origin, destination);
    if (taken) return taken;
    return refuse(view, origin, 'gateway_refused', text`the gateway has no service`, 'port_unreachable');
  }
  // Each fragment of a fragmented request is turned into a reply, and together they are the answer.
  return {
    kind: 'decide',
    because: text`echo request for the gateway ${destination}`,
    actions: [{ op: 'echo' }, { op: 'output', port: origin.port.portNo }],
  };
}
