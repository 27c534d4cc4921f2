/** What the switch and the thread of the sockets tell each other. */
import type { SocketClient } from '../table/clients.ts';
import type { ServerSpec } from './server.ts';

/** What the thread starts with. */
export interface ThreadStart {
  /** Holds the namespace. */
  readonly descriptor: number;
  /** The addresses of the sockets, as text, one for each family. */
  readonly addresses: readonly string[];
  readonly servers: readonly ServerSpec[];
  readonly clients: readonly SocketClient[];
}

export type ToThread =
  | { readonly kind: 'added'; readonly client: SocketClient }
  | { readonly kind: 'removed'; readonly id: number };

export type FromThread =
  /** All sockets are open. */
  | { readonly kind: 'listening' }
  /** An answerer has thrown. The datagram or connection is given up, nothing else. */
  | { readonly kind: 'failed'; readonly text: string };
