/**
 * An HTTP server on a unix socket, in two steps. `openUnixServer` claims the socket before anything else is touched, so
 * that a second daemon is refused at once. `serve` answers as soon as there is something to answer with; requests in
 * between wait. What answers is loaded only then, so that forwarding does not wait for it.
 */
import { closeSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Server as NetServer } from 'node:net';
import type { WeftError } from '../error.ts';
import { capConnections, connectionCap } from './connection-cap.ts';
import { ConnectionQueue, type QueueEnvironment } from './connection-queue.ts';
import { ALIVE_METHOD, claimSocket, listen, takeSocket } from './socket.ts';

/** Answers a request, as Hono's `fetch` does. */
export type Fetch = (request: Request) => Response | Promise<Response>;

export interface UnixServer {
  /** Answers from now on. */
  serve(load: () => Promise<Fetch>): Promise<void>;
  /** New requests wait until `serve` is called again, or `refuse`. With a queue, those who connect wait, and all that were accepted are answered. */
  hold(): void;
  /** With a queue: resolves when all that it has accepted before `hold` is answered, or when `deadline` comes. */
  answered(deadline: AbortSignal): Promise<void>;
  /** With a queue: removes the socket, and resolves when all who have connected before are answered, or when `deadline` comes. */
  finish(deadline: AbortSignal): Promise<void>;
  /** Accepts no more connections. The socket stays; who connects waits for whoever listens there next. */
  leave(): void;
  /** Listens again at the socket that it has left, by this descriptor, which belongs to it from then on. */
  listenAgain(descriptor: number): Promise<void>;
  /** Another daemon listens at the socket that this one has left: requests that wait are to be sent to that one. */
  refuse(): void;
  /**
   * Removes the socket unless it has left it, disconnects followers, and finishes responses in progress unless
   * `deadline` comes first.
   */
  close(deadline: AbortSignal): Promise<void>;
}

/** What a daemon before this one has left open, and who is told of what this one opens. Numbers are descriptors. */
export interface SocketDescriptors {
  /** Undefined if there is none; it belongs to the caller from then on. */
  take(name: string): number | undefined;
  opened(name: string, descriptors: readonly number[]): void;
}

/**
 * A request must arrive as a whole in this time, or its connection is closed; following may take as long as it likes.
 */
const RECEIVE_MS = { headersTimeout: 10_000, requestTimeout: 30_000, connectionsCheckingInterval: 5_000 } as const;

type Listener = (request: IncomingMessage, response: ServerResponse) => unknown;

export interface UnixServerOptions {
  /** The name of its listening socket among descriptors. */
  readonly name: string;
  /** What every response has. */
  readonly headers: Readonly<Record<string, string>>;
  /** For clients that take a refusal for a failure: they wait, and `refuse` ends connections without an answer. */
  readonly queue?: Pick<QueueEnvironment, 'later' | 'turn'> & { readonly duplicate: (descriptor: number) => number };
  /** The body of a refusal. */
  readonly failure: (error: Pick<WeftError, 'code' | 'message'>) => object;
  /** Connections at a time; by default a share of the descriptors that this process may have. */
  readonly cap?: number;
  /** A connection could not be accepted because descriptors ran out. Open connections continue. */
  readonly onRefused?: (error: Error) => void;
  readonly descriptors?: SocketDescriptors;
}

