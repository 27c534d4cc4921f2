/** The switch of a running daemon, over the socket of its API. */
import { Client, DEFAULT_SOCKET } from '../api/client.ts';
import { SwitchHandle } from './switch-handle.ts';

export interface DaemonClientOptions {
  /** By default that of `weft up`. */
  readonly socket?: string;
}

export class DaemonClient extends SwitchHandle {
  constructor({ socket = DEFAULT_SOCKET }: DaemonClientOptions = {}) {
    super(new Client(socket));
  }

  /** Ends everything that is followed. Otherwise nothing is open between calls; the daemon goes on. */
  close(): void {
    this.endFollowing();
  }

  /** Closes it, at the end of `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
