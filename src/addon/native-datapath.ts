/** The class `Datapath` of the addon (native/addon.cc), and the data that crosses between it and JavaScript. */
import type { SpareTap } from '../flow/descriptors.ts';
import type { TapOpened, TapPlace } from '../flow/tap.ts';
import type { NativeConnectionTable } from './native-connections.ts';
import type { TapTarget } from './tap.ts';

/** Errors are negative errno. */
export interface NativeDatapath {
  /** Sets the time to `ms`. It stands still until the next call unless there are threads. */
  setClock(ms: number): void;
  addTaps(ports: readonly number[], targets: readonly TapTarget[], spares: readonly SpareTap[]): (TapOpened | number)[];
  /** Returns which of `RENEWED` (tap.ts) were restored. */
  renewTap(port: number): number;
  findTap(port: number): TapPlace | number;
  addVxlan(port: number, local: Uint8Array, l4Port: number, spares: Int32Array): number;
  /** Those of the port's TAP or sockets, one for each worker. They are the port's. */
  descriptors(port: number): number[];
  addMemory(port: number, offloads: boolean): number;
  addMemoryVxlan(port: number, local: Uint8Array): number;
  /** Rate per second, burst and queue of ingress, egress, storm, upcalls, answers, sockets and unanswered; a rate of 0 means no limit. */
  setRates(port: number, rates: Float64Array): void;
  /** Sets where the tuples of packets from the port are meaningful. */
  setPlace(port: number, place: number): void;
  /** Sends the frames that waited for their port's rate and may go on. With threads, this happens automatically. */
  release(): void;
  removePort(port: number, keep: boolean): number;
  /** The port must exist and be a memory port. `offloads`: flags, gsoType, gsoSize, csumStart, csumOffset of each frame. */
  inject(port: number, frames: readonly Uint8Array[], offloads: Uint16Array): void;
  /** `sources`: address and TOS, 17 bytes each. */
  injectDatagrams(port: number, sources: Uint8Array, payloads: readonly Uint8Array[]): void;
  /** @param most the most upcalls, up to UPCALL_BATCH */
  takeWaiting(most: number): NativeWaiting;
  /** Takes actions encoded by `encodeActions`. @throws RangeError */
  execute(token: number, actions: Uint8Array): void;
  originate(frame: Uint8Array, actions: Uint8Array): void;
  flowPut(id: number, key: Uint8Array, mask: Uint8Array, actions: Uint8Array, ofConnections: boolean): boolean;
  flowDel(id: number): void;
  /** The flow, packed as by `flowDump`; empty if there is none. */
  flowGet(id: number): Uint8Array;
  /** Some hundred flows, starting at `cursor` (0 at first); `next` is -1 at the end. */
  flowDump(cursor: number): { flows: Uint8Array; next: number };
  /**
   * Port 0 means all ports. `filter` has the code, jumps and k of each instruction; empty means all frames.
   * @throws RangeError for a program that is not valid
   */
  mirrorStart(port: number, snapBytes: number, filter: Uint32Array): void;
  /** Returns what was still waiting. */
  mirrorStop(): NativeMirrored;
  counters(): Float64Array;
  setLiveness(settings: NativeLivenessSettings): void;
  /** Without threads: sends and judges what is due. Returns when to call it again; -1 if there is nothing to do. */
  runLiveness(): number;
  peers(): { readonly peers: readonly NativePeer[]; readonly strangers: readonly NativeStranger[] };
  /** From `hold` to `begin`, ports receive nothing: what arrives waits in the kernel. */
  hold(): void;
  begin(): void;
  /** Ends the threads: nothing is received any more, and what waits can still be taken and executed. */
  stop(): void;
  close(): void;
}

/** Packed records, in the byte order of the machine; datapath/native/records.ts reads them. */
export interface NativeMirrored {
  readonly mirrored: Uint8Array;
  /** Frames that were left out of `mirrored`. */
  readonly mirrorLost: number;
}

export interface NativeWaiting extends NativeMirrored {
  readonly upcalls: Uint8Array;
  readonly lost: readonly { readonly port: number; readonly errno: number }[];
  readonly peersChanged: boolean;
}

export interface NativeLivenessSettings {
  readonly session: Uint8Array;
  readonly intervalMs: number;
  readonly multiplier: number;
  /** Address, 1 if it has a key, and the key: 49 bytes each. */
  readonly peers: Uint8Array;
  readonly vnis: Uint32Array;
}

/** Numbers that are not known are negative. */
export interface NativePeer {
  readonly address: Uint8Array;
  readonly state: number;
  readonly fault: number;
  readonly twin: boolean;
  readonly sinceMs: number;
  readonly heardMs: number;
  readonly rttMs: number;
  /** Lost, and of how many. */
  readonly lossIn: readonly [number, number];
  readonly lossOut: readonly [number, number];
  readonly vnis?: readonly number[];
}

export interface NativeStranger {
  readonly address: Uint8Array;
  readonly reason: number;
  readonly count: number;
  readonly lastMs: number;
}

export interface NativeHandlers {
  /** Something waits, and nothing did before. Called from the event loop, never during a call. */
  wake(): void;
  /** These two are called during a call and must not call back. The bytes belong to the receiver. */
  transmit(
    port: number,
    frame: Uint8Array,
    flags: number,
    gsoType: number,
    gsoSize: number,
    csumStart: number,
    csumOffset: number,
  ): void;
  transmitDatagram(port: number, destination: Uint8Array, sourcePort: number, tos: number, payload: Uint8Array): void;
}

export type NativeDatapathClass = new (
  workers: number,
  threaded: boolean,
  flowCap: number,
  copyDscp: boolean,
  connections: NativeConnectionTable,
  handlers: NativeHandlers,
) => NativeDatapath;
