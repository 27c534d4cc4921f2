/** The thread of weft's own sockets, as the switch sees it: it is started, told of clients, and ended. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { WeftError } from '../error.ts';
import { packageRoot } from '../package.ts';
import type { Clients } from '../table/clients.ts';
import type { FromThread, ThreadStart, ToThread } from './messages.ts';

/** The code of the thread: a bundle of its own, or the source where TypeScript is loaded as it is. */
const CODE = import.meta.url.endsWith('.ts')
  ? new URL('worker.ts', import.meta.url)
  : join(packageRoot, 'dist/internal/worker.js');

/** Of the heap of the thread, in MiB. */
const HEAP_LIMITS = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16 };

export interface SocketThreadOptions extends Omit<ThreadStart, 'clients'> {
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
  #isClosed = false;

  constructor({ clients, onLost, onFailed, ...start }: SocketThreadOptions) {
    this.#onLost = onLost;
    this.#onFailed = onFailed;
    const workerData: ThreadStart = { ...start, clients: clients.all() };
    this.#worker = new Worker(CODE, { workerData, resourceLimits: HEAP_LIMITS });
    const tell = (message: ToThread): void => this.#worker.postMessage(message);
    this.#unwatch = clients.watch({
      added: (client) => tell({ kind: 'added', client }),
      removed: (id) => tell({ kind: 'removed', id }),
    });
  }

  /** Returns when all sockets are open. @throws WeftError if they cannot be opened; the thread is to be closed then */
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
        isListening = true;
        resolve();
      });
      this.#worker.on('error', (error) => lost(error.message));
      this.#worker.on('exit', (code) => lost(`their thread has ended with code ${code}`));
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unwatch();
    await this.#worker.terminate();
  }
}
