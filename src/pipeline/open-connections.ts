/**
 * What policies say of a connection that is open, by its record: as the pipeline says it of a packet that begins one, whether
 * it was translated or not.
 *
 *   egress    of the workload that opened it, if that is on this host. The peer is who it goes to in the end: the backend of a
 *             service, the host outside, weft's DNS.
 *   ingress   of the workload that it goes to, if that is on this host. The peer is who opened it, by its own address; who came
 *             from outside, by the one that the host has lent it, if it has. What weft's own sockets open is not judged.
 *
 * The workload is the one behind whose port the end is, whatever its address: a router has packets of others, and an address may
 * be shared (`subjectsOf`). Of a connection between two hosts, each judges its own end.
 */
import { INTERNAL, OUTSIDE, type ConnectionRecords, type ConnectionTuples, type Place } from '../flow/connection.ts';
import { fields } from '../flow/fields.ts';
import { bytesId, readBytes, readNumber, type FlowKey } from '../flow/key.ts';
import { sameBytes, type PortNo, type Vni } from '../flow/types.ts';
import { wasTracked } from '../table/ended-connections.ts';
import { homeBehind, isBehind } from './policy.ts';
import type { Tables } from './stage.ts';
import { whereIs } from './where-is.ts';
import { DNS_NAMESPACE, type Concerned, type Peer, type PolicyLookup } from '../table/policies.ts';
import type { JudgedEnd, PolicyJudgement } from '../table/policy/judgement.ts';
import type { PolicyDirection } from '../table/policy/policy.ts';
import { hasPorts } from '../wire/ipv4.ts';

/** An end of a connection. */
export interface ConnectionEnd {
  readonly address: Uint8Array;
  /** The name of its workload (`idOf`), if it is one that is known. */
  readonly endpoint: string | undefined;
}

/** What policies are asked about: who talks to whom. */
export interface PolicyCase {
  readonly protocol: number;
  /** The destination port, after all translation; 0 for a protocol without ports. */
  readonly l4Port: number;
  readonly from: ConnectionEnd;
  readonly to: ConnectionEnd;
}

/** What the policies of one end say. */
export interface JudgedDirection {
  readonly direction: PolicyDirection;
  readonly judgement: PolicyJudgement;
}

/** What policies say of it: of its sender, then of its receiver. Whom none selects is left out. */
export interface JudgedCase extends PolicyCase {
  readonly judged: readonly JudgedDirection[];
}

/** Why a connection is not allowed any more, or a packet may not begin one. */
export interface Denial extends PolicyCase, JudgedDirection {
  /** Where it came in; undefined: in no place that is known. */
  readonly place: Place | undefined;
  /** The address that its sender means, which of a service is another one than its backend has; and the port there. */
  readonly meant: Uint8Array;
  readonly meantPort: number | undefined;
}

/** Whose policies are asked: the names of ports of this host; undefined if it is behind none. Else, who has the address. */
export interface Subjects {
  readonly from: string | undefined | typeof BY_ADDRESS;
  readonly to: string | undefined | typeof BY_ADDRESS;
  /** It came from somebody else behind the port than who has its address. */
  readonly isBehind: boolean;
}
const BY_ADDRESS = Symbol('by address');
const byAddress: Subjects = { from: BY_ADDRESS, to: BY_ADDRESS, isBehind: false };

/**
 * The ports behind which the ends are, as the pipeline finds them: the port that the connection came in by, and the one
 * behind which the next hop is known.
 * @param slot that of the connection
 */
export function subjectsOf(
  connection: ConnectionTuples,
  slot: number,
  records: Pick<ConnectionRecords, 'owner' | 'port'>,
  tables: Pick<Tables, 'topology' | 'neighbors' | 'fdb'>,
): Subjects {
  const { topology } = tables;
  const { kind, places, original } = connection;
  const isTracked = kind === 'tracked' || wasTracked(connection);
  const cameInBy = (isTracked ? records.owner(slot) : records.port(slot)) as PortNo;
  const known = topology.port(cameInBy);
  // Only those that are tracked end with their port: another one may have its number by now.
  const isIts =
    isTracked || (known?.vni === places[0] && (known.trust || topology.maySendFrom(cameInBy, original.source)));
  return subjectsBy(connection, cameInBy !== 0 && isIts ? cameInBy : undefined, tables);
}

