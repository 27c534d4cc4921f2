/** The class `Datapath` of the addon (native/addon.cc), and what crosses between it and JavaScript. */
import type { TapOpened } from '../flow/tap.ts';
import type { NativeConnectionTable } from './native-connections.ts';
import type { TapTarget } from './tap.ts';

/** Errors are negative errno. */
export interface NativeDatapath {
  /** "It is now `ms`": stands still until the next call unless threaded. */
  setClock(ms: number): void;
  addTaps(ports: readonly number[], targets: readonly TapTarget[]): (TapOpened | number)[];
  /** What of `RENEWED` (tap.ts) was put back. */
  renewTap(port: number): number;
  addVxlan(port: number, local: Uint8Array, l4Port: number): number;
  addMemory(port: number, offloads: boolean): number;
  addMemoryVxlan(port: number, local: Uint8Array): number;
  /** Each second, burst and queue of ingress, egress and storm; 0 a second: no limit. */
  setRates(port: number, rates: Float64Array): void;
  /** Where the tuples of what comes in by the port mean something. */
  setPlace(port: number, place: number): void;
  /** What waited for its port's rate goes on; with threads it does so by itself. */
  release(): void;
  removePort(port: number, keep: boolean): number;
  /** The port exists and is a memory port. */
  /** `offloads`: flags, gsoType, gsoSize, csumStart, csumOffset of each frame. */
  inject(port: number, frames: readonly Uint8Array[], offloads: Uint16Array): void;
  /** `sources`: 16 bytes each. */
  injectDatagrams(port: number, sources: Uint8Array, payloads: readonly Uint8Array[]): void;
  takeWaiting(): NativeWaiting;
  /** Actions as `encodeActions` gives them. @throws RangeError */
  execute(token: number, actions: Uint8Array): void;
  originate(frame: Uint8Array, actions: Uint8Array): void;
  flowPut(id: number, key: Uint8Array, mask: Uint8Array, actions: Uint8Array, ofConnections: boolean): boolean;
  flowDel(id: number): void;
  /** As `flowDump` packs it; empty if there is none. */
  flowGet(id: number): Uint8Array;
  /** Some hundred flows from `cursor` (0) on; `next` is -1 at the end. */
  flowDump(cursor: number): { flows: Uint8Array; next: number };
  /**
   * Port 0: all. `filter`: code, jumps and k of each instruction; empty: all frames.
   * @throws RangeError for a program that is not valid
   */
  mirrorStart(port: number, snapBytes: number, filter: Uint32Array): void;
  /** What waits is given back. */
  mirrorStop(): NativeMirrored;
  counters(): Float64Array;
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
}

export interface NativeHandlers {
  /** Something waits after nothing did. Called from the event loop, never inside a call. */
  wake(): void;
  /** These two are called inside a call and must not come back in. The bytes are the receiver's. */
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
