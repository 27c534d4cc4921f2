/**
 * Outside: packets that leave all networks through the host, or come in from there.
 *
 *   container ─► gateway ─► [ its source becomes the transit address ] ─► host ─► …
 *   … ─► host ─► [ the transit address becomes the container ] ─► container
 *
 * 1. A packet of a live connection goes on with its addresses translated.
 * 2. So does an ICMP error that quotes one (RFC 5508 §4).
 * 3. Otherwise, a container opens a connection to anywhere, and somebody outside opens one to a
 *    published port, or to one of a service (`arrive.ts`).
 * 4. What the backend of a service sends back from another host goes out here, if its connection came in here (`entry.ts`).
 * 5. Everything else is refused.
 *
 * The transit address is on the link to the host, where nftables translates once more (src/outside), so
 * nobody else sees it. Not every packet may leave: VXLAN could be taken for an encapsulated frame of
 * this host.
 */
import { isIp4, sameBytes } from '../flow/types.ts';
import { OUTSIDE } from '../flow/connection.ts';
import type { FlowView } from '../flow/view.ts';
import type { Found } from '../table/connections.ts';
import { endpointOf } from '../table/connection-ways.ts';
import type { Choice } from '../table/service-choices.ts';
import { outsideObject, tunnelObject, type Outside } from '../table/topology.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { IP_UDP } from '../wire/ipv4.ts';
import { VXLAN_L4_PORT } from '../wire/vxlan.ts';
import { arrive } from './arrive.ts';
import { natOf, refuseStray, relationOf, toEndpoint, wayOf } from './conversation.ts';
import { refuseOthersError } from './error-sender.ts';
import type { Way } from './hop.ts';
import type { PortOrigin, TunnelOrigin } from './origin.ts';
import { isRoutable } from './routable.ts';
import { refuse, refuseMartian, refuseWrongHeader, reject } from './routed.ts';
import {
  drop,
  next,
  type Drop,
  type Entered,
  type Known,
  type Routed,
  type StageResult,
  type Subject,
  type Tables,
  type Balanced,
  type Connected,
} from './stage.ts';
import { text } from './text.ts';

/** Ingress for packets from the host. */
export function fromOutside(view: FlowView, { tables }: Known, outside: Outside): StageResult<Entered> {
  view.consult(outsideObject);
  const mac = view.bytes('eth_dst');
  const type = view.number('eth_type');
  const isForUs = sameBytes(mac, outside.mac) && view.number('vlan_tci') === 0;
  if (!isForUs || (type !== ETH_IPV4 && type !== ETH_IPV6))
    return drop('no_connection', text`not IP for ${outside.mac}`);
  const destination = view.bytes('ip_dst');
  if (!outside.transit.some((address) => sameBytes(address, destination))) {
    const transit = outside.transit.find((address) => isIp4(address) === isIp4(destination));
    return drop(
      'no_connection',
      transit
        ? text`${destination} is not the transit address ${transit}, to which the host translates node ports, published ports and load balancer addresses`
        : text`${destination} is not the transit address`,
    );
  }
  const entered: Entered = { tables, origin: { kind: 'outside', link: outside } };
  return next(text`from outside, for the transit address ${destination}`, entered);
}

/** Sends a packet for the transit address to the endpoint of its connection. */
export function enter(view: FlowView, known: Connected, outside: Outside): StageResult<Routed> {
  const wrong = refuseWrongHeader(view);
  if (wrong) return wrong;
  const { subject, found } = relationOf(view, known);
  return subject && found ? toEndpoint(view, known, OUTSIDE, subject, found) : arrive(view, known, outside, subject);
}

/** Decides about a packet that only the route to the outside matches, also if its service has a backend there. */
export function leave(view: FlowView, known: Balanced, origin: PortOrigin): StageResult<Routed> {
  const { tables } = known;
  const { network } = origin;
  view.consult(outsideObject);
  const { outside } = tables.topology;
  const source = view.bytes('ip_src');
  const isIp4Packet = isIp4(source);
  const address = outside?.transit.find((ip) => isIp4(ip) === isIp4Packet);
  if (!outside || !address) {
    const why = text`network ${network.name} leads outside, and there is no way`;
    return refuse(view, origin, 'no_route', why, 'net_unreachable');
  }
  const choice = known.leg?.kind === 'to_chosen' ? known.leg.choice : undefined;
  const destination = choice?.backend.address ?? view.bytes('ip_dst');
  if (outside.transit.some((ip) => sameBytes(ip, destination))) {
    const why = text`${destination} is the transit address, which containers cannot reach`;
    return refuse(view, origin, 'martian', why, 'net_unreachable');
  }
  const stray = refuseStray(view, network, source);
  if (stray) return stray;
  const relation = relationOf(view, known);
  const injected = refuseVxlan(view, tables, relation, choice);
  return injected ?? goOut(view, known, { origin, outside, address, source, destination, choice, ...relation });
}

