/**
 * How many questions over TCP a client may ask. The switch limits the packets of each port to weft's own sockets, and one of
 * TCP may have many questions; without this, all others would wait for the answers to one client.
 *
 * A bucket of tokens, kept as the time at which it would be full (the generic cell rate algorithm of ITU-T I.371).
 */

/** As many as a client gets over UDP, where each is a packet. */
const A_SECOND = 2000;
export const AT_ONCE = 32;
/** The shortest time that a question is put off by, so that many connections of a client do not keep asking for their turn. */
export const LEAST_WAIT_MS = 10;
/** How many clients are remembered before those that have asked nothing for a while are forgotten. */
const MOST_IDLE = 1024;

const INTERVAL_MS = 1000 / A_SECOND;

export class QuestionRates {
  readonly #clock: () => number;
  /** By client: when its bucket is full. */
  readonly #fullAtMs = new Map<number, number>();

  /** @param clock milliseconds, monotonic */
  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** How many clients are remembered. */
  get size(): number {
    return this.#fullAtMs.size;
  }

  /** @returns 0 if a question of the client may be answered now, and counts it; otherwise, how many milliseconds it has to wait */
  take(client: number): number {
    const nowMs = this.#clock();
    const fullAtMs = Math.max(this.#fullAtMs.get(client) ?? 0, nowMs) + INTERVAL_MS;
    const waitMs = fullAtMs - nowMs - AT_ONCE * INTERVAL_MS;
    if (waitMs > 0) return Math.max(waitMs, LEAST_WAIT_MS);
    if (this.#fullAtMs.size >= MOST_IDLE) this.#forgetIdle(nowMs);
    this.#fullAtMs.set(client, fullAtMs);
    return 0;
  }

  #forgetIdle(nowMs: number): void {
    for (const [client, fullAtMs] of this.#fullAtMs) if (fullAtMs <= nowMs) this.#fullAtMs.delete(client);
  }
}