/** @param cameInBy the port that the connection came in by; undefined: by none that is known, so the address says who its sender is */
export function subjectsBy(
  { places, original, translated }: ConnectionTuples,
  cameInBy: PortNo | undefined,
  tables: Pick<Tables, 'topology' | 'neighbors' | 'fdb'>,
): Subjects {
  const { topology } = tables;
  const port = cameInBy === undefined ? undefined : topology.port(cameInBy);
  const isOfOther = port !== undefined && isBehind(port, original.source);
  const from = cameInBy === undefined ? BY_ADDRESS : port?.name;
  const place = places[1];
  const isNetwork = place !== OUTSIDE && place !== INTERNAL;
  const where = isNetwork ? whereIs(place, translated.destination, tables)?.where : undefined;
  if (!where) return { from, to: BY_ADDRESS, isBehind: isOfOther };
  return { from, to: where.kind === 'port' ? topology.port(where.port)?.name : undefined, isBehind: isOfOther };
}

/** What is allowed, but would be denied if staged policies were in force. */
export interface StagedDenial {
  readonly staged: Denial;
}

/** What has to be known: policies, be they in force or proposed, and the networks. */
export interface JudgingTables {
  readonly policies: PolicyLookup;
  readonly topology: Tables['topology'];
}

/**
 * Why it is denied, if it is; or that nothing that has changed concerns it.
 * @param concerned undefined: all connections are
 */
export function denialOf(
  connection: ConnectionTuples,
  tables: JudgingTables,
  concerned: Concerned | undefined,
  subjects = byAddress,
): Denial | StagedDenial | 'allowed' | 'unconcerned' {
  const talk = partiesOf(connection, tables, subjects);
  const isDns = talk.places[1] === INTERNAL && concerned?.namespaces.has(DNS_NAMESPACE);
  if (concerned && !isDns && !isConcerned(talk.from, concerned) && !isConcerned(talk.to, concerned))
    return 'unconcerned';
  const judgedCase = judgeParties(talk, tables.policies);
  const told = ({ direction, judgement }: JudgedDirection): Denial => {
    const { protocol, l4Port, from, to } = judgedCase;
    const { meant, meantPort, places } = talk;
    return { protocol, l4Port, from, to, direction, judgement, place: places[0], meant, meantPort };
  };
  for (const one of judgedCase.judged) if (one.judgement.verdict === 'deny') return told(one);
  for (const one of judgedCase.judged) if (one.judgement.staged) return { staged: told(one) };
  return 'allowed';
}

export function isDenied(found: ReturnType<typeof denialOf>): found is Denial {
  return typeof found === 'object' && !('staged' in found);
}

/** All that policies say of it. */
export function judgeConnection(connection: ConnectionTuples, tables: JudgingTables): JudgedCase {
  return judgeParties(partiesOf(connection, tables), tables.policies);
}

/** An end: who it is to the other one, and whose policies are asked of it. */
export interface Party extends Peer {
  readonly subject: string | undefined;
  /** What its policies are, if that is not to be asked by the name of the subject. */
  readonly setOf?: ((direction: PolicyDirection) => ReturnType<PolicyLookup['setOf']>) | undefined;
}

/** Who talks to whom: all that policies are asked about. */
export interface Parties extends Pick<PolicyCase, 'protocol' | 'l4Port'> {
  readonly places: readonly [Place, Place];
  readonly from: Party;
  readonly to: Party;
  /** The address that the sender means, which of a service is another one than its backend has; and the port there. */
  readonly meant: Uint8Array;
  readonly meantPort?: number | undefined;
}

/** The ends of a connection. A sweep asks for hundreds of thousands, so it makes no more than it returns. */
export function partiesOf(
  { places, protocol, original, translated, via }: ConnectionTuples,
  tables: JudgingTables,
  { from, to, isBehind: isOfOther } = byAddress,
): Parties {
  // Who came in from outside by another host is a stranger here, too.
  const place = via ? OUTSIDE : places[0];
  const sender = peerAt(place, places[0] === OUTSIDE ? translated.source : original.source, tables);
  const port = places[1] === INTERNAL ? original.destinationPort : translated.destinationPort;
  return {
    places: place === places[0] ? places : [place, places[1]],
    protocol,
    l4Port: hasPorts(protocol) ? port : 0,
    // So is who is behind a trusted port that does not have the address.
    from: partyOf(isOfOther ? { address: sender.address, identity: undefined, endpoint: undefined } : sender, from),
    to: partyOf(peerAt(places[1], translated.destination, tables), to),
    meant: original.destination,
    meantPort: original.destinationPort,
  };
}

