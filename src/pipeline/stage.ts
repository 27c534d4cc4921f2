/**
 * What every stage of the pipeline has in common.
 *
 * A stage is a function `(view, known) → StageResult`. `known` is what the stages before it have found, the
 * tables included; what it finds itself it adds. It reads the flow through the view only and changes nothing:
 * what it wants to happen (a MAC learned, a reply sent) it returns as an effect. So the same code decides for
 * traffic, for `weft trace`, and when cached flows are decided anew.
 *
 * The result may be kept for as long as the flow: it holds nothing of the view.
 */
import type { Action } from '../flow/action.ts';
import type { DropReason } from '../flow/reason.ts';
import type { PortNo, Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { ConnectionTable, Found, Opening } from '../table/connections.ts';
import { fdbObject, type Fdb, type FdbEntry, type Location } from '../table/fdb.ts';
import type { NeighborTable } from '../table/neighbor.ts';
import type { Topology } from '../table/topology.ts';
import type { IcmpErrorName } from '../wire/icmp-error.ts';
import type { Hop, Way } from './hop.ts';
import type { FrameOrigin } from './origin.ts';
import type { Text } from './text.ts';

export interface Tables {
  readonly topology: Topology;
  readonly fdb: Fdb;
  readonly neighbors: NeighborTable;
  readonly connections: ConnectionTable;
}

/** What ingress begins with. */
export interface Known {
  readonly tables: Tables;
}

/** What is known behind ingress. */
export interface Entered extends Known {
  readonly origin: FrameOrigin;
}

/** What is known behind route. */
export interface Routed extends Entered {
  readonly way: Way;
  readonly nat: Nat | undefined;
}

/** What is known behind bridge. */
export interface Bridged extends Entered {
  readonly nat: Nat | undefined;
  readonly hop: Hop;
}

/** The connection by which a packet is translated. */
export interface Nat {
  readonly action: { readonly op: 'nat' | 'related' } & Found;
  /** Of a packet of the connection itself, not of an error about it. */
  readonly connection: ConnectionUse | undefined;
  /** How the texts call it. */
  readonly name: Text;
}

/** The connection that a packet is of, and what a decision about the packet says of it. */
export interface ConnectionUse extends Found {
  /** Its name among the objects that were consulted. */
  readonly object: string;
  /** How the texts of the stages call it: equal decisions about other connections call theirs otherwise. */
  readonly name: Text;
}

export type Effect =
  /** The source MAC was seen behind `where`. */
  | { readonly kind: 'learn'; readonly vni: Vni; readonly mac: Uint8Array; readonly where: Location }
  /** `mac` has `ip`: it has answered, which counts each time, or it is news. So such a decision is never cached. */
  | { readonly kind: 'neighbor'; readonly vni: Vni; readonly ip: Uint8Array; readonly mac: Uint8Array }
  | Reply;

/** What every frame needs for itself. Such a decision is never cached. */
export type Reply =
  /** weft answers by a frame of its own. */
  | { readonly kind: 'reply'; readonly port: PortNo; readonly frame: Uint8Array }
  /** The sender is told why its frame was dropped. */
  | {
      readonly kind: 'icmp_error';
      readonly port: PortNo;
      readonly error: IcmpErrorName;
      readonly from: { readonly mac: Uint8Array; readonly ip: Uint8Array };
      /** Of `too_big`, in bytes. */
      readonly mtu?: number;
    };

export interface NeighborName {
  readonly vni: Vni;
  readonly ip: Uint8Array;
}

export interface Drop {
  readonly kind: 'drop';
  readonly because: Text;
  readonly reason: DropReason;
  readonly answer?: Reply;
}

/** What ends the way through the stages. */
export type Verdict =
  | Drop
  /** Undecided until this neighbor is known: the frame waits. */
  | { readonly kind: 'wait'; readonly because: Text; readonly neighbor: NeighborName }
  /** Undecided until this connection is open, which it can be. */
  | { readonly kind: 'connect'; readonly because: Text; readonly opening: Opening }
  | {
      readonly kind: 'decide';
      readonly because: Text;
      readonly actions: readonly Action[];
      readonly effects?: readonly Effect[];
      readonly connection?: ConnectionUse | undefined;
    };

/** What a stage says: that the next one decides, by what is known now, or a verdict. */
export type StageResult<Found> =
  | { readonly kind: 'next'; readonly because: Text; readonly known: Found; readonly effects: readonly Effect[] }
  | Verdict;

export type Stage<Given, Found> = (view: FlowView, known: Given) => StageResult<Found>;

/** Where a MAC address is, consulted whether it is known or not. */
export function locate(view: FlowView, { fdb }: Tables, vni: Vni, mac: Uint8Array): FdbEntry | undefined {
  const entry = fdb.lookup(vni, mac);
  view.consult(entry?.object ?? fdbObject(vni, mac));
  return entry;
}

export function next<Found>(because: Text, known: Found, effects: readonly Effect[] = nothing): StageResult<Found> {
  return { kind: 'next', because, known, effects };
}

const nothing: readonly Effect[] = [];

export function drop(reason: DropReason, because: Text): Drop {
  return { kind: 'drop', reason, because };
}

/** What the first of these rules says that refuses it; undefined if none does. */
export function firstRefusal<T extends readonly unknown[]>(
  rules: readonly ((...subject: T) => Drop | undefined)[],
  ...subject: T
): Drop | undefined {
  for (const rule of rules) {
    const refused = rule(...subject);
    if (refused) return refused;
  }
  return undefined;
}
