/**
 * Outside: packets that leave all networks through the host, or come in from there.
 *
 *   container ─► gateway ─► [ its source becomes the transit address ] ─► host ─► …
 *   … ─► host ─► [ the transit address becomes the container ] ─► container
 *
 * 1. A packet of a live connection goes on with its addresses translated.
 * 2. So does an ICMP error that quotes one (RFC 5508 §4).
 * 3. Otherwise, a container opens a connection to anywhere, and somebody outside opens one to a
 *    published port. The transit address itself answers ping.
 * 4. Everything else is refused.
 *
 * The transit address is on the link to the host, where nftables translates once more (src/outside), so
 * nobody else sees it. Not every packet may leave: VXLAN could be taken for an encapsulated frame of
 * this host.
 */
import { isIp4, sameBytes } from '../flow/types.ts';
import { networkOf, OUTSIDE, turned, type Place, type Tuple } from '../flow/connection.ts';
import type { FlowView } from '../flow/view.ts';
import { connectionObject, endpointOf, type Found, type Opening } from '../table/connections.ts';
import {
  networkObject,
  outsideObject,
  publishedId,
  publishedObject,
  tunnelObject,
  type Outside,
} from '../table/topology.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST } from '../wire/icmp.ts';
import { ICMP_REDIRECT, ICMP_SOURCE_QUENCH, isIcmpError } from '../wire/icmp-error.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import { VXLAN_L4_PORT } from '../wire/vxlan.ts';
import type { PortOrigin } from './origin.ts';
import { isRoutable } from './routable.ts';
import { refuse, refuseMartian, refuseWrongHeader, routeTo, sendTo } from './routed.ts';
import {
  drop,
  next,
  type Drop,
  type Entered,
  type Known,
  type Nat,
  type Routed,
  type StageResult,
  type Tables,
  type Verdict,
} from './stage.ts';
import { text, type Text } from './text.ts';

/** The relation of a packet to connections: part of a conversation, an error about one, or neither. */
type Subject =
  | { readonly kind: 'conversation'; readonly protocol: number; readonly tuple: Tuple; readonly isRequest: boolean }
  | { readonly kind: 'error' }
  | undefined;

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
    return drop('no_connection', text`${destination} is not the transit address`);
  }
  const entered: Entered = { tables, origin: { kind: 'outside', link: outside } };
  return next(text`from outside, for the transit address ${destination}`, entered);
}

/** Sends a packet for the transit address to the endpoint of its connection. */
export function enter(view: FlowView, known: Entered, outside: Outside): StageResult<Routed> {
  const wrong = refuseWrongHeader(view);
  if (wrong) return wrong;
  const { tables, origin } = known;
  const { topology, connections } = tables;
  const subject = subjectOf(view);
  const found = subject && find(view, tables, OUTSIDE, subject);
  if (!found) return arrive(view, known, outside, subject);

  if (view.number('ip_ttl') <= 1) return refuse(view, origin, 'ttl_exceeded', text`TTL 1 ends here`, 'time_exceeded');
  const connection = connections.tuples(found.slot);
  const endpoint = endpointOf(connection);
  const vni = networkOf(connection);
  view.consult(networkObject(vni));
  const network = topology.network(vni);
  if (!network) return drop('no_connection', text`its network has gone`);
  const nat = natOf(OUTSIDE, subject, found);
  const way = text`${nat.name}, ${wayOf(subject)}: to ${endpoint}`;
  return sendTo(view, known, { network, hop: endpoint, nat }, way);
}

/** Decides about a packet that does not belong to a connection yet. */
function arrive(view: FlowView, known: Entered, outside: Outside, subject: Subject): Verdict {
  if (subject?.kind === 'error') return drop('icmp_unrelated', text`it quotes no packet of a live connection`);
  if (!subject?.isRequest) return drop('no_connection', text`no connection, and nothing that could begin one`);
  const { protocol, tuple } = subject;
  if (protocol === IP_ICMP || protocol === IP_ICMPV6) {
    return {
      kind: 'decide',
      because: text`echo request for the transit address`,
      actions: [{ op: 'echo' }, { op: 'output', port: outside.portNo }],
    };
  }
  const id = publishedId(protocol, tuple.destinationPort);
  view.consult(publishedObject(id));
  const published = outside.published.get(id);
  const address = published?.addresses.find((ip) => isIp4(ip) === isIp4(tuple.destination));
  if (!published || !address) {
    return drop('no_connection', text`port ${tuple.destinationPort} is not published, and no connection uses it`);
  }
  const { vni, l4Port } = published;
  const translated = { ...tuple, destination: address, destinationPort: l4Port };
  const way = text`published by ${published.endpoint}: to ${address}, port ${l4Port}`;
  return open(view, known, { vni, protocol, original: tuple, translated }, way);
}

