/**
 * Affinity: which backend a client had last (`sessionAffinity: ClientIP`), for each port of a service. It is refreshed by
 * new connections and ends by itself. Their number is limited: beyond it, the client that was refreshed the longest ago
 * gets a new choice, which is the same one as long as it is chosen by the client's address among the same backends.
 */
import { Recent } from './recent.ts';

export const MOST_CLIENTS_REMEMBERED = 131_072;

export class Affinity {
  readonly #most: number;
  readonly #clients = new Recent<{ readonly pin: number; readonly untilMs: number }>();

  constructor(most = MOST_CLIENTS_REMEMBERED) {
    this.#most = most;
  }

  get size(): number {
    return this.#clients.size;
  }

  /** The number of its backend; undefined if it has none. */
  of(client: string): number | undefined {
    return this.#clients.get(client)?.pin;
  }

  set(client: string, pin: number, untilMs: number): void {
    this.#clients.use(client, { pin, untilMs });
    if (this.#clients.size > this.#most) this.#clients.takeOldest();
  }

  /** Forgets those whose time is over. */
  expire(nowMs: number): void {
    this.#clients.removeIf(({ untilMs }) => untilMs <= nowMs);
  }
}
