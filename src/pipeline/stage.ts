/**
 * What all stages of the pipeline have in common.
 *
 * A stage is a function `(view, known) → StageResult`. `known` is what the stages before it have found,
 * including the tables, and the stage adds what it finds itself. It reads the flow only through the view,
 * and changes nothing: whatever should happen (learning a MAC, sending a reply) is returned as an effect.
 * So the same code decides for traffic, for `weft trace`, and when cached flows are decided again.
 *
 * The result may be kept for as long as the flow, so it contains nothing of the view.
 */
import type { Action } from '../flow/action.ts';
import type { Tuple } from '../flow/connection.ts';
import type { DropReason } from '../flow/reason.ts';
import type { RefusalAnswer } from '../flow/refusal.ts';
import type { Treatment } from '../flow/treatment.ts';
import type { PortNo, Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { Excluded } from '../table/candidates.ts';
import type { ConnectionTable, Found } from '../table/connections.ts';
import type { Opening } from '../table/openings.ts';
import { fdbObject, type Fdb, type FdbEntry, type Location } from '../table/fdb.ts';
import type { Hooks } from '../table/hooks.ts';
import type { NeighborTable } from '../table/neighbor.ts';
import type { Policies } from '../table/policies.ts';
import type { JudgedEnd } from '../table/policy/judgement.ts';
import type { Choice } from '../table/service-choices.ts';
import type { Services } from '../table/services.ts';
import type { Topology } from '../table/topology.ts';
import type { Hop, Way } from './hop.ts';
import type { FrameOrigin, PortOrigin } from './origin.ts';
import type { Text } from './text.ts';

export interface Tables {
  readonly topology: Topology;
  readonly fdb: Fdb;
  readonly neighbors: NeighborTable;
  readonly connections: ConnectionTable;
  readonly services: Services;
  readonly policies: Policies;
  readonly hooks: Hooks;
}

/** What ingress starts with. */
export interface Known {
  readonly tables: Tables;
}

/** What is known after ingress. */
export interface Entered extends Known {
  readonly origin: FrameOrigin;
}

/** What is known after connection. */
export interface Connected extends Entered {
  /** The translated connection that the packet belongs to, or is an error about. */
  readonly connection: ConnectionOfPacket | undefined;
  /** True if the packet belongs to a connection that is only tracked, or is an error about one. */
  readonly isKnown?: boolean;
  /** True if it begins a conversation whose replies would be those of a connection. */
  readonly isTaken?: boolean;
}

/** A packet that can belong to a connection. */
export interface Conversation {
  readonly kind: 'conversation';
  readonly protocol: number;
  readonly tuple: Tuple;
  readonly isRequest: boolean;
}

/** What a packet has to do with a connection: it is part of the conversation, or an error about it. */
export type Subject = Conversation | { readonly kind: 'error' };

/** A packet and its connection. */
export interface ConnectionOfPacket {
  readonly found: Found;
  readonly subject: Subject;
}

/** What is known after service. */
export interface Balanced extends Connected {
  /** What service has decided: where the packet goes instead of its own destination; undefined if that stays. */
  readonly leg: ServiceLeg | undefined;
  /** What hooks have set for the connection that it begins. */
  readonly treatment?: Treatment | undefined;
}

/** One of the two ways of a connection through a service. */
export type ServiceLeg =
  /** Back to its client. */
  | ({ readonly kind: 'to_client' } & ConnectionOfPacket)
  /** On to its backend. */
  | ({ readonly kind: 'to_backend'; readonly from: PortOrigin; readonly address: Uint8Array } & ConnectionOfPacket)
  /** To the backend that was chosen, once there is a connection. */
  | { readonly kind: 'to_chosen'; readonly from: PortOrigin; readonly choice: Choice; readonly subject: Conversation }
  /** To the backend that its sender has named itself, with a port of its own, once there is a connection. */
  | { readonly kind: 'to_named'; readonly from: PortOrigin; readonly subject: Conversation };

/** What is known after route. */
export interface Routed extends Entered {
  readonly way: Way;
  readonly nat: Nat | undefined;
  /** Set if a connection has to be opened for it, which then translates it. */
  readonly begins?: Beginning | undefined;
}

/** What is known after bridge. */
export interface Bridged extends Entered {
  readonly nat: Nat | undefined;
  readonly begins?: Beginning | undefined;
  readonly hop: Hop;
  /** What hooks have set for the connection that it begins. */
  readonly treatment?: Treatment | undefined;
}

/** A connection that begins with the packet. */
export interface Beginning {
  readonly opening: Opening;
  /** The packet, as the connection will find it where it came in. */
  readonly subject: Conversation;
}

/** The connection by which a packet is translated. */
export interface Nat {
  readonly action: { readonly op: 'nat' | 'related' } & Found;
  /** Set for a packet of the connection itself, but not for an error about it. */
  readonly connection: ConnectionUse | undefined;
  /** Its name in texts. */
  readonly name: Text;
}

/** The connection that a packet belongs to, and what a decision about the packet says about it. */
export interface ConnectionUse extends Found {
  /** Its name among the objects that were consulted. */
  readonly object: string;
  /** Its name in the texts of the stages. Equal decisions about other connections have other names there. */
  readonly name: Text;
}

export type Effect =
  /** The source MAC was seen behind `where`. */
  | { readonly kind: 'learn'; readonly vni: Vni; readonly mac: Uint8Array; readonly where: Location }
  /** `mac` has `ip`: an answer (which counts each time), or news. Such a decision is never cached. */
  | { readonly kind: 'neighbor'; readonly vni: Vni; readonly ip: Uint8Array; readonly mac: Uint8Array }
  | Reply;

/** Something that each frame needs for itself. Such a decision is never cached. */
export type Reply =
  /** weft answers with a frame of its own. */
  | { readonly kind: 'reply'; readonly port: PortNo; readonly frame: Uint8Array }
  /** The sender is told how large its packets may be. */
  | {
      readonly kind: 'too_big';
      readonly port: PortNo;
      /** The host that it came from, if it came by the tunnel. */
      readonly via?: { readonly vni: Vni; readonly vtep: Uint8Array };
      readonly from: { readonly mac: Uint8Array; readonly ip: Uint8Array };
      /** In bytes. */
      readonly mtu: number;
    };

export interface NeighborName {
  readonly vni: Vni;
  readonly ip: Uint8Array;
}

export interface Drop {
  readonly kind: 'drop';
  readonly because: Text;
  readonly reason: DropReason;
  /** What the datapath tells its sender. */
  readonly answer?: RefusalAnswer;
  /** If a service has no backend for it: what excludes them, as `because` tells. */
  readonly refused?: RefusedService;
  /** If policies deny it: what they say, as `because` tells. */
  readonly judged?: JudgedEnd;
}

/** A service without a backend for a connection. It is kept with the decision, so it has few of those that are excluded. */
export interface RefusedService {
  /** NAMESPACE/NAME. */
  readonly service: string;
  readonly excluded: readonly Excluded[];
  /** How many more there are. */
  readonly more: number;
}

/** The end of the path through the stages. */
export type Verdict =
  | Drop
  /** Undecided until this neighbor is known. The frame waits. */
  | { readonly kind: 'wait'; readonly because: Text; readonly neighbor: NeighborName }
  /** Undecided until this connection is open. There is room for it. */
  | {
      readonly kind: 'connect';
      readonly because: Text;
      readonly opening: Opening;
      /** The result of the stage once it is open; undefined if all of it is decided anew then. */
      readonly opened: (() => StageResult<Bridged>) | undefined;
      /** How the datapath opens others like it by itself; undefined if it cannot. */
      readonly balance: (() => Action | undefined) | undefined;
    }
  | {
      readonly kind: 'decide';
      readonly because: Text;
      readonly actions: readonly Action[];
      readonly effects?: readonly Effect[];
      readonly connection?: ConnectionUse | undefined;
    };

/** The result of a stage: what the next stage gets to know, or a verdict. */
export type StageResult<Found> =
  | {
      readonly kind: 'next';
      readonly because: Text;
      readonly known: Found;
      readonly effects: readonly Effect[];
      /** If policies were asked: what they say, as `because` tells. */
      readonly judged?: JudgedEnd | undefined;
    }
  | Verdict;

export type Stage<Given, Found> = (view: FlowView, known: Given) => StageResult<Found>;

/** Where a MAC address is. It is consulted whether or not it is known. */
export function locate(view: FlowView, { fdb }: Tables, vni: Vni, mac: Uint8Array): FdbEntry | undefined {
  const entry = fdb.lookup(vni, mac);
  view.consult(entry?.object ?? fdbObject(vni, mac));
  return entry;
}

export function next<Found>(
  because: Text,
  known: Found,
  effects: readonly Effect[] = nothing,
  judged?: JudgedEnd,
): StageResult<Found> {
  return { kind: 'next', because, known, effects, judged };
}

const nothing: readonly Effect[] = [];

export function drop(reason: DropReason, because: Text): Drop {
  return { kind: 'drop', reason, because };
}

/** The first refusal of these rules; undefined if none refuses. */
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
