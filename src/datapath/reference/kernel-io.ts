/** What the reference datapath needs from the kernel: `frame-io.ts` provides it; tests simulate it. */
import type { TapSpec } from '../../addon/tap.ts';
import type { Offload } from '../../flow/offload.ts';
import type { DropReason } from '../../flow/reason.ts';
import type { TapOpened, TapPlace } from '../../flow/tap.ts';
import type { PortNo } from '../../flow/types.ts';
import type { Frame } from './offload.ts';

/** A frame, or a VXLAN payload, as the kernel handed it over. */
export interface ReceivedFrame {
  readonly port: PortNo;
  readonly bytes: Uint8Array;
  readonly offload: Offload;
  /** Underlay only: who sent it, 16 bytes. */
  readonly source?: Uint8Array | undefined;
  /** Underlay only: DSCP and ECN of the outer header. */
  readonly tos?: number | undefined;
}

/** How many datagrams were not sent, and why. */
export interface Refused {
  readonly reason: DropReason;
  readonly datagrams: number;
}

/** Frames from and to the kernel. */
export interface KernelIo {
  addTap(port: PortNo, spec: TapSpec): TapOpened;
  renewTap(port: PortNo): string[];
  findTap(port: PortNo): TapPlace | undefined;
  openUnderlay(port: PortNo, local: Uint8Array, l4Port: number): void;
  remove(port: PortNo, keep: boolean): void;
  /** What has arrived, at most `max`. If that was fewer than `max`, `onWake` is called for the next. */
  take(max: number): readonly ReceivedFrame[];
  /**
   * Until when, of the times that were passed in, everything that had arrived from the underlay can be taken.
   * @param nowMs milliseconds
   */
  readUntil(nowMs: number): number;
  /** The offloads of a TAP: native/io/tap.h. */
  offloads(port: PortNo): number;
  send(port: PortNo, frame: Frame): DropReason | undefined;
  sendUnderlay(remote: Uint8Array, entropy: number, tos: number, payloads: readonly Uint8Array[]): Refused | undefined;
  /** Nothing arrives any more; what has arrived can still be taken. */
  stop(): void;
  /** Closes everything. TAPs, and what is kept of their descriptors, stay. */
  close(): void;
}
