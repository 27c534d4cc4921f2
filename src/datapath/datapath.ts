/**
 * The seam between deciding and forwarding.
 *
 * A datapath owns ports, a flow cache and the frames inside it. It knows no networks and no policy: a
 * frame that no cached flow covers becomes an upcall, and the owner of the datapath answers it with
 * `flowPut` and `execute`.
 *
 *   rx → extract key → parked? → connection → flow cache ──hit──► actions → tx
 *                                                └─miss─► park, upcall … flowPut, execute → tx
 *
 * Two implementations, `native.ts` (C++) and `reference.ts` (TypeScript), pass the same conformance
 * suite and give the same bytes, counters and flows.
 *
 * What every implementation promises:
 * - A miss parks the frame. Later frames of the same flow park behind it, at most 8, or 64 if they are
 *   fragments (`upcall_parked_full` beyond). They do so even if another decision installs a flow that
 *   covers them in the meantime: parked flows are looked up before the flow cache. Frames of one flow
 *   have keys that differ in nothing but TOS and TTL. `execute(token, …)` releases those with the key of
 *   the upcall, in order, up to the first with another key; that one and what is behind it are decided
 *   as if they arrived then.
 * - With threads, a parked frame that is flooded as its flow says may be sent after `execute` has returned (native/flood.h).
 *   Then it is decided as if it arrived when it is sent, so a change of its flow in between holds for it, too.
 * - Undecided flows are bounded per port (PENDING_PER_PORT, and PENDING_BALANCED_PER_PORT for directions of connections that
 *   `balance` chose; `upcall_queue_full` beyond). Batches are
 *   filled round robin over the ports. If frames to group addresses and to single stations both wait,
 *   every second upcall is one to a group, so that single stations wait for few of these.
 * - `upcalls` limits the upcalls of a port, and of that half for each sender that was admitted before
 *   and a quarter for all others (`upcall-rate.ts`). A miss beyond that is dropped as
 *   `upcall_rate_limit`. Frames that are too big for their flow have a sixteenth of it, and are dropped
 *   as `too_big`. A frame that parks behind others costs nothing.
 * - Every frame is counted: rx + originated + copies + segments =
 *   tx + consumed + coalesced + Σ drops + held, exactly, in every `counters()`.
 * - IPv4 and IPv6 frames are cut to their L3 length (removing Ethernet padding) before they are parked,
 *   sent or counted in bytes. Port counters count the bytes of Ethernet frames without encapsulation;
 *   frames that cannot be parsed count as they came.
 * - If several cached flows cover a frame, the one whose mask has been in the cache longest is hit.
 * - A packet's connection is found by its tuple and the place of its port, or its VNI. If that direction
 *   of the connection has a flow that covers the packet, no mask is searched. A direction without a flow
 *   takes the flow that was hit, if that translates or tracks.
 * - `track` opens a connection for the first packet that belongs to none. Its owner is the port where
 *   the packet came in. If there is no room, the packet is dropped (`connection_limit`). A packet that
 *   cannot belong to a connection goes on untracked.
 * - Packets of a connection's original direction are treated as its record says, or as `track` does if they have none: they
 *   get a DSCP, and are held to a meter. What exceeds that is dropped (`hook_rate_limit`), and not counted in the record.
 * - `balance` opens a connection (flow/balancing.ts), whose directions take the flows of others of the same client, service and
 *   backend: those that one had when a packet of it was decided about. Of TCP connections that were never established,
 *   an owner gives up as many a second for new TCP ones as it may have unproven; what begins beyond that is dropped
 *   (`half_open_limit`).
 * - `onUpcall` and `transmit` may call the datapath. `onUpcall` is not entered again before it returns,
 *   and memory ports transmit in the order of decisions.
 * - A superframe passes uncut to ports that accept it, and is cut for ports that do not and for the
 *   tunnel. Consecutive segments of a flow in one burst are joined. Either way, the receiver gets the
 *   bytes that were sent, in order.
 * - A superframe of more than 1,024 segments, and at most 2,048, goes on as two.
 * - A refused frame is counted as dropped, and its answer as originated. A superframe is answered once.
 *   There is no answer to a tagged frame, to a group's or from a source that is not one host, to a later
 *   fragment, by an ICMP error to an ICMP error or a redirect, and by a TCP reset to anything but a whole
 *   segment without RST. An answer needs a token of `answers`; without one, the frame is counted as
 *   `unanswered`, too.
 * - The checksum of an IPv4 header must be correct if more is done than to carry the packet: routing,
 *   translating, answering or cutting it (`ipv4_checksum`). For a superframe, it always must.
 * - A superframe is one frame to a flow, a parking place and a port's counters. `rx` counts frames
 *   before they are joined, and `tx` after they are cut.
 * - A frame that the `mtu` of its flow stops is parked with an upcall, as if it had missed. The actions
 *   of the answer apply to it, including their `mtu`.
 * - Later fragments of a datagram have the protocol and ports of the first one in their keys, so a
 *   datagram is decided as a whole. Those that come before the first wait for it, at most
 *   FRAGMENT_TIMEOUT_MS (`fragment_timeout`), and are forwarded after it in their order. Overlapping ones
 *   end their whole datagram (`fragment_overlap`). The memory for datagrams and waiting fragments is
 *   bounded for each port, and its oldest datagram gives way.
 * - An unfinished TCP or UDP checksum from the tunnel is finished by the port that it goes to, or before
 *   that.
 * - A port's rates count bytes on a wire, for a superframe those of its segments with their headers.
 *   Incoming frames are held to `ingress` before anything is looked up, outgoing frames to `egress`
 *   before they are cut. A frame is flooded if it is sent to a group address or to more than one place;
 *   `storm` counts flooded frames that came in by a port, a superframe as many times as it has segments.
 *   A token bucket lets a frame pass while anything is left in it, so in any time t at most
 *   burst + rate · t and one frame pass. Frames over the rate of ingress or egress wait for it in order,
 *   while there is any room in the `queue`; frames that find no room are dropped: `rate_limit_ingress`,
 *   `rate_limit_egress`, `storm_control`. Waiting frames are `held`, and go on by themselves; between
 *   memory ports, they go on when the datapath is next called with a frame. When their port is removed
 *   they are dropped: `upcall_lost` on its ingress side, `port_gone` on its egress side.
 * - A frame that came in by a port and goes to one in the place INTERNAL needs tokens of `sockets` of the former: one for each
 *   of its packets, and one more for each KiB. If there are none, it is dropped (`rate_limit_sockets`). Of those that pass, so
 *   many of UDP may be `unanswered`: they take as many tokens of that, too, and each of UDP from INTERNAL to the port gives one
 *   back.
 * - Frames from the tunnel with the VNI of probes go no further: the probes of other VTEPs are `consumed`, or dropped
 *   with their reasons. Those that are sent count as `originated`, and `mirror` does not see any (`liveness.ts`).
 * - `portDel` drops frames from that port that are parked or wait (`upcall_lost`), but leaves cached
 *   flows alone: removing those is up to the caller.
 */
