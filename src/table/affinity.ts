/**
 * Affinity: which backend a client had last (`sessionAffinity: ClientIP`), for each port of a service. It is refreshed by
 * new connections and ends by itself. Their number is limited: beyond it, the client that was refreshed the longest ago
 * gets a new choice, which is the same one as long as it is chosen by the client's address among the same backends.
 */
export const MOST_CLIENTS_REMEMBERED = 131_072;

export class Affinity {
  readonly #most: number;
  /** Who was refreshed last comes last. */
  readonly #clients = new Map<string, { readonly pin: number; readonly untilMs: number }>();

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
    this.#clients.delete(client);
    if (this.#clients.size >= this.#most)
      for (const oldest of this.#clients.keys()) {
        this.#clients.delete(oldest);
        break;
      }
    this.#clients.set(client, { pin, untilMs });
  }

  /** Forgets those whose time is over. */
  expire(nowMs: number): void {
    for (const [client, { untilMs }] of this.#clients) if (untilMs <= nowMs) this.#clients.delete(client);
  }
}
