/** What `weft connections` shows. */
import type { Endpoint } from '../cluster/endpoint.ts';
import { formatEnd, INTERNAL, isInternal, networkOf, OUTSIDE, protocolName, type Place } from '../flow/connection.ts';
import { formatIp, type Vni } from '../flow/types.ts';
import { idOf, nameOf } from '../model/name.ts';
import type { ConnectionReport } from '../model/report.ts';
import type { ConnectionEntry } from '../table/connection-entries.ts';
import type { ConnectionTable } from '../table/connections.ts';
import { endpointOf, isFromInside, isToService } from '../table/connection-ways.ts';
import type { Services } from '../table/services.ts';
import type { Topology } from '../table/topology.ts';
import { inTurns } from '../turns.ts';
import { fullName } from './judgement.ts';

/** Which connections; all of them if nothing is given. */
export interface ConnectionFilter {
  /** The endpoint at one end, by `idOf`. */
  readonly endpoint?: string | undefined;
  /** The service that it was opened through, NAMESPACE/NAME. */
  readonly service?: string | undefined;
  /** A network that its packets come in from. */
  readonly network?: string | undefined;
}

export interface ConnectionsQuestion {
  readonly tables: {
    readonly connections: ConnectionTable;
    readonly topology: Topology;
    readonly services: Pick<Services, 'kept' | 'pinned' | 'find' | 'findPublished'>;
  };
  readonly endpoints: readonly Pick<Endpoint, 'name' | 'addresses' | 'resource'>[];
  readonly of?: ConnectionFilter | undefined;
  /** Milliseconds. */
  readonly clock: () => number;
}

/** How many connections one turn of the event loop looks at. */
export const TURN_CONNECTIONS = 1024;

/**
 * Reports some connections in each turn, since there can be many. Those that come or go in the meantime may or may not
 * be included.
 */
export async function* reportConnections(question: ConnectionsQuestion): AsyncGenerator<ConnectionReport> {
  const names = namesOf(question);
  const { of: { endpoint, service, network } = {} } = question;
  for await (const entry of inTurns(question.tables.connections.entries(), TURN_CONNECTIONS)) {
    if (network !== undefined && !networksOf(entry, question).includes(network)) continue;
    const ends = endsOf(entry, names, question);
    if (endpoint !== undefined && ends.from !== endpoint && ends.to !== endpoint) continue;
    const report = reportConnection(entry, ends, question);
    if (service === undefined || report.service?.name === service) yield report;
  }
}

/** The connection in that slot; undefined if there is none. */
export function reportConnectionAt(slot: number, question: ConnectionsQuestion): ConnectionReport | undefined {
  const entry = question.tables.connections.entry(slot);
  return entry && reportConnection(entry, endsOf(entry, namesOf(question), question), question);
}

/** The name of the endpoint at an address of a network, by `NETWORK/ADDRESS`. */
type Names = ReadonlyMap<string, string>;

function namesOf({ endpoints }: Pick<ConnectionsQuestion, 'endpoints'>): Names {
  const names = new Map<string, string>();
  for (const { name, addresses, resource } of endpoints) {
    for (const address of addresses) names.set(`${resource.spec.network}/${address}`, name);
  }
  return names;
}

/** The names of those that its packets come in from. */
function networksOf(
  { places }: ConnectionEntry,
  { tables: { topology } }: ConnectionsQuestion,
): (string | undefined)[] {
  return places.map((place) => (isNetwork(place) ? topology.network(place)?.name : undefined));
}

function isNetwork(place: Place): place is Vni {
  return place !== OUTSIDE && place !== INTERNAL;
}

/** Who is at both ends, by `idOf`. */
interface Ends {
  readonly network: string | null;
  readonly endpoint: string | null;
  readonly from: string | null;
  readonly to: string | null;
}

