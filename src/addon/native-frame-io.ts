/** The class `FrameIo` of the addon (native/addon_frame_io.cc). */
import type { SpareTap } from '../flow/descriptors.ts';
import type { Offload } from '../flow/offload.ts';
import type { TapOpened, TapPlace } from '../flow/tap.ts';
import type { PortNo } from '../flow/types.ts';
import type { TapTarget } from './tap.ts';

/** Errors are negative errno. */
export interface NativeFrameIo {
  addTap(port: number, target: TapTarget, spares: readonly SpareTap[]): TapOpened | number;
  /** Which of `RENEWED` (tap.ts) were restored. */
  renewTap(port: number): number;
  findTap(port: number): TapPlace | number;
  /** @param spare a socket to use again, or -1 */
  openUnderlay(port: number, local: Uint8Array, l4Port: number, spare: number): number;
  /** The port's, or -1. */
  descriptor(port: number): number;
  remove(port: number, keep: boolean): number;
  take(max: number): NativeFrame[];
  takeLost(): { readonly port: PortNo; readonly errno: number }[];
  readUntil(nowMs: number): number;
  offloads(port: number): number;
  send(
    port: number,
    frame: Uint8Array,
    flags: number,
    gsoType: number,
    gsoSize: number,
    csumStart: number,
    csumOffset: number,
  ): number;
  /** The drop reason, and from bit 8 on how many datagrams were refused. */
  sendUnderlay(remote: Uint8Array, entropy: number, tos: number, payloads: Uint8Array, datagramBytes: number): number;
  /** Nothing arrives any more; what has arrived can still be taken. */
  stop(): void;
  close(): void;
}

/** A frame, or a VXLAN payload from `source`, as the addon hands it over; for the underlay all numbers are 0. */
export interface NativeFrame extends Offload {
  readonly port: PortNo;
  readonly bytes: Uint8Array;
  readonly source?: Uint8Array;
  readonly tos?: number;
}

export type NativeFrameIoClass = new (notify: () => void) => NativeFrameIo;