/**
 * Sends out what another host has routed here for a client outside, whose connection came in here; undefined for what is no
 * such packet. If the connection is not known here any more, the backend is told.
 */
export function leaveHere(view: FlowView, known: Connected, origin: TunnelOrigin): StageResult<Routed> | undefined {
  const { tables, connection } = known;
  const type = view.number('eth_type');
  const isRouted = sameBytes(view.bytes('eth_src'), origin.network.gatewayMac);
  if (!isRouted || (type !== ETH_IPV4 && type !== ETH_IPV6)) return undefined;
  const wrong = refuseWrongHeader(view);
  if (wrong) return wrong;
  const isOurs = connection?.found.reply && tables.connections.tuples(connection.found.slot).places[0] === OUTSIDE;
  if (!isOurs) return reject(view, origin, 'no_connection', text`no connection that came in here from outside`);
  const { subject, found } = connection;
  const tuples = tables.connections.tuples(found.slot);
  const refused = subject.kind === 'error' ? refuseOthersError(view, known, endpointOf(tuples)) : undefined;
  if (refused) return refused;
  if (view.number('ip_ttl') <= 1) return drop('ttl_exceeded', text`TTL 1 ends here`);
  view.consult(outsideObject);
  const { outside } = tables.topology;
  if (!outside) return drop('no_route', text`there is no way outside any more`);
  const nat = natOf(origin.network.vni, subject, found);
  const way = wayOut(outside);
  return next(text`outside: ${nat.name}, ${wayOf(subject)}`, { tables, origin, way, nat });
}

/** A packet that may leave. */
interface Leaving {
  readonly origin: PortOrigin;
  readonly outside: Outside;
  /** The transit address from which it goes out. */
  readonly address: Uint8Array;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** For a connection through a service. */
  readonly choice: Choice | undefined;
  readonly subject: Subject | undefined;
  readonly found: Found | undefined;
}

/** Translates it by its connection. */
function goOut(view: FlowView, known: Entered, leaving: Leaving): StageResult<Routed> {
  const { origin, outside, address, source, destination, choice, subject, found } = leaving;
  const { tables } = known;
  const { network } = origin;
  if (!found && !isRoutable(destination)) return refuseMartian(view, origin, source, destination);
  if (!subject) {
    const protocol = view.number('ip_proto');
    return refuse(view, origin, 'nat_protocol', text`IP protocol ${protocol} cannot be translated`, 'prohibited');
  }
  if (!found) {
    if (subject.kind === 'error') return drop('icmp_unrelated', text`it quotes no packet of a live connection`);
    const { protocol, tuple } = subject;
    if (!subject.isRequest) return drop('no_connection', text`a reply to a request that nobody outside has sent`);
    const opening = { vni: network.vni, protocol, original: tuple, address, choice };
    const begins = { opening, subject };
    const because = text`outside from ${address}: ${tuple.source} to ${destination}`;
    return next(because, { tables, origin, way: wayOut(outside), nat: undefined, begins });
  }
  if (subject.kind === 'error') {
    const refused = refuseOthersError(view, known, endpointOf(tables.connections.tuples(found.slot)));
    if (refused) return refused;
  }
  const nat = natOf(network.vni, subject, found);
  const way = wayOut(outside);
  return next(text`outside from ${address}: ${nat.name}, ${wayOf(subject)}`, { tables, origin, way, nat });
}

function wayOut(outside: Outside): Way {
  const macs = { source: outside.mac, destination: outside.hostMac };
  return { kind: 'link', port: outside.portNo, end: 'the host’s end', segment: outside, macs };
}

/** Whoever receives it could take it for an encapsulated frame of this host. What counts is the port that it goes out to. */
function refuseVxlan(
  view: FlowView,
  { topology, connections }: Tables,
  { subject, found }: Pick<Leaving, 'subject' | 'found'>,
  choice: Choice | undefined,
): Drop | undefined {
  if (subject?.kind !== 'conversation' || subject.protocol !== IP_UDP) return undefined;
  view.consult(tunnelObject);
  const ofBackend = found && !found.reply ? connections.tuples(found.slot).translated.destinationPort : choice?.l4Port;
  const destinationPort = ofBackend ?? subject.tuple.destinationPort;
  if (destinationPort !== VXLAN_L4_PORT && destinationPort !== topology.vxlanL4Port) return undefined;
  return drop('vxlan_injection', text`UDP port ${destinationPort} is VXLAN: not from a container`);
}
