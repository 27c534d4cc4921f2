/**
 * What policies say of a connection that is open, by its record: as the pipeline says it of a packet that begins one, whether
 * it was translated or not.
 *
 *   egress    of the workload that opened it, if that is on this host. The peer is who it goes to in the end: the backend of a
 *             service, the host outside, weft's DNS.
 *   ingress   of the workload that it goes to, if that is on this host. The peer is who opened it, by its own address. What
 *             weft's own sockets open is not judged.
 *
 * Of a connection between two hosts, each judges its own end.
 */
import { INTERNAL, OUTSIDE, type ConnectionTuples, type Place } from '../flow/connection.ts';
import { bytesId } from '../flow/key.ts';
import { sameBytes } from '../flow/types.ts';
import type { Tables } from './stage.ts';
import { dnsIdentity, type Concerned, type Peer } from '../table/policies.ts';
import type { PolicyJudgement } from '../table/policy/judgement.ts';
import type { PolicyDirection } from '../table/policy/policy.ts';
import { hasPorts } from '../wire/ipv4.ts';

/** An end of a connection. */
export interface ConnectionEnd {
  readonly address: Uint8Array;
  /** `NAMESPACE/NAME` of its workload, if it is one that is known. */
  readonly endpoint: string | undefined;
}

/** Why a connection is not allowed any more. */
export interface Denial {
  readonly direction: PolicyDirection;
  readonly protocol: number;
  /** The destination port; 0 for a protocol without ports. */
  readonly l4Port: number;
  readonly from: ConnectionEnd;
  readonly to: ConnectionEnd;
  readonly judgement: PolicyJudgement;
}

/**
 * Why it is denied, if it is; or that nothing that has changed concerns it.
 * @param concerned undefined: all connections are
 */
export function denialOf(
  connection: ConnectionTuples,
  tables: Pick<Tables, 'policies' | 'topology'>,
  concerned: Concerned | undefined,
): Denial | 'allowed' | 'unconcerned' {
  const { places, protocol, original, translated, via } = connection;
  // Who came in from outside by another host is a stranger here, too.
  const from = peerAt(via ? OUTSIDE : places[0], original.source, tables);
  const to = peerAt(places[1], translated.destination, tables);
  if (concerned && !isConcerned(from, concerned) && !isConcerned(to, concerned)) return 'unconcerned';
  // A workload may always talk to its own address, but not always to itself through a service.
  const isToItself = from.endpoint !== undefined && from.endpoint === to.endpoint;
  if (isToItself && sameBytes(original.destination, to.address)) return 'allowed';

  const denied = (direction: PolicyDirection, subject: Peer, peer: Peer, port: number): Denial | undefined => {
    const set = subject.endpoint === undefined ? undefined : tables.policies.setOf(subject.endpoint, direction);
    const l4Port = hasPorts(protocol) ? port : 0;
    const judgement = set?.judge(peer, protocol, l4Port);
    if (judgement?.verdict !== 'deny') return undefined;
    return { direction, protocol, l4Port, from: endOf(from), to: endOf(to), judgement };
  };
  if (places[1] === INTERNAL) {
    const dns = { address: original.destination, identity: dnsIdentity, endpoint: undefined };
    return denied('egress', from, dns, original.destinationPort) ?? 'allowed';
  }
  if (places[0] === INTERNAL) return 'allowed';
  const port = translated.destinationPort;
  return denied('egress', from, to, port) ?? denied('ingress', to, from, port) ?? 'allowed';
}

function endOf({ address, endpoint }: Peer): ConnectionEnd {
  return { address, endpoint };
}

/**
 * In a network, that is the workload that has the address as its own, or the one behind whose port it is. The address may be
 * routed to another network: that is where it belongs.
 */
function peerAt(
  place: Place,
  address: Uint8Array,
  { policies, topology }: Pick<Tables, 'policies' | 'topology'>,
): Peer {
  if (place === OUTSIDE || place === INTERNAL) return { address, identity: undefined, endpoint: undefined };
  const route = topology.network(place)?.routes.lookup(address).route;
  const home = route?.kind === 'network' ? topology.networkNamed(route.network) : undefined;
  const vni = home?.vni ?? place;
  const peer = policies.peerAt(address, vni);
  return peer.endpoint === undefined ? { ...peer, endpoint: topology.ownerOf(vni, address)?.name } : peer;
}

function isConcerned({ address, endpoint }: Peer, { subjects, addresses }: Concerned): boolean {
  return addresses.has(bytesId(address)) || (endpoint !== undefined && subjects.has(endpoint));
}
