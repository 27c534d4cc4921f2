/**
 * Resets: what weft sends to both ends of a TCP connection whose backend is gone, so that neither waits for the other.
 *
 * Each end gets the segment that the other could have sent: with the sequence number after the last byte that this one
 * has sent, and an acknowledgment of everything that the receiver has sent (RFC 9293 §3.10.7). If not all of that has
 * arrived, the receiver asks with an acknowledgment (RFC 5961 §3.2), which is refused with the number that it expects
 * (`connection.ts`).
 *
 *   to the backend   as the client would have sent it to the service, so that it takes the way of all its segments. It
 *                    must be sent while the connection is still translated.
 *   to the client    from the service, by the port of the client, or by the link to the outside. A connection is translated
 *                    on the host of its client, or where it came in.
 *
 * If a host has gone by which connections came in from outside, the backend alone is told, straight to its port.
 *
 * If a policy refuses a connection that is open, either end may be the one that is on this host, whoever opened it. It is told
 * straight to its port, and the other one as this one would tell it.
 *
 * A reset that goes to another host may be lost, and nobody acknowledges it. So it is sent again (`control/far-resets.ts`), straight
 * into the tunnel, since the connection is not translated any more by then.
 */
import {
  INTERNAL,
  networkOf,
  OUTSIDE,
  SEEN_ACK,
  SEEN_FIN,
  SEEN_RST,
  SEEN_SYN,
  turned,
  type Half,
  type Place,
  type Tuple,
} from '../flow/connection.ts';
import { isIp4, type PortNo, type Vni } from '../flow/types.ts';
import type { Macs } from './hop.ts';
import type { Tables } from './stage.ts';
import { whereIs } from './where-is.ts';
import type { PinnedConnection } from '../table/ended-connections.ts';
import { gatewayMac } from '../table/topology.ts';
import { IP_TCP } from '../wire/ipv4.ts';
import { buildReset } from '../wire/reset.ts';

/** Of `seen`: the sequence number after the last byte is known. */
const KNOWN = SEEN_SYN | SEEN_ACK;

export interface Resets {
  /** Where the client is. */
  readonly port: PortNo;
  readonly toClient: Uint8Array;
  /** As it comes in by that port. */
  readonly toBackend: Uint8Array;
}

/**
 * Undefined if there is nobody to tell: it is not TCP, its client is not on this host any more, or has been told that it is
 * over. A reset that the client has sent says nothing: it may be the one for the backend, from before a crash.
 */
export function resetsOf(connection: PinnedConnection, tables: Tables): Resets | undefined {
  const { protocol, original, halves } = connection;
  const [half, replyHalf] = halves;
  const isOver = (replyHalf.seen & SEEN_RST) !== 0 || (half.seen & replyHalf.seen & SEEN_FIN) !== 0;
  if (protocol !== IP_TCP || isOver) return undefined;
  const client = clientOf(connection, tables);
  if (!client) return undefined;
  const { port, mac, routerMac } = client;
  return {
    port,
    toClient: reset({ source: routerMac, destination: mac }, turned(original), replyHalf, half),
    toBackend: reset({ source: mac, destination: routerMac }, original, half, replyHalf),
  };
}

/** What tells the backend that nothing comes any more from the host by which its client came in; undefined as above. */
export function resetOfBackend(
  { protocol, translated, halves, ...connection }: PinnedConnection,
  { fdb, neighbors }: Tables,
): { readonly port: PortNo; readonly frame: Uint8Array } | undefined {
  const [half, replyHalf] = halves;
  const isOver = ((half.seen | replyHalf.seen) & SEEN_RST) !== 0 || (half.seen & replyHalf.seen & SEEN_FIN) !== 0;
  if (protocol !== IP_TCP || isOver) return undefined;
  const vni = networkOf(connection);
  const mac = neighbors.lookup(vni, translated.destination);
  const where = mac && fdb.lookup(vni, mac)?.where;
  if (where?.kind !== 'port') return undefined;
  return { port: where.port, frame: reset({ source: gatewayMac(vni), destination: mac! }, translated, ...halves) };
}

/** The resets of a connection one of whose ends is on this host, or outside and came in here. */
export interface EndResets {
  /** Where that end is. */
  readonly port: PortNo;
  readonly toNear: Uint8Array;
  /** As it comes in by that port. If the connection is translated, it must be sent while that is open. */
  readonly toFar: Uint8Array;
  /** The same after all translation; it still has the MACs of that port. */
  readonly toFarTranslated: Uint8Array;
}

