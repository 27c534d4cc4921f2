/** Frames that wait, in order, until the rate of their port admits them. native/rate_queue.h has the rules. */
import type { FlowKey } from '../../flow/key.ts';
import type { PortNo } from '../../flow/types.ts';
import type { Frame } from './offload.ts';

/** The room that a frame takes, at least. */
const LEAST_ROOM_BYTES = 256;

export interface QueuedFrame {
  readonly frame: Frame;
  /** Ingress: for the lookup in the flow cache. Undefined for egress. */
  readonly key: FlowKey | undefined;
  /** The port that it came in by; undefined if weft made it. */
  readonly from: PortNo | undefined;
  /** On a wire. */
  readonly wireBytes: number;
}

/** Of one direction of one port. */
export class RateQueue {
  readonly #frames: QueuedFrame[] = [];
  #takenBytes = 0;

  get length(): number {
    return this.#frames.length;
  }

  get front(): QueuedFrame | undefined {
    return this.#frames[0];
  }

  /** False if nothing is left of `roomBytes`. Otherwise a copy of the frame waits. */
  push(queued: QueuedFrame, roomBytes: number): boolean {
    if (this.#takenBytes >= roomBytes) return false;
    this.#takenBytes += roomOf(queued);
    const { bytes, offload } = queued.frame;
    this.#frames.push({ ...queued, frame: { bytes: Uint8Array.from(bytes), offload } });
    return true;
  }

  /** The queue must not be empty. */
  pop(): QueuedFrame {
    const first = this.#frames.shift()!;
    this.#takenBytes -= roomOf(first);
    return first;
  }
}

function roomOf({ wireBytes }: QueuedFrame): number {
  return Math.max(wireBytes, LEAST_ROOM_BYTES);
}
