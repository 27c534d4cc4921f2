/**
 * How long work waits for the event loop: a timer is due every LOOK_MS, and a histogram takes how late it comes.
 *
 * `monitorEventLoopDelay` of Node.js does the same, but leaves out what passes around each `reset`, and so the scrape
 * itself.
 *
 * It is measured while somebody reads: from the first reading on, until nobody has read for UNREAD_MS. A host whose metrics
 * nobody reads pays nothing for it.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

/** How often the event loop is looked at. A delay may be up to this much longer than what is known of it. */
export const LOOK_MS = 20;

/** Far longer than from one scrape to the next. */
export const UNREAD_MS = 600_000;

/** Longer ones count as this long. */
const LONGEST_US = 3_600_000_000;

export interface Delays {
  readonly medianSeconds: number;
  readonly p99Seconds: number;
  readonly longestSeconds: number;
}

export interface EventLoopOptions {
  /** Milliseconds, monotonic, with a fraction. */
  readonly clock: () => number;
  readonly every: (work: () => void, ms: number) => NodeJS.Timeout;
}

export class EventLoopDelay {
  readonly #options: EventLoopOptions;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #readMs = 0;
  /** In microseconds. */
  readonly #readers: RecordableHistogram[] = [];

  constructor(options: EventLoopOptions) {
    this.#options = options;
  }

  /**
   * Returns a function that returns the delays since it was called last; undefined if none was measured. Each reader has
   * its own.
   */
  reader(): () => Delays | undefined {
    const delaysUs = createHistogram({ lowest: 1, highest: LONGEST_US, figures: 2 });
    this.#readers.push(delaysUs);
    return () => {
      this.#readMs = this.#options.clock();
      this.#start();
      if (delaysUs.count === 0) return undefined;
      const delays = {
        medianSeconds: delaysUs.percentile(50) / 1e6,
        p99Seconds: delaysUs.percentile(99) / 1e6,
        longestSeconds: delaysUs.max / 1e6,
      };
      delaysUs.reset();
      return delays;
    };
  }

  close(): void {
    this.#isClosed = true;
    this.#stop();
  }

  #start(): void {
    if (this.#timer || this.#isClosed) return;
    const { clock, every } = this.#options;
    let lastMs = clock();
    this.#timer = every(() => {
      const nowMs = clock();
      const delayUs = Math.round((nowMs - lastMs - LOOK_MS) * 1000);
      lastMs = nowMs;
      // A histogram has no 0.
      for (const reader of this.#readers) reader.record(Math.min(Math.max(1, delayUs), LONGEST_US));
      if (nowMs - this.#readMs > UNREAD_MS) this.#stop();
    }, LOOK_MS);
    this.#timer.unref();
  }

  #stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const reader of this.#readers) reader.reset();
  }
}