function endsOf(entry: ConnectionEntry, names: Names, question: ConnectionsQuestion): Ends {
  const { places, original, translated } = entry;
  const at = (place: Place, address: Uint8Array): string | null => {
    if (!isNetwork(place)) return null;
    const network = question.tables.topology.network(place);
    // What is routed from host to host comes in where it came from.
    const route = network?.routes.lookup(address).route;
    const name = route?.kind === 'network' ? route.network : network?.name;
    return name === undefined ? null : (names.get(`${name}/${formatIp(address)}`) ?? null);
  };
  const network = question.tables.topology.network(networkOf(entry))?.name ?? null;
  return {
    network,
    endpoint: names.get(`${network}/${formatIp(endpointOf(entry))}`) ?? null,
    from: at(places[0], original.source),
    to: backendOf(entry, question) ?? at(places[1], translated.destination),
  };
}

/** The backend that was chosen, which may be in another network than the one where its replies come in. */
function backendOf({ slot, pin }: ConnectionEntry, { tables: { services } }: ConnectionsQuestion): string | undefined {
  const chosen = pin === undefined ? undefined : services.kept(slot)?.selection.candidates;
  const endpoint = chosen?.find(({ pinned }) => pinned.pin === pin)?.backend.endpoint;
  return endpoint === undefined ? undefined : idOf(nameOf(endpoint));
}

/** The service that it was opened through, and its port there. */
function serviceOf(
  { slot, pin, places, protocol, original }: ConnectionEntry,
  { services }: ConnectionsQuestion['tables'],
): ConnectionReport['service'] {
  const owner = pin === undefined ? undefined : services.pinned(pin)?.service;
  if (owner === undefined) return null;
  // A route may have led to a backend of another service.
  const name = services.kept(slot)?.route?.service ?? owner;
  const found =
    places[0] === OUTSIDE
      ? services.findPublished(protocol, original.destinationPort)
      : services.find(original.destination, protocol, original.destinationPort);
  if (found?.service.id !== name) return { name, port: String(original.destinationPort) };
  return { name, port: found.port.name || String(found.port.l4Port + found.offset) };
}

function reportConnection(entry: ConnectionEntry, ends: Ends, question: ConnectionsQuestion): ConnectionReport {
  const { original, translated } = entry;
  const nowMs = question.clock();
  const { from, to, ...owner } = ends;
  return {
    id: `c${entry.slot}`,
    protocol: protocolName(entry.protocol),
    state: entry.state,
    direction: directionOf(entry),
    ...owner,
    from: from === null ? null : fullName(from),
    to: to === null ? null : fullName(to),
    ...(entry.via && { via: formatIp(entry.via) }),
    service: serviceOf(entry, question.tables),
    ...treatedAs(entry),
    source: formatEnd(original.source, original.sourcePort),
    destination: formatEnd(original.destination, original.destinationPort),
    translatedSource: formatEnd(translated.source, translated.sourcePort),
    translatedDestination: formatEnd(translated.destination, translated.destinationPort),
    packets: entry.packets,
    bytes: entry.bytes,
    replyPackets: entry.replyPackets,
    replyBytes: entry.replyBytes,
    idleMs: Math.max(0, Math.round(nowMs - entry.lastSeenMs)),
    expiresInMs: Math.max(0, Math.round(entry.expiresAtMs - nowMs)),
  };
}

function treatedAs({ treatment }: ConnectionEntry): Pick<ConnectionReport, 'mark' | 'dscp' | 'rate'> {
  const { mark = 0, dscp, meter } = treatment ?? {};
  const { kbits = 0, packets = 0 } = meter ?? {};
  const rate = {
    ...(kbits > 0 && { bitsPerSecond: kbits * 1000 }),
    ...(packets > 0 && { packetsPerSecond: packets }),
  };
  return { ...(mark > 0 && { mark }), ...(dscp !== undefined && { dscp }), ...(meter && { rate }) };
}

function directionOf(entry: ConnectionEntry): ConnectionReport['direction'] {
  if (entry.kind === 'tracked') return 'internal';
  if (isInternal(entry)) return 'gateway';
  if (isToService(entry)) return entry.pin === undefined ? 'internal' : 'service';
  return isFromInside(entry) ? 'outbound' : 'published';
}
