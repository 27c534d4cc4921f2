/**
 * Internal: packets to weft's own sockets and from them. The sockets are in a network namespace of weft's
 * own, and a container reaches them at the addresses of its gateway.
 *
 *   container ─► gateway, UDP 53 ─► [ source: an address of the client; destination: the socket ] ─► socket
 *   socket ─► the client's address ─► [ source: the gateway; destination: the container ] ─► container
 *
 * 1. Only ports that weft listens on are reached; for all others, the gateway answers as it does without
 *    sockets.
 * 2. The source becomes an address that stands for the port where the packet came in (`table/clients.ts`),
 *    whatever the container has written there. A connection belongs to the client that has opened it, so a
 *    packet of another client with the same addresses and ports opens another one in its place.
 * 3. From the sockets comes what belongs to a connection, and nothing else. They open none so far: one
 *    would lead from INTERNAL to a network, with an address of the client as its destination.
 */
import { INTERNAL } from '../flow/connection.ts';
import { isIp4, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { clientOf } from '../table/connections.ts';
import { internalObject, type Internal } from '../table/topology.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { natOf, open, refuseStray, relationOf, toEndpoint, wayOf } from './conversation.ts';
import type { PortOrigin } from './origin.ts';
import { refuseWrongHeader } from './routed.ts';
import { drop, next, type Entered, type Known, type Routed, type StageResult, type Connected } from './stage.ts';
import { text } from './text.ts';

/** Ingress for packets from the sockets. */
export function fromInternal(view: FlowView, { tables }: Known, internal: Internal): StageResult<Entered> {
  view.consult(internalObject);
  const type = view.number('eth_type');
  const isForUs = sameBytes(view.bytes('eth_dst'), internal.mac) && view.number('vlan_tci') === 0;
  if (!isForUs || (type !== ETH_IPV4 && type !== ETH_IPV6)) {
    return drop('no_connection', text`not IP for ${internal.mac}`);
  }
  return next(text`from weft’s own sockets`, { tables, origin: { kind: 'internal', link: internal } });
}

/** Sends a packet of a socket to the endpoint of its connection. */
export function answerClient(view: FlowView, known: Connected): StageResult<Routed> {
  const wrong = refuseWrongHeader(view);
  if (wrong) return wrong;
  const { subject, found } = relationOf(view, known);
  return subject && found
    ? toEndpoint(view, known, INTERNAL, subject, found)
    : drop('no_connection', text`no client of weft’s own sockets has this connection`);
}

/** Decides about a packet for the gateway itself; undefined if weft listens on no such port. */
export function toInternal(
  view: FlowView,
  known: Connected,
  { network, port }: PortOrigin,
  gateway: Uint8Array,
): StageResult<Routed> | undefined {
  const { tables } = known;
  const { topology, connections } = tables;
  view.consult(internalObject);
  const { internal } = topology;
  const socket = internal?.sockets.find((ip) => isIp4(ip) === isIp4(gateway));
  if (!internal || !socket) return undefined;
  const proto = view.number('ip_proto');
  const ports = internal.listening.filter(({ protocol }) => protocol === proto).map(({ l4Port }) => l4Port);
  const isServed = view.isOneOf(
    'l4_dst',
    ports.map((l4Port) => Uint8Array.of(l4Port >>> 8, l4Port)),
  );
  const { subject, found } = isServed ? relationOf(view, known) : notServed;
  if (subject?.kind !== 'conversation') return undefined;

  const { protocol, tuple } = subject;
  const stray = refuseStray(view, network, tuple.source);
  if (stray) return stray;
  const client = topology.clients.of(port.portNo);
  const what = text`port ${tuple.destinationPort} of the gateway is weft’s own`;
  if (!found || clientOf(connections.tuples(found.slot)) !== client) {
    return open(view, known, { vni: network.vni, protocol, original: tuple, socket, client }, what);
  }
  const nat = natOf(network.vni, subject, found);
  const way = {
    kind: 'link',
    port: internal.portNo,
    end: 'weft’s own sockets',
    segment: { mtu: undefined, mtuObject: internalObject },
    macs: { source: internal.mac, destination: internal.namespaceMac },
  } as const;
  return next(text`${what}: ${nat.name}, ${wayOf(subject)}`, { tables, origin: known.origin, way, nat });
}

const notServed = { subject: undefined, found: undefined };