import { WeftError } from '../error.ts';
import type { Action } from '../flow/action.ts';
import type { BpfProgram } from '../flow/bpf.ts';
import { connectionBytes, type Place } from '../flow/connection.ts';
import type { ConnectionStore, ConnectionStoreOptions } from '../flow/connection-store.ts';
import type { FlowKey, FlowMask } from '../flow/key.ts';
import type { DropReason } from '../flow/reason.ts';
import type { Offload } from '../flow/offload.ts';
import type { TapIdentity, TapOpened, TapPlace } from '../flow/tap.ts';
import type { FlowId, PortNo } from '../flow/types.ts';
import type { Liveness } from './liveness.ts';

/** No room for any connection. */
export const noConnections = (): ConnectionStoreOptions => ({
  memory: new Uint8Array(connectionBytes(0)),
  limit: 0,
  quota: 0,
  unprovenQuota: 0,
});

/** A token bucket, in whole numbers of at least 1; `burst` is at most 2^29. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
  /** For `ingress` and `egress`: how many bytes may wait until the rate admits them. Without it, nothing waits. */
  readonly queue?: number;
}

/** How much may pass a port. Whatever is missing is not limited. */
export interface PortRates {
  /** Incoming bytes. */
  readonly ingress?: Rate;
  /** Outgoing bytes. */
  readonly egress?: Rate;
  /** Incoming frames that are flooded. */
  readonly storm?: Rate;
  /** Upcalls. */
  readonly upcalls?: Rate;
  /** Answers to refused frames. */
  readonly answers?: Rate;
  /** Incoming frames that go to weft's own sockets, which all ports share. */
  readonly sockets?: Rate;
  /** Of these, those to which weft's own sockets have sent nothing back; `perSecond` are given up in any case. */
  readonly unanswered?: Rate;
}

