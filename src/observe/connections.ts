/** What `weft connections` shows. */
import type { Endpoint } from '../cluster/endpoint.ts';
import { formatEnd, isInternal, networkOf, protocolName } from '../flow/connection.ts';
import { formatIp } from '../flow/types.ts';
import type { ConnectionReport } from '../model/report.ts';
import {
  endpointOf,
  isFromInside,
  isToService,
  type ConnectionEntry,
  type ConnectionTable,
} from '../table/connections.ts';
import type { Topology } from '../table/topology.ts';
import { inTurns } from '../turns.ts';

export interface ConnectionsQuestion {
  readonly tables: { readonly connections: ConnectionTable; readonly topology: Topology };
  readonly endpoints: readonly Pick<Endpoint, 'name' | 'addresses' | 'resource'>[];
  /** True to include connections that belong to none of `endpoints`. */
  readonly hasOthers: boolean;
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
  const { tables, endpoints, hasOthers, clock } = question;
  const names = new Map<string, string>();
  for (const { name, addresses, resource } of endpoints) {
    for (const address of addresses) names.set(`${resource.spec.network}/${address}`, name);
  }
  for await (const entry of inTurns(tables.connections.entries(), TURN_CONNECTIONS)) {
    const network = tables.topology.network(networkOf(entry))?.name ?? null;
    const endpoint = names.get(`${network}/${formatIp(endpointOf(entry))}`) ?? null;
    if (hasOthers || endpoint !== null) yield reportConnection(entry, { network, endpoint }, clock());
  }
}

function reportConnection(
  entry: ConnectionEntry,
  owner: Pick<ConnectionReport, 'network' | 'endpoint'>,
  nowMs: number,
): ConnectionReport {
  const { original, translated } = entry;
  return {
    id: entry.slot,
    protocol: protocolName(entry.protocol),
    state: entry.state,
    direction: directionOf(entry),
    ...owner,
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

function directionOf(entry: ConnectionEntry): ConnectionReport['direction'] {
  if (entry.kind === 'tracked') return 'internal';
  if (isInternal(entry)) return 'gateway';
  if (isToService(entry)) return 'service';
  return isFromInside(entry) ? 'outbound' : 'published';
}
