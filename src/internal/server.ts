/**
 * Servers of weft itself, such as one for DNS: what they listen on, and what the module has to export that
 * answers there. Modules are loaded by a thread of their own (`worker.ts`), never by the one that decides.
 */
import type { Socket } from 'node:net';
import type { SocketClient } from '../table/clients.ts';

export interface ServerSpec {
  readonly protocol: 'UDP' | 'TCP';
  /** At the address of every gateway. */
  readonly l4Port: number;
  /** URL of the module, whose default export is an `Answerer`. */
  readonly module: string;
}

/**
 * `client` is who really asks: the endpoint behind the port where its packets came in, whatever source they have.
 * Whatever fails, at once or by a promise, is logged, and ends nothing else.
 */
export interface Answerer {
  /** A datagram of a client. `answer` may be called later, and any number of times. */
  datagram?(message: Uint8Array, client: SocketClient, answer: (bytes: Uint8Array) => void): void | Promise<void>;
  /** A connection of a client. It is closed with its endpoint. How long it may be idle is up to the answerer. */
  connection?(socket: Socket, client: SocketClient): void | Promise<void>;
}