/** The rates of a tunnel. */
export type TunnelRates = Pick<PortRates, 'storm' | 'upcalls' | 'answers'>;

/** `place` is where the tuples of incoming packets are meaningful. Without it, nothing belongs to a connection. */
export type PortSpec =
  /**
   * A TAP inside a network namespace. It is created as persistent if it does not exist, and re-attached if it does.
   * `portDel` detaches from it with `keep`, and removes it otherwise. With `known`, only that very TAP is taken,
   * whatever it is called by now.
   */
  | {
      readonly kind: 'tap';
      readonly name: string;
      /** Path of the namespace. */
      readonly netns: string;
      readonly ifname: string;
      readonly known?: TapIdentity;
      /** It ends with this process, and no other one is to have its descriptors (`PortDescriptors`). */
      readonly isTransient?: boolean;
      readonly place?: Place;
      readonly rates?: PortRates;
    }
  /** The VXLAN endpoint: UDP sockets on `local`:`l4Port` in the daemon's own namespace. */
  | {
      readonly kind: 'vxlan';
      readonly name: string;
      readonly local: Uint8Array;
      readonly l4Port: number;
      readonly rates?: TunnelRates;
    }
  /**
   * A port whose frames come by `inject` and go to `transmit`, for simulation and tests. With `offloads`, it accepts
   * superframes and unfinished checksums as a TAP does, and `transmit` is told what is left to do, if anything.
   */
  | {
      readonly kind: 'memory';
      readonly name: string;
      readonly offloads?: boolean;
      readonly place?: Place;
      readonly rates?: PortRates;
      transmit(frame: Uint8Array, offload: Offload | undefined): void;
    }
  /** The same for the underlay, with VXLAN payloads instead of datagrams. */
  | {
      readonly kind: 'memory-vxlan';
      readonly name: string;
      readonly local: Uint8Array;
      readonly rates?: TunnelRates;
      transmit(datagram: Datagram): void;
    };

/** The VXLAN endpoint, of either kind. */
export type TunnelSpec = Extract<PortSpec, { kind: 'vxlan' | 'memory-vxlan' }>;

export function isTunnel(spec: PortSpec): spec is TunnelSpec {
  return spec.kind === 'vxlan' || spec.kind === 'memory-vxlan';
}

export interface OffloadedFrame {
  readonly frame: Uint8Array;
  readonly offload?: Offload | undefined;
}

/** A port to be opened. Its number must be free. */
export interface NewPort {
  readonly port: PortNo;
  readonly spec: PortSpec;
}

/** The largest port number: actions, records and keys have 16 bits for it. */
export const LARGEST_PORT = 0xffff;

/** Why no port can ever have this number; undefined if one can. */
export function portNumberRefusal(port: PortNo): WeftError | undefined {
  if (Number.isInteger(port) && port >= 1 && port <= LARGEST_PORT) return undefined;
  return new WeftError('exhausted', `port ${port} does not fit: a port has a number of 1 to ${LARGEST_PORT}`);
}

/**
 * For a port with a TAP, what was opened; or why the port could not be opened, in which case nothing is left behind.
 */
export type PortOpened = TapOpened | undefined | WeftError;

/** What UDP carries between two VTEPs. Addresses are 16 bytes, IPv4-mapped or IPv6. */
export interface Datagram {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** From the hash of the inner flow, 49152–65535, stable for the flow (RFC 7348 §5). */
  readonly sourcePort: number;
  /** DSCP and ECN of the outer header; 0 if left out. */
  readonly tos?: number | undefined;
  /** VXLAN header and inner frame. */
  readonly payload: Uint8Array;
}

