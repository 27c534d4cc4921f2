/**
 * Conversations: what a packet that is translated has to do with connections, and how it goes on with
 * the one that it belongs to. The same for the outside and for weft's own sockets.
 */
import { INTERNAL, networkOf, OUTSIDE, turned, type Place } from '../flow/connection.ts';
import type { Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { Found } from '../table/connections.ts';
import { connectionObject, endpointOf } from '../table/connection-ways.ts';
import { networkObject, type VirtualNetwork } from '../table/topology.ts';
import { ETH_IPV4 } from '../wire/ethernet.ts';
import { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST } from '../wire/icmp.ts';
import { ICMP_REDIRECT, ICMP_SOURCE_QUENCH, isIcmpError } from '../wire/icmp-error.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import type { FrameOrigin } from './origin.ts';
import { refuse, sendTo, type OfConnection } from './routed.ts';
import {
  drop,
  type Conversation,
  type Subject,
  type Drop,
  type Entered,
  type Nat,
  type Routed,
  type StageResult,
  type Tables,
  type Connected,
} from './stage.ts';
import { text, type Text } from './text.ts';

/** Where the tuples of packets with this origin are meaningful. */
export function placeOf(origin: FrameOrigin): Place {
  return origin.kind === 'outside' ? OUTSIDE : origin.kind === 'internal' ? INTERNAL : origin.network.vni;
}

/** What a packet has to do with connections, and the one that it belongs to or is an error about. */
export function relationOf(
  view: FlowView,
  { connection }: Connected,
): { readonly subject: Subject | undefined; readonly found: Found | undefined } {
  return connection ?? { subject: subjectOf(view), found: undefined };
}

/** Sends a packet that came in at `place` to the endpoint of its connection. */
export function toEndpoint(
  view: FlowView,
  known: Entered,
  place: Place,
  subject: Subject,
  found: Found,
): StageResult<Routed> {
  const connection = known.tables.connections.tuples(found.slot);
  const endpoint = endpointOf(connection);
  const nat = natOf(place, subject, found);
  const way = text`${nat.name}, ${wayOf(subject)}: to ${endpoint}`;
  return towards(view, known, { vni: networkOf(connection), endpoint, nat }, way);
}

/** Sends a packet to an endpoint, by the connection that it belongs to or begins. */
export function towards(
  view: FlowView,
  known: Entered,
  { vni, endpoint, ...connection }: { readonly vni: Vni; readonly endpoint: Uint8Array } & OfConnection,
  way: Text,
): StageResult<Routed> {
  const { tables, origin } = known;
  if (view.number('ip_ttl') <= 1) return refuse(view, origin, 'ttl_exceeded', text`TTL 1 ends here`, 'time_exceeded');
  view.consult(networkObject(vni));
  const network = tables.topology.network(vni);
  if (!network) return drop('no_connection', text`its network has gone`);
  return sendTo(view, known, { network, hop: endpoint, ...connection }, way);
}

/**
 * What is answered must come from a subnet of its network; undefined if it does.
 * @param until `open` if only the beginning of a connection depends on it
 */
export function refuseStray(
  view: FlowView,
  network: VirtualNetwork,
  source: Uint8Array,
  until: 'always' | 'open' = 'always',
): Drop | undefined {
  const { route: home, object } = network.routes.lookup(source);
  if (until === 'open') view.consultUntilOpen(object);
  else view.consult(object);
  if (home?.kind === 'network' && home.network === network.name) return undefined;
  return drop('martian', text`${source} is in no subnet of network ${network.name}: no answer would come back`);
}

export function natOf(place: Place, subject: Subject, found: Found): Nat {
  const { slot, generation, reply } = found;
  const name = text`connection ${slot}`;
  if (subject.kind === 'error') {
    return { name, action: { op: 'related', slot, generation, reply }, connection: undefined };
  }
  const object = connectionObject(place, subject.protocol, subject.tuple);
  return {
    name,
    action: { op: 'nat', slot, generation, reply },
    connection: { slot, generation, reply, object, name },
  };
}

export function wayOf(subject: Subject): string {
  return subject.kind === 'error' ? 'an error about it' : 'addresses translated';
}

/** The live connection of a packet seen in this place. The decision depends on it from now on. */
export function useConnection(
  view: FlowView,
  { connections }: Tables,
  place: Place,
  { protocol, tuple, isRequest }: Conversation,
): Found | undefined {
  view.consult(connectionObject(place, protocol, tuple));
  const found = connections.lookup(place, protocol, tuple);
  // For a ping, the request begins a connection and the reply does not.
  const isEcho = protocol === IP_ICMP || protocol === IP_ICMPV6;
  return isEcho && found?.reply === isRequest ? undefined : found;
}

/** The connection, which may have ended, of the packet that an error seen in this place quotes. */
export function quotedConnection(view: FlowView, { connections }: Tables, place: Place): Found | undefined {
  const quoted = view.quoted();
  return quoted && connections.lookup(place, quoted.protocol, turned(quoted.tuple));
}

export function subjectOf(view: FlowView): Subject | undefined {
  const protocol = view.number('ip_proto');
  const isIp4Packet = view.number('eth_type') === ETH_IPV4;
  const [source, destination] = [view.bytes('ip_src'), view.bytes('ip_dst')];
  if (protocol === IP_TCP || protocol === IP_UDP) {
    const tuple = { source, destination, sourcePort: view.number('l4_src'), destinationPort: view.number('l4_dst') };
    return { kind: 'conversation', protocol, tuple, isRequest: true };
  }
  if (protocol !== (isIp4Packet ? IP_ICMP : IP_ICMPV6)) return undefined;
  const type = view.number('l4_src');
  if (isIcmpError(protocol, type)) {
    // A redirect is only for its own link, and nobody should send source quench (RFC 6633).
    return isIp4Packet && (type === ICMP_SOURCE_QUENCH || type === ICMP_REDIRECT) ? undefined : { kind: 'error' };
  }
  const [request, reply] = isIp4Packet
    ? [ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY]
    : [ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY];
  if (type !== request && type !== reply) return undefined;
  const identifier = view.number('icmp_id');
  const tuple = { source, destination, sourcePort: identifier, destinationPort: identifier };
  return { kind: 'conversation', protocol, tuple, isRequest: type === request };
}
