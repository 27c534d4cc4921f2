/**
 * The seam between deciding and forwarding.
 *
 * A datapath owns ports, a flow cache and the frames inside it. It knows no
 * networks and no policy: a frame that no cached flow covers becomes an upcall,
 * and whoever made the datapath answers it with `flowPut` and `execute`.
 *
 *   rx → extract key → parked? → connection → flow cache ──hit──► actions → tx
 *                                                └─miss─► park, upcall … flowPut, execute → tx
 *
 * Two implementations, `native.ts` (C++) and `reference.ts` (TypeScript), pass
 * the same conformance suite and give the same bytes, counters and flows.
 *
 * What every implementation promises:
 * - A miss parks the frame. Later frames with the same key park behind it, 8
 *   at most, of fragments 64 (`upcall_parked_full` beyond), also when another decision installs
 *   a flow that covers them meanwhile: a parked key is looked up before the
 *   flow cache. `execute(token, …)` releases them in order.
 * - Undecided flows are bounded per port (PENDING_PER_PORT); beyond that
 *   `upcall_queue_full`. Batches are filled round robin over the ports; where both wait, every
 *   second upcall is of a frame to a group of stations, so that single ones wait for few of these.
 * - `upcalls` limits what comes up: of a port, and of that half for each sender that
 *   was admitted before and a quarter for all others (`upcall-rate.ts`). A miss beyond
 *   it is dropped, `upcall_rate_limit`; a frame that is too big for its flow has a
 *   sixteenth, and is dropped, `too_big`. What parks behind others costs nothing.
 * - Every frame is counted: rx + originated + copies + segments =
 *   tx + consumed + coalesced + Σ drops + held, exactly, in every `counters()`.
 * - IPv4 and IPv6 frames are cut to their L3 length (Ethernet padding goes)
 *   before they are parked, sent or counted in bytes. Port counters count the
 *   bytes of Ethernet frames, without encapsulation; what cannot be parsed
 *   counts as it came.
 * - Where cached flows overlap, the one whose mask is in the cache longest is hit.
 * - A packet's connection is found by its tuple and the place of its port, or its VNI, and
 *   no mask is searched where that direction of the connection has a flow that covers it. A
 *   direction that has none takes the flow that was hit, if that translates or tracks.
 * - `track` opens a connection for the first packet that belongs to none, by itself. Its
 *   owner is the port that the packet came in by; where there is no room it is dropped,
 *   `connection_limit`. What can be of no connection is not tracked, and goes on.
 * - `onUpcall` and `transmit` may call the datapath. `onUpcall` is not entered
 *   again before it returns, and memory ports transmit in the order of decisions.
 * - A superframe passes uncut to ports that take it, and is cut for those that do
 *   not and for the tunnel. Consecutive segments of a flow in one burst are put
 *   together. Either way the receiver gets the bytes that were sent, in order.
 * - One of more than 1,024 segments, and of 2,048 at most, goes on as two.
 * - The checksum of an IPv4 header is right where more is done than to carry the packet:
 *   routing, translating, answering or cutting it (`ipv4_checksum`); of a superframe always.
 * - A superframe is one frame to a flow, a parking place and a port's counters;
 *   `rx` counts what came in before, and `tx` what goes out after that.
 * - A frame that its flow's `mtu` stops is parked with an upcall, as if it had
 *   missed; the actions of the answer apply to it, the `mtu` included.
 * - Later fragments of a datagram have protocol and ports of its first in their keys,
 *   so that a datagram is decided as one. Those that come before the first wait for it,
 *   FRAGMENT_TIMEOUT_MS at most (`fragment_timeout`), and are forwarded behind it, in their
 *   order. Overlapping ones end their whole datagram (`fragment_overlap`). What is known and
 *   waits of datagrams is bounded for each port by itself; its oldest datagram gives way.
 * - A TCP or UDP checksum from the tunnel that is unfinished is finished, by the
 *   port that it goes to or before.
 * - A port's rates count the bytes that go over a wire, of a superframe those of
 *   its segments with their headers. What comes in is held to `ingress` before
 *   anything is looked up, what goes out to `egress` before it is cut. Flooded is
 *   a frame that is sent to a group address or to more than one place; of those
 *   that came in by a port, a superframe as many as its segments, `storm` counts
 *   the frames. A token bucket lets a frame pass while anything is left in it, so
 *   that in any time t at most burst + rate · t and one frame pass. What is over the rate
 *   of ingress or egress waits for it in order, while any room is left in the `queue`; what
 *   finds no room is dropped: `rate_limit_ingress`, `rate_limit_egress`, `storm_control`.
 *   Frames that wait are `held`, and go on by themselves; between memory ports they go on
 *   when the datapath is next called with a frame. When their port is removed they are
 *   dropped: `upcall_lost` on its ingress side, `port_gone` on its egress side.
 * - `portDel` drops what is parked or waits from that port (`upcall_lost`) and leaves
 *   cached flows alone: removing those is the caller's business.
 */