/** Identifies one undecided flow and the frames parked behind it; used once. */
export type UpcallToken = number;

export interface Upcall {
  readonly token: UpcallToken;
  readonly key: FlowKey;
  /** The first HEAD_BYTES of the (inner) frame, from its Ethernet header on. They belong to the receiver. */
  readonly head: Uint8Array;
  /** The length of the whole frame. */
  readonly lengthBytes: number;
  /**
   * The size of the largest packet that it goes out as, from the IP header on, at most 65,535: this is what `mtu`
   * compares.
   */
  readonly packetBytes: number;
}

export interface FlowPut {
  /** A known id replaces that flow's actions (key and mask must be the same) and keeps its statistics. */
  readonly id: FlowId;
  /** Masked here if it is not masked yet. */
  readonly key: FlowKey;
  readonly mask: FlowMask;
  readonly actions: readonly Action[];
  /** It is found through connections that have its id, and not by any mask. Several may have the same key and mask. */
  readonly ofConnections?: boolean;
}

export interface FlowEntry {
  readonly id: FlowId;
  readonly key: FlowKey;
  readonly mask: FlowMask;
  readonly actions: readonly Action[];
  readonly packets: number;
  readonly bytes: number;
  /** By the datapath's clock. For a flow that was never hit, the time at which it was put. */
  readonly lastUsedMs: number;
}

/** A frame that weft made itself: counted as `originated`. */
export interface OriginatedFrame {
  readonly frame: Uint8Array;
}

export interface PortCounters {
  readonly rxFrames: number;
  readonly rxBytes: number;
  readonly txFrames: number;
  readonly txBytes: number;
  /** Refused frames from this port that were not answered because its rate was used up. */
  readonly unanswered: number;
  /** Frames that came in by this port and were dropped anywhere. Contains only reasons that occurred. */
  readonly drops: Partial<Record<DropReason, number>>;
}

/** How often `flowPut` returned false, by what the cache had no room for. */
export interface FlowRefusals {
  readonly flows: number;
  readonly masks: number;
}

export interface DatapathCounters {
  readonly rx: number;
  readonly originated: number;
  readonly copies: number;
  readonly segments: number;
  readonly tx: number;
  readonly consumed: number;
  readonly coalesced: number;
  readonly held: number;
  /** The sum over all ports, including removed ports and originated frames. */
  readonly drops: Partial<Record<DropReason, number>>;
  readonly upcalls: number;
  /** Of all ports, including removed ones. */
  readonly unanswered: number;
  readonly flows: number;
  readonly masks: number;
  readonly refused: FlowRefusals;
  readonly ports: ReadonlyMap<PortNo, PortCounters>;
}

/** A frame seen by `mirror`: as received (`rx`) or as handed to the port (`tx`), starting with its Ethernet header. */
export interface MirroredFrame {
  readonly port: PortNo;
  readonly direction: 'rx' | 'tx';
  readonly timeMs: number;
  readonly lengthBytes: number;
  /** Up to the snap length. */
  readonly bytes: Uint8Array;
}

export interface MirrorOptions {
  /** Only this port. */
  readonly port?: PortNo;
  readonly snapBytes: number;
  /** Only frames that it accepts. It sees whole frames, whatever `snapBytes` is. */
  readonly filter?: BpfProgram;
}

/** Receives frames in order, and how many were left out since the last call because too many were waiting. */
export type MirrorSink = (frames: readonly MirroredFrame[], lost: number) => void;

/** The most that may wait for the sink at each datapath thread: native/mirror.h. */
export const MIRROR_BYTES = 32 << 20;

/** How much of MIRROR_BYTES a copy of `copiedBytes` takes. */
export function mirrorRecordBytes(copiedBytes: number): number {
  return 24 + Math.ceil(copiedBytes / 8) * 8;
}

