/** Token buckets: how much may pass a port. native/bucket.h has the rules, and counts exactly the same. */
import type { PortRates, Rate } from '../datapath.ts';

/** Ticks in a second: sixteenths of a nanosecond. */
const TICKS = 16_000_000_000n;
const TICKS_PER_MS = Number(TICKS / 1000n);
const PAUSE_MS = 0.25;

export class Bucket {
  /** Bytes that may wait. */
  readonly queue: number;
  readonly #perSecond: bigint;
  /** Ticks that it takes to fill. */
  readonly #depth: bigint;
  /** When it will be full again. */
  #fullAt = 0n;

  /** It starts full. */
  constructor({ perSecond, burst, queue = 0 }: Rate) {
    this.queue = queue;
    this.#perSecond = BigInt(perSecond);
    this.#depth = (BigInt(burst) * TICKS) / this.#perSecond;
  }

  /** False if nothing is left; then nothing was taken. */
  take(units: number, nowMs: number): boolean {
    const now = BigInt(Math.trunc(nowMs * TICKS_PER_MS));
    if (this.#fullAt - now >= this.#depth) return false;
    const from = this.#fullAt > now ? this.#fullAt : now;
    this.#fullAt = from + (BigInt(units) * TICKS) / this.#perSecond;
    return true;
  }

  /** Units come back that were taken before; a full bucket stays as it is. */
  give(units: number): void {
    this.#fullAt -= (BigInt(units) * TICKS) / this.#perSecond;
  }

  /** When to try again after `take` was refused. */
  againMs(nowMs: number): number {
    const pauseMs = Math.min(PAUSE_MS, Number(this.#depth) / TICKS_PER_MS / 2);
    return Math.max(Number(this.#fullAt - this.#depth + 1n) / TICKS_PER_MS, nowMs + pauseMs);
  }
}

/** The buckets of a port. */
export type Buckets = { readonly [name in Exclude<keyof PortRates, 'upcalls'>]?: Bucket };

/** They start full. */
export function bucketsOf({ ingress, egress, storm, answers, sockets, unanswered }: PortRates): Buckets {
  return {
    ...(ingress && { ingress: new Bucket(ingress) }),
    ...(egress && { egress: new Bucket(egress) }),
    ...(storm && { storm: new Bucket(storm) }),
    ...(answers && { answers: new Bucket(answers) }),
    ...(sockets && { sockets: new Bucket(sockets) }),
    ...(unanswered && { unanswered: new Bucket(unanswered) }),
  };
}
