/**
 * Copies of frames for captures. Frames accumulate during a run and are handed over when it ends.
 * Beyond MIRROR_BYTES they are left out and counted, so that a capture never holds up the traffic
 * that it watches. native/mirror.h does the same.
 */
import { bpfWants, checkBpf } from '../../flow/bpf.ts';
import type { PortNo } from '../../flow/types.ts';
import {
  MIRROR_BYTES,
  mirrorRecordBytes,
  type MirroredFrame,
  type MirrorOptions,
  type MirrorSink,
} from '../datapath.ts';

export class Mirror {
  readonly #clock: () => number;
  #options: MirrorOptions | null = null;
  #sink: MirrorSink | undefined;
  #queue: MirroredFrame[] = [];
  #queuedBytes = 0;
  #lost = 0;

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** Null ends it. Waiting frames go to the previous sink. @throws WeftError('invalid') for a filter */
  set(options: MirrorOptions | null, sink?: MirrorSink): void {
    if (options?.filter) checkBpf(options.filter);
    this.flush();
    this.#options = options;
    this.#sink = options ? sink : undefined;
  }

  frame(port: PortNo, direction: 'rx' | 'tx', frame: Uint8Array): void {
    const options = this.#options;
    if (!options || (options.port !== undefined && options.port !== port)) return;
    if (options.filter && !bpfWants(options.filter, frame)) return;
    const bytes = Uint8Array.from(frame.subarray(0, options.snapBytes));
    const recordBytes = mirrorRecordBytes(bytes.length);
    if (this.#queuedBytes + recordBytes > MIRROR_BYTES) {
      this.#lost++;
      return;
    }
    this.#queuedBytes += recordBytes;
    this.#queue.push({ port, direction, timeMs: this.#clock(), lengthBytes: frame.length, bytes });
  }

  flush(): void {
    if (this.#queue.length === 0 && this.#lost === 0) return;
    const frames = this.#queue;
    const lost = this.#lost;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#lost = 0;
    this.#sink?.(frames, lost);
  }
}
