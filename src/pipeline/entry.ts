/**
 * Entry: connections from outside that come in by one host, and whose backend is on another one.
 *
 *   client ─► entry host ─► [ its destination becomes the backend ] ══ tunnel ══► host of the backend ─► backend
 *   client ◄─ [ its source becomes the entry host ] ◄─ entry host ◄══ tunnel ══ host of the backend ◄─ backend
 *
 * The client keeps its address, which no endpoint of the entry host has. So the host of the backend makes an exception of
 * the rule that a host must own the workload that it speaks for (`owned.ts`), and remembers to which host the replies
 * belong:
 *
 * 1. A routed packet of a connection that came in by the same host goes on, and so does an error about one.
 * 2. Any other one may begin such a connection, if it comes from a host that shares the store and is not down, is for a
 *    backend of a service that is published and admits backends of other hosts, and comes from no subnet of any network.
 *    The connection counts for the backend.
 * 3. What the backend sends back to its gateway goes to the host by which the connection came in, which translates it
 *    (`outside.ts`).
 */
import { ctState } from '../flow/fields.ts';
import { sameBytes, type Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { Found } from '../table/connections.ts';
import { endpointOf } from '../table/connection-ways.ts';
import { neighborObject } from '../table/neighbor.ts';
import { publishedBackendObject, publishedBackendsObject, publishedPortsOf } from '../table/published-backends.ts';
import { routedServices } from '../table/service-routes.ts';
import { serviceObject } from '../table/service-keys.ts';
import { gatewayMac } from '../table/topology.ts';
import { vtepObject, vtepStateObject } from '../table/vteps.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import { natOf, quotedConnection, subjectOf, toEndpoint, useConnection, wayOf } from './conversation.ts';
import { refuseOthersError } from './error-sender.ts';
import type { PortOrigin, TunnelOrigin } from './origin.ts';
import { ownsSource, type Foreign } from './owned.ts';
import { refuse, refuseWrongHeader, routeTo } from './routed.ts';
import {
  drop,
  next,
  type Connected,
  type ConnectionOfPacket,
  type Drop,
  type Routed,
  type StageResult,
  type Tables,
} from './stage.ts';
import { text } from './text.ts';

/**
 * Whether a packet of another host came from outside there: it is of a connection that did so before, or it is routed, and
 * no endpoint of that host has sent it. Of a connection, what that host itself answers counts as well: a reset.
 */
export function entryOf(view: FlowView, tables: Tables, foreign: Foreign): 'none' | 'known' | 'new' {
  const { vni, hostMac, mac } = foreign;
  const isRouted = sameBytes(mac, gatewayMac(vni));
  if (!hostMac || (!isRouted && !sameBytes(mac, hostMac))) return 'none';
  const type = view.number('eth_type');
  if (type !== ETH_IPV4 && type !== ETH_IPV6) return 'none';
  if (isOfEntry(view, tables, foreign)) return 'known';
  return !isRouted || ownsSource(view, tables, foreign) ? 'none' : 'new';
}

/** True if it is part of a connection that came in by that host, or an error about one. */
function isOfEntry(view: FlowView, tables: Tables, { vni, vtep }: Foreign): boolean {
  const state = view.number('ct_state');
  if (state !== ctState.original && state !== ctState.error) return false;
  const subject = subjectOf(view);
  const found =
    subject?.kind === 'error'
      ? quotedConnection(view, tables, vni)
      : subject && useConnection(view, tables, vni, subject);
  return found !== undefined && !found.reply && isVia(tables, found, vtep);
}

function isVia({ connections }: Tables, { slot }: Found, vtep: Uint8Array): boolean {
  const { via } = connections.tuples(slot);
  return via !== undefined && sameBytes(via, vtep);
}

/** Why it is refused if it belongs to no such connection yet. */
export function refuseEntry(view: FlowView, tables: Tables, foreign: Foreign): Drop | undefined {
  const { topology, services, neighbors } = tables;
  const { vni, vtep } = foreign;
  const unowned = text`${view.used('ip_src')} is an address of no endpoint of host ${vtep}`;
  if (!view.isIn('ip_dst', services.published.addresses)) {
    view.consult(publishedBackendsObject);
    return drop('vtep_not_owner', unowned);
  }
  const address = view.bytes('ip_dst');
  if (!isPublished(view, tables, vni, address)) {
    return drop('vtep_not_owner', text`${unowned}, and this is no published port of ${address}`);
  }
  const source = view.bytes('ip_src');
  const within = topology.networkWith(source);
  if (within) {
    view.consult(within.object);
    return drop('vtep_not_owner', text`${unowned}, but it is in a subnet of network ${within.name}`);
  }
  if (routeTo(view, topology.network(vni)!, source, 'open')?.kind !== 'outside') {
    return drop('vtep_not_owner', text`${unowned}, and answers would not go outside`);
  }
  view.consultUntilOpen(neighborObject(vni, address));
  const mac = neighbors.lookup(vni, address);
  if (!mac || !sameBytes(mac, view.bytes('eth_dst'))) {
    return drop('vtep_not_owner', text`${view.bytes('eth_dst')} is not the MAC of ${address}`);
  }
  view.consultUntilOpen(vtepStateObject(vtep));
  return topology.vteps.isDown(vtep) ? drop('vtep_down', text`VTEP ${vtep} is down`) : undefined;
}

/** True if services publish that port of the address. */
function isPublished(view: FlowView, { services }: Tables, vni: Vni, address: Uint8Array): boolean {
  view.consultUntilOpen(publishedBackendObject(address));
  const publishers = [...services.published.servicesOf(address)].flatMap((id) => services.get(id) ?? []);
  const asked = publishers.flatMap((one) => [one.id, ...routedServices(one)]);
  for (const id of asked) view.consultUntilOpen(serviceObject(id));
  const protocol = view.number('ip_proto');
  if (protocol !== IP_TCP && protocol !== IP_UDP) return false;
  const ports = publishedPortsOf(publishers, { vni, address, protocol }, (id) => services.get(id));
  const singles = ports.filter(({ first, last }) => first === last);
  const isSingle = view.isOneOf(
    'l4_dst',
    singles.map(({ first }) => Uint8Array.of(first >>> 8, first)),
  );
  if (isSingle || singles.length === ports.length) return isSingle;
  const l4Port = view.number('l4_dst');
  return ports.some(({ first, last }) => first <= l4Port && l4Port <= last);
}

/** Passes it to the backend, to whose MAC it is addressed; what the other host itself says is addressed to the gateway. */
export function deliver(view: FlowView, known: Connected, origin: TunnelOrigin): StageResult<Routed> {
  const wrong = refuseWrongHeader(view);
  if (wrong) return wrong;
  const { tables, connection } = known;
  const { network, vtep } = origin;
  const way = { kind: 'network', network, macs: undefined } as const;
  const from = text`from outside by host ${vtep}`;
  if (connection && isVia(tables, connection.found, vtep)) {
    const { subject, found } = connection;
    const client = tables.connections.tuples(found.slot).original.source;
    const refused = subject.kind === 'error' ? refuseOthersError(view, known, client) : undefined;
    if (refused) return refused;
    if (sameBytes(view.bytes('eth_dst'), network.gatewayMac)) {
      return toEndpoint(view, known, network.vni, subject, found);
    }
    const nat = natOf(network.vni, subject, found);
    return next(text`${from}: ${nat.name}`, { tables, origin, way, nat });
  }
  const subject = subjectOf(view);
  if (subject?.kind !== 'conversation')
    return drop('no_connection', text`${from}, and nothing that begins a connection`);
  const { protocol, tuple } = subject;
  const other = connection && tables.connections.tuples(connection.found.slot).via;
  if (other && !tables.connections.isExpendable(connection.found.slot)) {
    view.forThisFrame();
    return drop('vtep_not_owner', text`${from}, but its connection came in by host ${other}`);
  }
  const opening = { vni: network.vni, protocol, original: tuple, via: vtep };
  return next(from, { tables, origin, way, nat: undefined, begins: { opening, subject } });
}

/** Sends what a backend answers to the host by which the connection came in; undefined if it did not come in by one. */
export function returnToEntry(
  view: FlowView,
  known: Connected,
  origin: PortOrigin,
  { subject, found }: ConnectionOfPacket,
): StageResult<Routed> | undefined {
  const { tables } = known;
  const tuples = tables.connections.tuples(found.slot);
  const { via } = tuples;
  if (!via || !found.reply) return undefined;
  const { network } = origin;
  const wrong = refuseWrongHeader(view);
  if (wrong) return wrong;
  if (view.number('ip_ttl') <= 1) return refuse(view, origin, 'ttl_exceeded', text`TTL 1 ends here`, 'time_exceeded');
  const refused = subject.kind === 'error' ? refuseOthersError(view, known, endpointOf(tuples)) : undefined;
  if (refused) return refused;
  view.consult(vtepObject(via));
  const hostMac = tables.topology.vteps.get(via)?.hostMac;
  if (!hostMac) {
    const why = text`it came in by host ${via}, which has gone`;
    return refuse(view, origin, 'no_connection', why, 'host_unreachable');
  }
  const nat = natOf(network.vni, subject, found);
  const macs = { source: network.gatewayMac, destination: hostMac };
  const because = text`outside by host ${via}, where it came in: ${nat.name}, ${wayOf(subject)}`;
  return next(because, { tables, origin, way: { kind: 'host', network, vtep: via, macs }, nat });
}
