/** What the switch and the thread of the sockets tell each other. */
import type { SocketClient } from '../table/clients.ts';
import type { ServerCode } from './server.ts';

/** What the thread starts with. */
export interface ThreadStart {
  /** Holds the namespace. */
  readonly descriptor: number;
  /** The addresses of the sockets, as text, one for each family. */
  readonly addresses: readonly string[];
  readonly servers: readonly ServerCode[];
  readonly clients: readonly SocketClient[];
}

export type ToThread =
  | { readonly kind: 'added'; readonly client: SocketClient }
  | { readonly kind: 'removed'; readonly id: number }
  /** A piece of what a server has to know, which is given by its place in `servers`. */
  | { readonly kind: 'told'; readonly server: number; readonly piece: readonly object[] };

export type FromThread =
  /** All sockets are open. */
  | { readonly kind: 'listening' }
  /** The server knows the piece that it was told, and can be told the next one. */
  | { readonly kind: 'knows'; readonly server: number }
  /** A server tells something. */
  | { readonly kind: 'said'; readonly server: number; readonly said: object }
  /** An answerer has thrown. The datagram or connection is given up, nothing else. */
  | { readonly kind: 'failed'; readonly text: string };
