/** How many upcalls a port may cause. native/upcall_rate.h has the rules, and counts exactly the same. */
import { senderHash } from '../../flow/hash.ts';
import type { FlowKey } from '../../flow/key.ts';
import { Bucket } from './bucket.ts';
import type { Rate } from '../datapath.ts';

const SENDERS = 4096;
/** How long a sender is remembered after it was last admitted. */
const KNOWN_MS = 300_000;

export class UpcallRate {
  readonly #all: Bucket;
  readonly #newcomers: Bucket;
  readonly #tooBig: Bucket;
  /** By hash; 0: the place is free. */
  readonly #senders = new Uint32Array(SENDERS);
  readonly #fullAtMs = new Float64Array(SENDERS);
  readonly #eachMs: number;
  readonly #depthMs: number;

  constructor(rate: Rate) {
    this.#all = new Bucket(rate);
    this.#newcomers = new Bucket(partOf(rate, 4));
    this.#tooBig = new Bucket(partOf(rate, 16));
    const own = partOf(rate, 2);
    this.#eachMs = 1000 / own.perSecond;
    this.#depthMs = own.burst * this.#eachMs;
  }

  /** May a frame that no cached flow covers cause an upcall? */
  miss(key: FlowKey, nowMs: number): boolean {
    const hash = senderHash(key);
    const at = hash % SENDERS;
    const fullAtMs = this.#fullAtMs[at]!;
    if (this.#senders[at] === hash) {
      if (fullAtMs - nowMs >= this.#depthMs) return false;
      this.#fullAtMs[at] = Math.max(fullAtMs, nowMs) + this.#eachMs;
    } else {
      if (!this.#newcomers.take(1, nowMs)) return false;
      if (this.#senders[at] === 0 || nowMs - fullAtMs >= KNOWN_MS) {
        this.#senders[at] = hash;
        this.#fullAtMs[at] = nowMs + this.#eachMs;
      }
    }
    return this.#all.take(1, nowMs);
  }

  /** May one that is too big for its cached flow cause an upcall? */
  tooBig(nowMs: number): boolean {
    return this.#tooBig.take(1, nowMs);
  }
}

/** The part 1/`share` of a rate. */
function partOf({ perSecond, burst }: Rate, share: number): Rate {
  return { perSecond: Math.max(Math.floor(perSecond / share), 1), burst: Math.max(Math.floor(burst / share), 1) };
}
