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
 * 3. From the sockets comes what belongs to a connection, and TCP that opens one, for health checks: to an
 *    address of a client. It leads to the container behind that port, on this host, and comes from its gateway.
 * 4. Replies of a container to such a connection go back to the socket, from the port of its client only.
 */
import { INTERNAL } from '../flow/connection.ts';
import { isGroupMac, isIp4, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { clientOfAddress, turnOfAddress } from '../table/clients.ts';
import { clientOf, isFromWeft } from '../table/connection-ways.ts';
import { internalObject, networkObject, portObject, type Internal } from '../table/topology.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { IP_TCP } from '../wire/ipv4.ts';
import { natOf, refuseStray, relationOf, toEndpoint, towards, wayOf } from './conversation.ts';
import type { PortOrigin } from './origin.ts';
import { refuse, refuseWrongHeader } from './routed.ts';
import {
  drop,
  next,
  type Connected,
  type Conversation,
  type Drop,
  type Entered,
  type Known,
  type Routed,
  type StageResult,
} from './stage.ts';
import { text, type Text } from './text.ts';

/** Ingress for packets from the sockets. */
export function fromInternal(view: FlowView, { tables }: Known, internal: Internal): StageResult<Entered> {
  view.consult(internalObject);
  const type = view.number('eth_type');
  const mac = view.bytes('eth_dst');
  if (isGroupMac(mac)) {
    // The kernel says which groups it has joined (MLD, IGMP), on every link.
    return { kind: 'decide', because: text`nobody else is on this link`, actions: [{ op: 'consume' }] };
  }
  const isForUs = sameBytes(mac, internal.mac) && view.number('vlan_tci') === 0;
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
  if (subject && found) return toEndpoint(view, known, INTERNAL, subject, found);
  if (subject?.kind === 'conversation' && subject.protocol === IP_TCP) return dial(view, known, subject);
  return drop('no_connection', text`no client of weft’s own sockets has this connection`);
}

/** Opens a connection of a socket to a client. If that cannot be, the socket is told at once. */
function dial(view: FlowView, known: Connected, subject: Conversation): StageResult<Routed> {
  const { topology } = known.tables;
  const { protocol, tuple } = subject;
  const { destination } = tuple;
  const isV4 = isIp4(destination);
  const portNo = topology.clients.portOf(clientOfAddress(destination));
  // The number of a client that has gone is not used again, so nothing changes this.
  if (portNo === undefined) return unreachable(view, known, text`no client of weft’s own sockets has ${destination}`);
  view.consultUntilOpen(portObject(portNo));
  const port = topology.port(portNo);
  if (!port) return unreachable(view, known, text`the port of its client has gone`);
  view.consult(networkObject(port.vni));
  const ofFamily = (ip: Uint8Array): boolean => isIp4(ip) === isV4;
  const source = topology.network(port.vni)?.gateways.find(ofFamily);
  const endpoint = port.addresses.filter(ofFamily)[turnOfAddress(destination)];
  if (!source || !endpoint) return unreachable(view, known, text`${port.name} has no such address`);
  const translated = { ...tuple, source, destination: endpoint };
  const way = text`from the gateway to ${endpoint}`;
  const opening = { vni: port.vni, protocol, original: tuple, translated, from: INTERNAL } as const;
  return towards(view, known, { vni: port.vni, endpoint, begins: { opening, subject } }, way);
}

function unreachable(view: FlowView, { origin }: Connected, because: Text): Drop {
  return refuse(view, origin, 'no_connection', because, 'host_unreachable');
}

/** Decides about a packet for the gateway itself; undefined if weft listens on no such port. */
export function toInternal(
  view: FlowView,
  known: Connected,
  origin: PortOrigin,
  gateway: Uint8Array,
): StageResult<Routed> | undefined {
  const { network, port } = origin;
  const { tables } = known;
  const { topology, connections } = tables;
  view.consult(internalObject);
  const { internal } = topology;
  const socket = internal?.sockets.find((ip) => isIp4(ip) === isIp4(gateway));
  if (!internal || !socket) return undefined;
  const answered = answerSocket(known, origin, internal);
  if (answered) return answered;
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
  const way = wayTo(internal);
  if (!found || clientOf(connections.tuples(found.slot)) !== client) {
    const opening = { vni: network.vni, protocol, original: tuple, socket, client };
    return next(what, { tables, origin, way, nat: undefined, begins: { opening, subject } });
  }
  const nat = natOf(network.vni, subject, found);
  return next(text`${what}: ${nat.name}, ${wayOf(subject)}`, { tables, origin, way, nat });
}

/** Decides about a packet of a connection that a socket has opened; undefined if it belongs to no such connection. */
function answerSocket(
  { tables, connection }: Connected,
  origin: PortOrigin,
  internal: Internal,
): StageResult<Routed> | undefined {
  if (!connection) return undefined;
  const { subject, found } = connection;
  const tuples = tables.connections.tuples(found.slot);
  if (!isFromWeft(tuples)) return undefined;
  const { network, port } = origin;
  if (clientOf(tuples) !== tables.topology.clients.of(port.portNo)) {
    return drop('no_connection', text`the connection from weft’s own sockets leads to another client`);
  }
  const nat = natOf(network.vni, subject, found);
  const what = text`${nat.name}, from weft’s own sockets: ${wayOf(subject)}`;
  return next(what, { tables, origin, way: wayTo(internal), nat });
}

function wayTo({ portNo, mac, namespaceMac }: Internal) {
  return {
    kind: 'link',
    port: portNo,
    end: 'weft’s own sockets',
    segment: { mtu: undefined, mtuObject: internalObject },
    macs: { source: mac, destination: namespaceMac },
  } as const;
}

const notServed = { subject: undefined, found: undefined };
