/** The thread of weft's own sockets, as the switch sees it: it is started, told of clients, and ended. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { WeftError } from '../error.ts';
import { packageRoot } from '../package.ts';
import type { Clients } from '../table/clients.ts';
import type { FromThread, ThreadStart, ToThread } from './messages.ts';
import type { ServerSpec } from './server.ts';

/** The code of the thread: a bundle of its own, or the source where TypeScript is loaded as it is. */
const CODE = import.meta.url.endsWith('.ts')
  ? new URL('worker.ts', import.meta.url)
  : join(packageRoot, 'dist/internal/worker.js');

/** Of the heap of the thread, in MiB. The names of 100,000 endpoints and 30,000 services take about 110. */
const HEAP_LIMITS = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 16 };

export interface SocketThreadOptions extends Omit<ThreadStart, 'clients' | 'servers'> {
  readonly servers: readonly ServerSpec[];
  readonly clients: Clients;
  /** An answerer has thrown. */
  readonly onFailed: (text: string) => void;
  /** The thread has ended by itself. */
  readonly onLost: (why: string) => void;
}

export class SocketThread {
  readonly #worker: Worker;
  readonly #unwatch: () => void;
  readonly #onLost: (why: string) => void;
  readonly #onFailed: (text: string) => void;
  readonly #servers: readonly ServerSpec[];
  /** Servers that have not yet said that they know what they were told last. */
  readonly #learning = new Set<number>();
  #isClosed = false;

  constructor({ clients, servers, onLost, onFailed, ...start }: SocketThreadOptions) {
    this.#servers = servers;
    this.#onLost = onLost;
    this.#onFailed = onFailed;
    const codes = servers.map(({ listening, module }) => ({ listening, module }));
    const workerData: ThreadStart = { ...start, servers: codes, clients: clients.all() };
    this.#worker = new Worker(CODE, { workerData, resourceLimits: HEAP_LIMITS });
    this.#unwatch = clients.watch({
      added: (client) => this.#tell({ kind: 'added', client }),
      removed: (id) => this.#tell({ kind: 'removed', id }),
    });
  }

  /** Returns when all sockets are open, and their servers know everything. @throws WeftError if they cannot be opened; the thread is to be closed then */
  listening(): Promise<void> {
    return new Promise((resolve, reject) => {
      let isListening = false;
      const lost = (why: string): void => {
        if (!isListening) reject(new WeftError('system', `weft’s own sockets cannot be opened: ${why}`));
        else if (!this.#isClosed) this.#onLost(why);
        this.#isClosed = true;
      };
      this.#worker.on('message', (message: FromThread) => {
        if (message.kind === 'failed') return this.#onFailed(message.text);
        if (message.kind === 'said') return this.#servers[message.server]!.onSaid?.(message.said);
        if (message.kind === 'listening') this.#teach();
        else if (message.kind === 'knows') this.#knows(message.server);
        // Where TypeScript is loaded as it is, its loader has messages of its own.
        else return;
        if (this.#learning.size > 0) return;
        isListening = true;
        resolve();
      });
      this.#worker.on('error', (error) => lost(error.message));
      this.#worker.on('exit', (code) => lost(`their thread has ended with code ${code}`));
    });
  }

  /** Begins to tell the servers what they have to know. */
  #teach(): void {
    for (const [at, { feed }] of this.#servers.entries()) {
      feed?.restart(() => {
        if (!this.#learning.has(at)) this.#knows(at);
      });
      if (feed) this.#knows(at);
    }
  }

  /** Tells a server the next piece, if there is one. */
  #knows(server: number): void {
    this.#learning.delete(server);
    const piece = this.#isClosed ? [] : this.#servers[server]!.feed!.take();
    if (piece.length === 0) return;
    this.#learning.add(server);
    this.#tell({ kind: 'told', server, piece });
  }

  #tell(message: ToThread): void {
    this.#worker.postMessage(message);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unwatch();
    await this.#worker.terminate();
  }
}
