/**
 * Servers of weft itself, such as the one for DNS: where they listen, what they are told, and what the module has to export
 * that answers there. Modules are loaded by a thread of their own (`worker.ts`), never by the one that decides.
 */
import type { Socket } from 'node:net';
import type { SocketClient } from '../table/clients.ts';

/** A port at the address of every gateway. */
export interface ServerPort {
  readonly protocol: 'UDP' | 'TCP';
  readonly l4Port: number;
}

export interface ServerCode {
  readonly listening: readonly ServerPort[];
  /** URL of the module, whose default export is an `OpenServer`. */
  readonly module: string;
}

export interface ServerSpec extends ServerCode {
  /** What it has to know of the switch. It listens as soon as it has been told everything. */
  readonly feed?: ServerFeed;
  /** Called with what the server tells the switch. */
  readonly onSaid?: (said: object) => void;
}

/**
 * What a server has to know, in pieces: everything when it starts, then what changes. A piece is taken when the one before
 * has arrived, so what waits is never more than what there is to know.
 */
export interface ServerFeed {
  /** A server starts, and knows nothing. `onNews` is called when there is something to take, until there is another one. */
  restart(onNews: () => void): void;
  /** The next piece, as plain data; empty if there is nothing to tell. */
  take(): readonly object[];
}

/** What a process has only once, for a server. */
export interface ServerSurroundings {
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Does something after some milliseconds; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
  /** Returns a random whole number below `limit`, which nobody can guess. */
  readonly randomBelow: (limit: number) => number;
  readonly onFailed: (error: unknown) => void;
  /** Tells the switch something, as plain data. */
  readonly tell: (said: object) => void;
}

/** Called on its thread, which is still in the network namespace of the host: threads that it starts now stay there. */
export type OpenServer = (surroundings: ServerSurroundings) => Answerer;

/**
 * `client` is who really asks: the endpoint behind the port where its packets came in, whatever source they have.
 * Whatever fails, at once or by a promise, is logged, and ends nothing else.
 */
export interface Answerer {
  /** A datagram of a client. `answer` may be called later, and any number of times. */
  datagram?(message: Uint8Array, client: SocketClient, answer: (bytes: Uint8Array) => void): void | Promise<void>;
  /**
   * A connection of a client. It is closed with its endpoint. How long it may be idle, and when its own side ends, is up to
   * the answerer.
   */
  connection?(socket: Socket, client: SocketClient): void | Promise<void>;
  /** A piece of its feed. */
  told?(piece: readonly object[]): void;
}
