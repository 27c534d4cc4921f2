/**
 * What every stage of the pipeline has in common.
 *
 * A stage is a function `(view, context) → StageResult`. It reads the flow
 * through the view only, the tables through the context only, and changes
 * neither: what it wants to happen (a MAC learned, a reply sent) it returns as
 * an effect. So the same code decides for traffic, for `weft trace`, and when
 * cached flows are decided anew.
 *
 * The result may be kept for as long as the flow: it holds nothing of the view.
 */
import type { Action } from '../flow/action.ts';
import type { DropReason } from '../flow/reason.ts';
import type { PortNo, Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { fdbObject, type Fdb, type FdbEntry, type Location } from '../table/fdb.ts';
import type { ConnectionTable, Found, Opening } from '../table/connections.ts';
import type { NeighborTable } from '../table/neighbor.ts';
import type { AccessPort, VirtualNetwork, Outside, Segment, Topology } from '../table/topology.ts';
import type { IcmpErrorName } from '../wire/icmp-error.ts';
import type { Text } from './text.ts';

export interface Tables {
  readonly topology: Topology;
  readonly fdb: Fdb;
  readonly neighbors: NeighborTable;
  readonly connections: ConnectionTable;
}

/** What one decision knows so far; each part is set by the stage that finds it. */
export interface StageContext {
  readonly tables: Tables;
  /** Set by ingress; by route, where the frame leaves it for another one. */
  network?: VirtualNetwork;
  /** Set by route, where it leaves another network: what packets had to fit into there. */
  routedFrom?: Segment;
  /** Set by ingress: the local port that it came from; unset for tunnelled frames. */
  port?: AccessPort;
  /** Set by ingress: who speaks to the sender for weft; unset where nobody does. */
  gateway?: Gateway;
  /** Set by ingress: it came from outside. */
  entered?: Outside;
  /** Set by route: it goes outside. */
  leaves?: Outside;
  /** Set by route: addresses and ports become what this connection says. */
  nat?: { readonly op: 'nat' | 'related' } & Found;
  /** Set with it, for a packet of the connection itself. */
  connection?: ConnectionUse;
  /** Set by route: the MAC of the next hop, in `network`. Unset: the frame is only bridged. */
  nextHop?: Uint8Array;
  /** Set by bridge: where the frame is to go. */
  destinations: Location[];
}

/** The connection that a packet is of, and what a decision about the packet says of it. */
export interface ConnectionUse extends Found {
  /** Its name among the objects that were consulted. */
  readonly object: string;
  /** How the texts of the stages call it: equal decisions about other connections call theirs otherwise. */
  readonly name: Text;
}

/** A router as its neighbor knows it. */
export interface Gateway {
  readonly portNo: PortNo;
  readonly mac: Uint8Array;
  readonly addresses: readonly Uint8Array[];
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

export type StageResult =
  | { readonly kind: 'next'; readonly because: Text; readonly effects?: readonly Effect[] }
  | { readonly kind: 'drop'; readonly because: Text; readonly reason: DropReason; readonly answer?: Reply }
  /** Undecided until this neighbor is known: the frame waits. */
  | { readonly kind: 'wait'; readonly because: Text; readonly neighbor: NeighborName }
  /** Undecided until this connection is open, which it can be. */
  | { readonly kind: 'connect'; readonly because: Text; readonly opening: Opening }
  | {
      readonly kind: 'decide';
      readonly because: Text;
      readonly actions: readonly Action[];
      readonly effects?: readonly Effect[];
    };

export type Stage = (view: FlowView, context: StageContext) => StageResult;

/** Where a MAC address is, consulted whether it is known or not. */
export function locate(view: FlowView, { fdb }: Tables, vni: Vni, mac: Uint8Array): FdbEntry | undefined {
  const entry = fdb.lookup(vni, mac);
  view.consult(entry?.object ?? fdbObject(vni, mac));
  return entry;
}

export function next(because: Text, effects?: readonly Effect[]): StageResult {
  return effects ? { kind: 'next', because, effects } : { kind: 'next', because };
}

export function drop(reason: DropReason, because: Text): StageResult {
  return { kind: 'drop', reason, because };
}

/** What the first of these rules says that refuses it; undefined if none does. */
export function firstRefusal<T extends readonly unknown[]>(
  rules: readonly ((...subject: T) => StageResult | undefined)[],
  ...subject: T
): StageResult | undefined {
  for (const rule of rules) {
    const refused = rule(...subject);
    if (refused) return refused;
  }
  return undefined;
}
