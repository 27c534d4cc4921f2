/** Token buckets by port: they limit what weft sends of its own accord (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f). */
import type { PortNo } from '../flow/types.ts';

export interface RateLimitOptions {
  readonly perSecond: number;
  /** How many at once after a pause. */
  readonly burst: number;
}

export class RateLimit {
  readonly #options: RateLimitOptions;
  readonly #buckets = new Map<PortNo, { tokens: number; atMs: number }>();

  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  /** Takes a token if there is one. */
  allows(port: PortNo, nowMs: number): boolean {
    const { perSecond, burst } = this.#options;
    const bucket = this.#buckets.get(port) ?? { tokens: burst, atMs: nowMs };
    bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) / 1000) * perSecond);
    bucket.atMs = nowMs;
    this.#buckets.set(port, bucket);
    if (bucket.tokens < 1) return false;
    bucket.tokens--;
    return true;
  }

  forget(port: PortNo): void {
    this.#buckets.delete(port);
  }
}
