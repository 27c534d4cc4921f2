/**
 * Which connections to weft's own sockets may be open: so many of all clients, and so many of one. When there is no
 * room, the oldest connection of the client that has the most makes room, so clients that hold many
 * connections never keep out one that has few.
 */
import type { SocketClient } from '../table/clients.ts';

/** A connection, as far as it matters here. */
export interface Closable {
  once(event: 'close', listener: () => void): unknown;
  destroy(): unknown;
}

export interface ShareLimits {
  readonly ofAll: number;
  readonly ofClient: number;
}

export class Shares {
  readonly #limits: ShareLimits;
  /** By the number of the client. */
  readonly #open = new Map<SocketClient['id'], Set<Closable>>();
  #count = 0;

  constructor(limits: ShareLimits) {
    this.#limits = limits;
  }

  /** Notes a connection of the client. False if it may not be open; then it is the caller's to close. */
  take(client: SocketClient['id'], connection: Closable): boolean {
    const own = this.#open.get(client) ?? new Set();
    if (own.size >= this.#limits.ofClient) return false;
    if (this.#count >= this.#limits.ofAll && !this.#makeRoom(own.size)) return false;
    this.#open.set(client, own.add(connection));
    this.#count++;
    connection.once('close', () => this.#remove(client, connection));
    return true;
  }

  /** Closes the connections of a client that has gone. */
  end(client: SocketClient['id']): void {
    for (const connection of this.#open.get(client) ?? []) this.#close(client, connection);
  }

  /** Closes a connection of the client that has the most. False if that is no more than `own`. */
  #makeRoom(own: number): boolean {
    let most: readonly [SocketClient['id'], Set<Closable>] | undefined;
    for (const entry of this.#open) if (entry[1].size > (most?.[1].size ?? own)) most = entry;
    if (!most) return false;
    const [oldest] = most[1];
    this.#close(most[0], oldest!);
    return true;
  }

  #close(client: SocketClient['id'], connection: Closable): void {
    this.#remove(client, connection);
    connection.destroy();
  }

  #remove(client: SocketClient['id'], connection: Closable): void {
    const own = this.#open.get(client);
    if (!own?.delete(connection)) return;
    this.#count--;
    if (own.size === 0) this.#open.delete(client);
  }
}
