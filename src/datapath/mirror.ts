/**
 * Copies of frames for captures. Frames gather during a run and are handed over
 * when it ends; beyond MIRROR_QUEUE they are left out, so that a capture never
 * holds up what it watches.
 */
import type { PortNo } from '../flow/types.ts';
import type { MirroredFrame, MirrorOptions } from './datapath.ts';

/** Frames that wait for the sink. */
export const MIRROR_QUEUE = 1024;

export class Mirror {
  readonly #clock: () => number;
  #options: MirrorOptions | null = null;
  #sink: ((frames: readonly MirroredFrame[]) => void) | undefined;
  #queue: MirroredFrame[] = [];

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** Null ends it. What is queued for the last sink is dropped. */
  set(options: MirrorOptions | null, sink?: (frames: readonly MirroredFrame[]) => void): void {
    this.#options = options;
    this.#sink = options ? sink : undefined;
    this.#queue = [];
  }

  frame(port: PortNo, direction: 'rx' | 'tx', frame: Uint8Array): void {
    const options = this.#options;
    if (!options || (options.port !== undefined && options.port !== port)) return;
    if (this.#queue.length >= MIRROR_QUEUE) return;
    const bytes = frame.slice(0, options.snapBytes);
    this.#queue.push({ port, direction, timeMs: this.#clock(), lengthBytes: frame.length, bytes });
  }

  flush(): void {
    if (this.#queue.length === 0) return;
    const frames = this.#queue;
    this.#queue = [];
    this.#sink?.(frames);
  }
}