import { WeftError } from '../error.ts';
import type { Action } from '../flow/action.ts';
import type { BpfProgram } from '../flow/bpf.ts';
import { connectionBytes, type Place } from '../flow/connection.ts';
import type { ConnectionStore, ConnectionStoreOptions } from '../flow/connection-store.ts';
import type { FlowKey, FlowMask } from '../flow/key.ts';
import type { DropReason } from '../flow/reason.ts';
import type { Offload } from '../flow/offload.ts';
import type { TapIdentity, TapOpened } from '../flow/tap.ts';
import type { FlowId, PortNo } from '../flow/types.ts';

/** Without room for any. */
export const noConnections = (): ConnectionStoreOptions => ({
  memory: new Uint8Array(connectionBytes(0)),
  limit: 0,
  quota: 0,
  unprovenQuota: 0,
});

/** A token bucket: whole numbers, 1 and more; `burst` at most 2^29. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
  /** Of `ingress` and `egress`: bytes that may wait until the rate admits them. Without it nothing waits. */
  readonly queue?: number;
}

/** How much may pass a port; what is not given is not limited. */
export interface PortRates {
  /** Bytes that come in. */
  readonly ingress?: Rate;
  /** Bytes that go out. */
  readonly egress?: Rate;
  /** Frames that came in and are flooded. */
  readonly storm?: Rate;
  /** Upcalls. */
  readonly upcalls?: Rate;
}

/** The rates of a tunnel. */
export type TunnelRates = Pick<PortRates, 'storm' | 'upcalls'>;

/** `place` is where the tuples of what comes in mean something; without it nothing belongs to a connection. */
export type PortSpec =
  /**
   * A TAP inside a network namespace. It is created there if it does not
   * exist, persistent, and re-attached if it does; `portDel` with `keep` lets go
   * of it, without `keep` removes it. With `known` it is that very TAP, whatever
   * it is called by now, or none.
   */
  | {
      readonly kind: 'tap';
      readonly name: string;
      /** Path of the namespace. */
      readonly netns: string;
      readonly ifname: string;
      readonly known?: TapIdentity;
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
   * A port whose frames come by `inject` and go to `transmit`: simulation and
   * tests. With `offloads` it takes superframes and unfinished checksums, as a TAP
   * does; `transmit` is then told what is left to do, if anything.
   */
  | {
      readonly kind: 'memory';
      readonly name: string;
      readonly offloads?: boolean;
      readonly place?: Place;
      readonly rates?: PortRates;
      transmit(frame: Uint8Array, offload: Offload | undefined): void;
    }
  /** The same for the underlay: VXLAN payloads instead of datagrams. */
  | {
      readonly kind: 'memory-vxlan';
      readonly name: string;
      readonly local: Uint8Array;
      readonly rates?: TunnelRates;
      transmit(datagram: Datagram): void;
    };

export interface OffloadedFrame {
  readonly frame: Uint8Array;
  readonly offload?: Offload | undefined;
}

/** A port to be opened; its number must be free. */
export interface NewPort {
  readonly port: PortNo;
  readonly spec: PortSpec;
}

/** The largest port number: actions, records and keys have 16 bits for it. */
export const LARGEST_PORT = 0xffff;

/** Why no port can have this number, whatever it is; undefined if one can. */
export function portNumberRefusal(port: PortNo): WeftError | undefined {
  if (Number.isInteger(port) && port >= 1 && port <= LARGEST_PORT) return undefined;
  return new WeftError('exhausted', `port ${port} does not fit: a port has a number of 1 to ${LARGEST_PORT}`);
}

/** What was opened, of a port that has a TAP; or why the port could not be opened: nothing is left behind then. */
export type PortOpened = TapOpened | undefined | WeftError;

/** What UDP carries between two VTEPs; addresses are 16 bytes, IPv4-mapped or IPv6. */
export interface Datagram {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** From the inner flow's hash, 49152–65535, stable for the flow (RFC 7348 §5). */
  readonly sourcePort: number;
  /** DSCP and ECN of the outer header; 0 if left out. */
  readonly tos?: number | undefined;
  /** VXLAN header and inner frame. */
  readonly payload: Uint8Array;
}

/** Names one undecided flow and the frames parked behind it; used once. */
export type UpcallToken = number;

export interface Upcall {
  readonly token: UpcallToken;
  readonly key: FlowKey;
  /** The first HEAD_BYTES of the (inner) frame, from its Ethernet header on. Owned by the receiver. */
  readonly head: Uint8Array;
  /** The whole frame's length. */
  readonly lengthBytes: number;
  /** Of the largest packet that it goes out as, from the IP header on, 65,535 at most: what an `mtu` looks at. */
  readonly packetBytes: number;
}

export interface FlowPut {
  /** A known id replaces that flow's actions (same key and mask) and keeps its statistics. */
  readonly id: FlowId;
  /** Masked here if it is not yet. */
  readonly key: FlowKey;
  readonly mask: FlowMask;
  readonly actions: readonly Action[];
  /** It is found by connections that have its id, and by no mask. Several may have one key and mask. */
  readonly ofConnections?: boolean;
}

export interface FlowEntry {
  readonly id: FlowId;
  readonly key: FlowKey;
  readonly mask: FlowMask;
  readonly actions: readonly Action[];
  readonly packets: number;
  readonly bytes: number;
  /** By the datapath's clock; the time it was put for a flow that was never hit. */
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
  /** Frames that came in by this port and ended here, whatever the place. Only reasons that occurred. */
  readonly drops: Partial<Record<DropReason, number>>;
}

/** Calls of `flowPut` that returned false, by what the cache had no room for. */
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
  /** Sum over all ports, ports that have gone and originated frames included. */
  readonly drops: Partial<Record<DropReason, number>>;
  readonly upcalls: number;
  readonly flows: number;
  readonly masks: number;
  readonly refused: FlowRefusals;
  readonly ports: ReadonlyMap<PortNo, PortCounters>;
}