function partyOf({ address, identity, endpoint }: Peer, subject: Subjects['from']): Party {
  return { address, identity, endpoint, subject: subject === BY_ADDRESS ? endpoint : subject };
}

/** What policies say of who talks to whom. */
export function judgeParties(parties: Parties, policies: PolicyLookup): JudgedCase {
  const { places, protocol, l4Port, from, to, meant } = parties;
  const isToWeft = places[1] === INTERNAL;
  const judged: JudgedDirection[] = [];
  const isOfWorkload = from.subject !== undefined && from.subject === to.subject;
  // A workload may always talk to its own address, but not always to itself through a service.
  const isToItself = isOfWorkload && sameBytes(meant, to.address);
  if (isToWeft && !isToItself) {
    const weft = { address: meant, identity: policies.dns, endpoint: undefined };
    judge(judged, 'egress', from, weft, parties, policies);
  } else if (places[0] !== INTERNAL && !isToItself) {
    judge(judged, 'egress', from, to, parties, policies);
    judge(judged, 'ingress', to, from, parties, policies);
  }
  return { protocol, l4Port, from: endOf(from), to: endOf(to), judged };
}

/** Adds what the policies of a party say, if there are any. */
function judge(
  judged: JudgedDirection[],
  direction: PolicyDirection,
  { subject, setOf }: Party,
  peer: Peer,
  { protocol, l4Port }: Pick<PolicyCase, 'protocol' | 'l4Port'>,
  policies: PolicyLookup,
): void {
  if (subject === undefined) return;
  const set = setOf ? setOf(direction) : policies.setOf(subject, direction);
  if (set) judged.push({ direction, judgement: set.judge(peer, protocol, l4Port) });
}

/** The same of a packet that begins a connection, as policies have judged it, whether or not they ask who the peer is. */
export function denialOfPacket(key: FlowKey, judged: JudgedEnd, tables: JudgingTables): Denial {
  const { direction, subject, address, target, judgement } = judged;
  const place = placeOfPacket(key, tables);
  const endpoint = judged.endpoint ?? (place === undefined ? undefined : peerAt(place, address, tables).endpoint);
  const protocol = readNumber(key, fields.ip_proto);
  const l4Port = hasPorts(protocol) ? (target?.l4Port ?? readNumber(key, fields.l4_dst)) : 0;
  const peer = { address: address.slice(), endpoint };
  const own =
    direction === 'egress' ? readBytes(key, fields.ip_src) : (target?.address ?? readBytes(key, fields.ip_dst));
  const of = { address: own.slice(), endpoint: subject };
  const [from, to] = direction === 'egress' ? [of, peer] : [peer, of];
  const meant = readBytes(key, fields.ip_dst).slice();
  const meantPort = hasPorts(protocol) ? readNumber(key, fields.l4_dst) : 0;
  return { direction, protocol, l4Port, from, to, judgement, place, meant, meantPort };
}

/** Where the addresses of a packet are meaningful; undefined if it comes from no network. */
export function placeOfPacket(key: FlowKey, { topology }: Pick<Tables, 'topology'>): Place | undefined {
  const portNo = readNumber(key, fields.in_port) as PortNo;
  const vni = topology.port(portNo)?.vni ?? (readNumber(key, fields.tun_vni) as Vni);
  if (topology.network(vni)) return vni;
  if (portNo === topology.outside?.portNo) return OUTSIDE;
  return portNo === topology.internal?.portNo ? INTERNAL : undefined;
}

function endOf({ address, endpoint, subject }: Party): ConnectionEnd {
  return { address, endpoint: endpoint ?? subject };
}

/**
 * In a network, that is the workload that has the address as its own, or the one behind whose port it is. The address may be
 * routed to another network: that is where it belongs.
 */
export function peerAt(place: Place, address: Uint8Array, { policies, topology }: JudgingTables): Peer {
  if (place === OUTSIDE || place === INTERNAL) return { address, identity: undefined, endpoint: undefined };
  const network = topology.network(place);
  const vni = network ? homeBehind(network.routes.lookup(address).route, network, topology).vni : place;
  const peer = policies.peerAt(address, vni);
  return peer.endpoint === undefined ? { ...peer, endpoint: topology.ownerOf(vni, address)?.name } : peer;
}

function isConcerned({ address, subject, identity }: Party, { subjects, addresses, namespaces }: Concerned): boolean {
  if (subject !== undefined && subjects.has(subject)) return true;
  if (identity && namespaces.has(identity.namespace)) return true;
  return addresses.size > 0 && addresses.has(bytesId(address));
}
