/** What a decision asks for when a connection is missing: who opens it, to whom, and what is to be translated. */
import { INTERNAL, OUTSIDE, type Place, type Tuple } from '../flow/connection.ts';
import type { Treatment } from '../flow/treatment.ts';
import { sameBytes, type PortNo, type Vni } from '../flow/types.ts';
import type { ClientOrigin } from './service-keys.ts';
import type { Choice } from './service-choices.ts';

/** How many source ports are tried if the client's own one is taken. */
const SOURCE_PORTS_TRIED = 16;
const FIRST_PORT = 1024;

/** By an endpoint: its source becomes `address`, with a port chosen for it. */
export interface OutwardOpening {
  readonly vni: Vni;
  readonly protocol: number;
  readonly original: Tuple;
  readonly address: Uint8Array;
  /** Through a service: the backend outside that its destination becomes. */
  readonly choice?: Choice | undefined;
}

/**
 * By a client to a service: its destination becomes the backend that was chosen. Or to the address of a backend, from a port
 * with which the client has reached it through a service: then its source port becomes another one.
 */
export interface ServiceOpening {
  /** The client's network; for a client outside, that of the backend. */
  readonly vni: Vni;
  readonly isFromOutside?: boolean;
  readonly protocol: number;
  readonly original: Tuple;
  readonly choice: Choice | undefined;
  /** Where the replies of the backend come in. */
  readonly replies: Vni;
  /** Instead of the client's own address. */
  readonly seenAs?: Uint8Array | undefined;
}

/** From outside to a backend of this host, by another host: nothing is translated here. */
interface EntryOpening {
  readonly vni: Vni;
  readonly protocol: number;
  readonly original: Tuple;
  /** The VTEP of that host. */
  readonly via: Uint8Array;
}

/** A translated connection to be opened. */
export type Opening = {
  /** What hooks have set for it. */
  readonly treatment?: Treatment | undefined;
  /** Where it comes in; undefined: not by a port of an endpoint of this host. */
  readonly port?: PortNo | undefined;
} & (
  | OutwardOpening
  | ServiceOpening
  | EntryOpening
  /** From outside: its destination becomes the endpoint. */
  | { readonly vni: Vni; readonly protocol: number; readonly original: Tuple; readonly translated: Tuple }
  /** By a client to a socket of weft: its destination becomes `socket`, its source an address of the client. */
  | {
      readonly vni: Vni;
      readonly protocol: number;
      readonly original: Tuple;
      readonly socket: Uint8Array;
      readonly client: number;
    }
  /** By a socket of weft to a client: its source becomes the gateway, its destination the endpoint. */
  | {
      readonly vni: Vni;
      readonly protocol: number;
      readonly original: Tuple;
      readonly translated: Tuple;
      readonly from: typeof INTERNAL;
    }
);

/** The backend that was chosen for it; undefined if it has no choice. */
export function choiceOf(opening: Opening): Choice | undefined {
  return 'choice' in opening ? opening.choice : undefined;
}

/** The address that the host lends its client outside; undefined if that keeps its own. */
export function lentBy(opening: Opening): Uint8Array | undefined {
  return 'seenAs' in opening && opening.isFromOutside ? opening.seenAs : undefined;
}

/** Where packets of its original direction come in, and those of its replies. */
export function placesOf(opening: Opening): readonly [Place, Place] {
  if ('from' in opening) return [opening.from, opening.vni];
  if ('socket' in opening) return [opening.vni, INTERNAL];
  if ('via' in opening) return [opening.vni, opening.vni];
  if ('replies' in opening) return [clientOriginOf(opening), opening.replies];
  return 'address' in opening ? [opening.vni, OUTSIDE] : [OUTSIDE, opening.vni];
}

/** The address of the container that it will belong to. */
export function endpointOfOpening(opening: Opening): Uint8Array {
  if ('translated' in opening) return opening.translated.destination;
  if ('via' in opening) return opening.original.destination;
  return 'replies' in opening && opening.isFromOutside && opening.choice
    ? opening.choice.backend.address
    : opening.original.source;
}

/**
 * What the packets of a client become, with its own port first, then with others. The client keeps its address, unless it is
 * the backend itself: then it becomes the address of the service, so that the replies come back.
 * @param isTaken the own port is known to be of no use
 */
export function* toBackend({ original, choice, seenAs }: ServiceOpening, isTaken = false): Generator<Tuple> {
  const destination = choice?.backend.address ?? original.destination;
  const destinationPort = choice?.l4Port ?? original.destinationPort;
  const source = seenAs ?? (sameBytes(original.source, destination) ? original.destination : original.source);
  for (let turn = isTaken || !choice ? 1 : 0; turn < SOURCE_PORTS_TRIED; turn++) {
    yield { source, sourcePort: sourcePortOf(original.sourcePort, turn), destination, destinationPort };
  }
}

/** The port of the client, then others beyond the well-known ones, far from each other. */
function sourcePortOf(own: number, turn: number): number {
  return turn === 0 ? own : FIRST_PORT + ((own + turn * 7919) % (65_536 - FIRST_PORT));
}

/** Where the client is that opens it, unless that is weft itself. */
export function clientOriginOf(opening: Opening): ClientOrigin {
  return 'replies' in opening && opening.isFromOutside ? OUTSIDE : opening.vni;
}