/** Undefined if it is not TCP, or over, or if neither end is here. */
export function resetsOfEnds(connection: PinnedConnection, tables: Tables): EndResets | undefined {
  const { protocol, places, original, translated, halves } = connection;
  const [half, replyHalf] = halves;
  const isOver = ((half.seen | replyHalf.seen) & SEEN_RST) !== 0 || (half.seen & replyHalf.seen & SEEN_FIN) !== 0;
  if (protocol !== IP_TCP || isOver) return undefined;
  const ends = [
    { place: places[0], tuple: original, farTuple: translated, own: half, other: replyHalf },
    { place: places[1], tuple: turned(translated), farTuple: turned(original), own: replyHalf, other: half },
  ];
  for (const { place, tuple, farTuple, own, other } of ends) {
    const near = behind(place, tuple, places, tables);
    if (!near) continue;
    const { port, mac, routerMac } = near;
    const away = { source: mac, destination: routerMac };
    return {
      port,
      toNear: reset({ source: routerMac, destination: mac }, turned(tuple), other, own),
      toFar: reset(away, tuple, own, other),
      toFarTranslated: reset(away, farTuple, own, other),
    };
  }
  return undefined;
}

/** Where an end is that sends with this tuple, and the MAC that its neighbor has there. */
function behind(
  place: Place,
  { source, destination }: Tuple,
  places: readonly Place[],
  tables: Tables,
): ReturnType<typeof clientOf> {
  const { neighbors, fdb } = tables;
  if (place === OUTSIDE) return outsideOf(tables);
  if (place === INTERNAL) return undefined;
  const vni = place;
  const mac = neighbors.lookup(vni, source);
  const where = mac && fdb.lookup(vni, mac)?.where;
  if (where?.kind !== 'port') return undefined;
  // In one network they may be neighbors, without a gateway.
  const neighbor = places[0] === places[1] ? neighbors.lookup(vni, destination) : undefined;
  return { port: where.port, mac: mac!, routerMac: neighbor ?? gatewayMac(vni) };
}

/** What tells the end of a connection that is on another host. */
export interface FarReset {
  readonly vtep: Uint8Array;
  readonly vni: Vni;
  readonly frame: Uint8Array;
}

/** Undefined if no end of it is behind the tunnel. */
export function farResetOf(connection: PinnedConnection, tables: Tables): FarReset | undefined {
  const { protocol, places, via, original, translated, halves } = connection;
  const [half, replyHalf] = halves;
  if (protocol !== IP_TCP || places.includes(INTERNAL)) return undefined;
  const vni = networkOf(connection);
  const to = (at: ReturnType<typeof whereIs>, tuple: Tuple, own: Half, other: Half): FarReset | undefined => {
    if (at?.where.kind !== 'vtep') return undefined;
    const macs = { source: gatewayMac(at.vni), destination: at.mac };
    return { vtep: at.where.vtep, vni: at.vni, frame: reset(macs, tuple, own, other) };
  };
  const toBackend = to(whereIs(vni, translated.destination, tables), translated, half, replyHalf);
  if (toBackend || places[0] === OUTSIDE) return toBackend;
  const hostMac = via && tables.topology.vteps.get(via)?.hostMac;
  const entered = hostMac && { vni, mac: hostMac, where: { kind: 'vtep', vtep: via } as const };
  return to(via ? entered : whereIs(vni, original.source, tables), turned(original), replyHalf, half);
}

function outsideOf({ topology: { outside } }: Tables): ReturnType<typeof clientOf> {
  return outside && { port: outside.portNo, mac: outside.hostMac, routerMac: outside.mac };
}

/** Where the client is: behind a port with this MAC, where weft has the other one. */
function clientOf(
  connection: PinnedConnection,
  tables: Tables,
): { readonly port: PortNo; readonly mac: Uint8Array; readonly routerMac: Uint8Array } | undefined {
  const { places, original } = connection;
  const { neighbors, fdb } = tables;
  if (places[0] === OUTSIDE) return outsideOf(tables);
  const vni = networkOf(connection);
  const mac = neighbors.resolve(vni, original.source);
  if (mac === undefined || mac === 'failed') return undefined;
  const where = fdb.lookup(vni, mac)?.where;
  return where?.kind === 'port' ? { port: where.port, mac, routerMac: gatewayMac(vni) } : undefined;
}

/** @param half of whom it seems to come from @param other of whom it goes to */
function reset(macs: Macs, tuple: Tuple, half: Half, other: Half): Uint8Array {
  const isHeard = (half.seen & KNOWN) !== 0;
  const { source, destination, sourcePort, destinationPort } = tuple;
  const begin = isIp4(source) ? 12 : 0;
  return buildReset(macs, {
    source: source.subarray(begin),
    destination: destination.subarray(begin),
    sourcePort,
    destinationPort,
    sequence: isHeard ? half.end : 0,
    acknowledgment: (other.seen & KNOWN) !== 0 ? other.end : undefined,
  });
}