/** Decides about a packet that only the route to the outside matches. */
export function leave(view: FlowView, known: Entered, origin: PortOrigin): StageResult<Routed> {
  const { tables } = known;
  const { network, port } = origin;
  view.consult(outsideObject);
  const { outside } = tables.topology;
  const source = view.bytes('ip_src');
  const isIp4Packet = isIp4(source);
  const address = outside?.transit.find((ip) => isIp4(ip) === isIp4Packet);
  if (!outside || !address) {
    const why = text`network ${network.name} leads outside, and there is no way`;
    return refuse(view, origin, 'no_route', why, 'net_unreachable');
  }
  const destination = view.bytes('ip_dst');
  if (outside.transit.some((ip) => sameBytes(ip, destination))) {
    const why = text`${destination} is the transit address, which is nobody’s to reach`;
    return refuse(view, origin, 'martian', why, 'net_unreachable');
  }
  const home = routeTo(view, network, source);
  if (home?.kind !== 'network' || home.network !== network.name) {
    return drop('martian', text`${source} is in no subnet of network ${network.name}: no answer would come back`);
  }
  const subject = subjectOf(view);
  const injected = refuseVxlan(view, tables, subject);
  if (injected) return injected;
  const found = subject && find(view, tables, network.vni, subject);
  if (!found && !isRoutable(destination)) return refuseMartian(view, origin, source, destination);
  if (!subject) {
    const protocol = view.number('ip_proto');
    return refuse(view, origin, 'nat_protocol', text`IP protocol ${protocol} cannot be translated`, 'prohibited');
  }
  if (!found) {
    if (subject.kind === 'error') return drop('icmp_unrelated', text`it quotes no packet of a live connection`);
    const { protocol, tuple } = subject;
    if (!subject.isRequest) return drop('no_connection', text`an answer that nobody outside has asked for`);
    const way = text`${tuple.source} to ${destination}, from ${address}`;
    return open(view, known, { vni: network.vni, protocol, original: tuple, address }, way);
  }
  if (subject.kind === 'error') {
    const endpoint = endpointOf(tables.connections.tuples(found.slot));
    const isOwn = port.trust || tables.topology.maySendFrom(port.portNo, endpoint);
    if (!isOwn) return drop('icmp_unrelated', text`it speaks of a connection of another container`);
  }
  const nat = natOf(network.vni, subject, found);
  const macs = { source: outside.mac, destination: outside.hostMac };
  const way = { kind: 'link', port: outside.portNo, end: 'the host’s end', segment: outside, macs } as const;
  return next(text`outside from ${address}: ${nat.name}, ${wayOf(subject)}`, { tables, origin, way, nat });
}

/** Whoever receives it could take it for an encapsulated frame of this host. */
function refuseVxlan(view: FlowView, { topology }: Tables, subject: Subject): Drop | undefined {
  if (subject?.kind !== 'conversation' || subject.protocol !== IP_UDP) return undefined;
  view.consult(tunnelObject);
  const { destinationPort } = subject.tuple;
  if (destinationPort !== VXLAN_L4_PORT && destinationPort !== topology.vxlanL4Port) return undefined;
  return drop('vxlan_injection', text`UDP port ${destinationPort} is VXLAN: not from a container`);
}

function open(view: FlowView, { tables, origin }: Entered, opening: Opening, way: Text): Verdict {
  const refused = tables.connections.refusal(opening);
  if (refused) {
    // There may be room for the next packet.
    view.forThisFrame();
    return refuse(view, origin, refused, text`${way}: no connection can be opened`, 'prohibited');
  }
  return { kind: 'connect', because: text`${way}: a new connection`, opening };
}

function natOf(place: Place, subject: NonNullable<Subject>, found: Found): Nat {
  const name = text`connection ${found.slot}`;
  if (subject.kind === 'error') return { name, action: { op: 'related', ...found }, connection: undefined };
  const object = connectionObject(place, subject.protocol, subject.tuple);
  return { name, action: { op: 'nat', ...found }, connection: { ...found, object, name } };
}

function wayOf(subject: NonNullable<Subject>): string {
  return subject.kind === 'error' ? 'an error about it' : 'addresses translated';
}

/** The live connection of a packet seen in this place, or of the packet that an error there quotes. */
function find(view: FlowView, { connections }: Tables, place: Place, subject: NonNullable<Subject>): Found | undefined {
  if (subject.kind === 'conversation') {
    const { protocol, tuple } = subject;
    view.consult(connectionObject(place, protocol, tuple));
    const found = connections.lookup(place, protocol, tuple);
    // For a ping, the request begins a connection and the reply does not.
    const isEcho = protocol === IP_ICMP || protocol === IP_ICMPV6;
    return isEcho && found?.reply === subject.isRequest ? undefined : found;
  }
  const quoted = view.quoted();
  return quoted && connections.lookup(place, quoted.protocol, turned(quoted.tuple));
}

function subjectOf(view: FlowView): Subject {
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