/** A frame seen by `mirror`: as received (`rx`) or as handed to the port (`tx`), Ethernet header first. */
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
  /** Only frames that it wants. It sees them whole, whatever `snapBytes` is. */
  readonly filter?: BpfProgram;
}

/** Gets frames in order, and how many were left out since the last call because too many waited. */
export type MirrorSink = (frames: readonly MirroredFrame[], lost: number) => void;

/** So much waits for the sink at most, at each datapath thread: native/mirror.h. */
export const MIRROR_BYTES = 32 << 20;

/** What a copy of `copiedBytes` takes of MIRROR_BYTES. */
export function mirrorRecordBytes(copiedBytes: number): number {
  return 24 + Math.ceil(copiedBytes / 8) * 8;
}

export interface DatapathOptions {
  /** Cached flows at most; `flowPut` beyond it returns false. */
  readonly flowCap: number;
  /** The outer header of what is encapsulated has the inner packet's DSCP; without it, 0. */
  readonly copyDscp?: boolean;
  /** Room for connections, as long as the datapath; none without it. */
  readonly connections?: ConnectionStoreOptions;
  /** Milliseconds, monotonic, not negative. Rates are as exact as it is, over more than its resolution. */
  readonly clock: () => number;
  readonly onUpcall: (batch: readonly Upcall[]) => void;
  /** A port stopped by itself: its interface or namespace went. */
  readonly onPortLost: (port: PortNo, why: string) => void;
}

export interface Datapath {
  /** The connections, which the datapath finds for each packet and its owner opens and closes. */
  readonly connections: ConnectionStore;
  /**
   * Opens ports, TAPs all at once. What came of each, in order: that one could not be opened stops no other.
   * `openPort` opens one.
   */
  portsAdd(ports: readonly NewPort[]): PortOpened[];
  /**
   * Makes a port what it is to be. `rates`, if given, replace those that it has, with full buckets and at once: cached
   * flows and what is parked stay. What programs that attached to its TAP have changed of it is put back.
   * @returns what was put back, for the operator; nothing where there is no such port
   */
  portSet(port: PortNo, rates?: PortRates): string[];
  portDel(port: PortNo, options?: { readonly keep?: boolean }): void;
  /** False when a cap (flows, masks) refuses it, which is counted: the flow then stays on the slow path. */
  flowPut(flow: FlowPut): boolean;
  flowDel(id: FlowId): void;
  flowGet(id: FlowId): FlowEntry | undefined;
  /**
   * Reads a few hundred flows at a time, as they are asked for, so a caller may take its time: each flow that stays
   * comes once, and of those that are put or deleted meanwhile some come.
   */
  flowDump(): Iterable<FlowEntry>;
  /** Runs actions on the frames parked behind an upcall, in order, or on a frame that weft made. */
  execute(what: UpcallToken | OriginatedFrame, actions: readonly Action[]): void;
  /**
   * Copies frames to `sink` until it is called again or with null, which hands over to it what waits. Frames beyond
   * MIRROR_BYTES are left out and counted, never delayed.
   * @throws WeftError('invalid') for a filter that cannot be run; what was mirrored before goes on then
   */
  mirror(options: MirrorOptions | null, sink?: MirrorSink): void;
  counters(): DatapathCounters;
  /** Stops all threads and closes all ports, keeping TAPs. Parked frames are dropped. */
  close(): void;
}

/** Opens one port. @returns what was opened, for a TAP @throws WeftError when it cannot be; nothing is left behind then */
export function openPort(datapath: Pick<Datapath, 'portsAdd'>, port: PortNo, spec: PortSpec): TapOpened | undefined {
  const [opened] = datapath.portsAdd([{ port, spec }]);
  if (opened instanceof WeftError) throw opened;
  return opened;
}

/** The way in for `memory` ports; runs the frame to completion before it returns. */
export interface Injectable {
  inject(port: PortNo, frame: Uint8Array, offload?: Offload): void;
  /** A burst, as one read of a TAP brings it. */
  injectBurst(port: PortNo, frames: readonly OffloadedFrame[]): void;
  injectDatagram(port: PortNo, datagram: Datagram): void;
  injectDatagrams(port: PortNo, datagrams: readonly Datagram[]): void;
}