export interface DatapathOptions {
  /** The maximum number of cached flows; `flowPut` beyond it returns false. */
  readonly flowCap: number;
  /** Copies the inner packet's DSCP to the outer header; otherwise that has DSCP 0. */
  readonly copyDscp?: boolean;
  /** Room for connections as long as the datapath is open; without it there are none. */
  readonly connections?: ConnectionStoreOptions;
  /**
   * Milliseconds, monotonic, not negative. Rates are as exact as this clock over periods longer than its resolution.
   */
  readonly clock: () => number;
  /**
   * Until then, ports of the kernel receive nothing: what arrives waits in the kernel. A switch that opens its ports one
   * after the other begins with all of them at once, so nothing is refused because the rest is not there yet.
   */
  readonly begun?: Promise<void>;
  readonly onUpcall: (batch: readonly Upcall[]) => void;
  /** A port stopped by itself because its interface or namespace is gone. */
  readonly onPortLost: (port: PortNo, why: string) => void;
  /** The state of one or more peers has changed: `liveness.peers` tells. */
  readonly onPeersChanged?: (() => void) | undefined;
}

export interface Datapath {
  /** The connections. The datapath finds them for each packet; its owner opens and closes them. */
  readonly connections: ConnectionStore;
  /** The probes between VTEPs. */
  readonly liveness: Liveness;
  /**
   * Opens ports, all TAPs at once. Returns the result for each, in order; a port that cannot be opened does not affect
   * the others. `openPort` opens a single one.
   */
  portsAdd(ports: readonly NewPort[]): PortOpened[];
  /**
   * Changes a port. `rates`, if given, replace the current ones at once, with full buckets; cached flows and parked
   * frames stay. Whatever programs that attached to its TAP have changed of it is restored.
   * @returns what was restored, for the operator; nothing if there is no such port
   */
  portSet(port: PortNo, rates?: PortRates): string[];
  /** Where the TAP of a port is, if others have moved or renamed it; undefined if it is no TAP, or gone, or nobody can tell. */
  portPlace(port: PortNo): TapPlace | undefined;
  portDel(port: PortNo, options?: { readonly keep?: boolean }): void;
  /** Returns false, and counts it, if a cap (flows, masks) refuses the flow, which then stays on the slow path. */
  flowPut(flow: FlowPut): boolean;
  flowDel(id: FlowId): void;
  flowGet(id: FlowId): FlowEntry | undefined;
  /**
   * Reads a few hundred flows at a time, as they are needed, so a caller may take its time. Each flow that stays is
   * returned once; flows that are put or deleted in the meantime may or may not be.
   */
  flowDump(): Iterable<FlowEntry>;
  /** Runs actions on the frames parked behind an upcall, in order, or on a frame that weft made. */
  execute(what: UpcallToken | OriginatedFrame, actions: readonly Action[]): void;
  /**
   * Copies frames to `sink` until it is called again; calling it with null also hands over what is still waiting.
   * Frames beyond MIRROR_BYTES are left out and counted, never delayed.
   * @throws WeftError('invalid') for a filter that cannot be run; in that case, the mirror before it continues
   */
  mirror(options: MirrorOptions | null, sink?: MirrorSink): void;
  counters(): DatapathCounters;
  /**
   * Stops all threads and closes all ports, keeping TAPs. Frames that wait for the rate of a port of the kernel are sent
   * at once, and parked frames are dropped.
   */
  close(): void;
}

/** Opens one port. @returns what was opened, for a TAP @throws WeftError, leaving nothing behind */
export function openPort(datapath: Pick<Datapath, 'portsAdd'>, port: PortNo, spec: PortSpec): TapOpened | undefined {
  const [opened] = datapath.portsAdd([{ port, spec }]);
  if (opened instanceof WeftError) throw opened;
  return opened;
}

/** How frames enter `memory` ports. A frame is run to completion before the call returns. */
export interface Injectable {
  inject(port: PortNo, frame: Uint8Array, offload?: Offload): void;
  /** A burst, as one read of a TAP would return it. */
  injectBurst(port: PortNo, frames: readonly OffloadedFrame[]): void;
  injectDatagram(port: PortNo, datagram: Datagram): void;
  injectDatagrams(port: PortNo, datagrams: readonly Datagram[]): void;
}