/** @throws WeftError `conflict` if another daemon has the socket; `system` if it cannot be created */
export async function openUnixServer(socketPath: string, options: UnixServerOptions): Promise<UnixServer> {
  const { name, headers, failure, queue, cap = connectionCap(), onRefused = () => {}, descriptors } = options;
  let setListener: (listener: Listener) => void;
  let listener: Promise<Listener>;
  let areHeld = false;
  const holdRequests = (): void => {
    if (areHeld) return;
    areHeld = true;
    listener = new Promise((resolve) => {
      setListener = (next) => {
        areHeld = false;
        resolve(next);
      };
    });
  };
  holdRequests();
  let isServing = false;
  const open = new Set<ServerResponse>();
  const server = createServer(RECEIVE_MS, (request, response) => {
    // A unix socket has none. Docker writes the socket's path there, of which no URL can be made.
    delete request.headers.host;
    for (const [header, value] of Object.entries(headers)) response.setHeader(header, value);
    if (request.method === ALIVE_METHOD) {
      response.writeHead(204).end();
      return;
    }
    connections?.begin(request, response);
    if (mayAnswer?.(request, response) === false) {
      const error = { code: 'exhausted', message: busyText(cap) } as const;
      response.writeHead(503, { 'content-type': 'application/json' }).end(JSON.stringify(failure(error)));
      return;
    }
    open.add(response);
    response.once('close', () => open.delete(response));
    void listener.then((listen) => listen(request, response));
  });
  const mayAnswer = queue ? undefined : capConnections(server, cap);
  /** The listening socket, also while nothing is accepted; and by another descriptor, to accept again. */
  let [kept, paused]: (number | undefined)[] = [];
  const keep = (): void => {
    kept = queue?.duplicate(descriptorOf(server));
    descriptors?.opened(name, [kept ?? descriptorOf(server)]);
  };
  const forget = (): void => {
    for (const one of [kept, paused]) if (one !== undefined) closeSync(one);
    kept = paused = undefined;
  };
  const pause = (): void => {
    if (!server.listening) return;
    try {
      paused = queue!.duplicate(kept!);
    } catch (error) {
      // There is none left: more are connected than should be.
      return onRefused(error as Error);
    }
    stopListening(server);
  };
  const resume = (): void => {
    const fd = paused;
    paused = undefined;
    if (fd !== undefined) listen(server, { fd }).catch(onRefused);
  };
  const connections = queue && new ConnectionQueue(server, { cap, pause, resume, ...queue });
  const left = descriptors?.take(name);
  let release = left === undefined ? await claimSocket(server, socketPath) : await takeSocket(server, socketPath, left);
  keep();
  connections?.hold();
  server.on('error', onRefused);

  return {
    async serve(load) {
      const [fetch, { getRequestListener }] = await Promise.all([load(), import('@hono/node-server')]);
      // Whoever has served until now does not any more.
      holdRequests();
      setListener(getRequestListener(fetch, { overrideGlobalObjects: false, hostname: 'localhost' }));
      isServing = true;
      connections?.release();
    },
    hold() {
      if (connections) connections.hold();
      else holdRequests();
    },
    async answered(deadline) {
      await connections?.answered(deadline);
    },
    async finish(deadline) {
      if (!connections) return;
      release();
      await connections.emptied(deadline);
    },
    leave() {
      release = () => {};
      holdRequests();
      forget();
      stopListening(server);
    },
    async listenAgain(descriptor) {
      release = await takeSocket(server, socketPath, descriptor);
      keep();
      connections?.listensAgain();
    },
    refuse() {
      isServing = true;
      setListener((_, response) => {
        if (queue) return response.destroy();
        const retry = { 'content-type': 'application/json', 'retry-after': '0', connection: 'close' };
        return response.writeHead(503, retry).end(JSON.stringify(failure({ code: 'unreachable', message: MOVED })));
      });
    },
    async close(deadline) {
      release();
      forget();
      // After `leave` it does not listen, and only the connections are left.
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      const cut = (): void => server.closeAllConnections();
      if (!isServing || deadline.aborted) cut();
      deadline.addEventListener('abort', cut, { once: true });
      // A follower's response has begun and does not end; all others are sent as a whole.
      for (const response of open) if (response.headersSent && !response.writableEnded) response.destroy();
      await closed;
      deadline.removeEventListener('abort', cut);
    },
  };
}

const MOVED = 'another weft daemon answers on this socket now: try again';

/** Not as HTTP does it, which also ends connections whose request is on its way. */
function stopListening(server: NetServer): void {
  NetServer.prototype.close.call(server);
}

/** Of its listening socket. */
function descriptorOf(server: NetServer): number {
  return (server as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;
}

function busyText(cap: number): string {
  return `weft answers ${cap - 1} requests at once, and has them: end what follows flows, drops or captures, or try again`;
}
