/**
 * The daemon's side of the API, in two steps: `openApi` claims the socket before
 * anything else is touched, so that a second daemon is refused at once; `serve`
 * answers as soon as there is a switch. Requests in between wait. The routes
 * are loaded only then: forwarding does not wait for them.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { claimSocket } from './socket.ts';
import type { ApiTarget } from './target.ts';

export interface ApiServer {
  /** Answers from now on. `onInternal` is told of errors that are defects of weft. */
  serve(target: ApiTarget, onInternal: (error: unknown) => void): Promise<void>;
  /** Removes the socket, cuts followers off, and finishes what is being answered unless `deadline` comes first. */
  close(deadline: AbortSignal): Promise<void>;
}

type Listener = (request: IncomingMessage, response: ServerResponse) => unknown;

/** @throws WeftError `conflict` if another daemon has the socket; `system` if it cannot be created. */
export async function openApi(socketPath: string): Promise<ApiServer> {
  let setListener: (listener: Listener) => void;
  const listener = new Promise<Listener>((resolve) => {
    setListener = resolve;
  });
  let isServing = false;
  const open = new Set<ServerResponse>();
  const server = createServer((request, response) => {
    open.add(response);
    response.once('close', () => open.delete(response));
    void listener.then((listen) => listen(request, response));
  });
  const release = await claimSocket(server, socketPath);

  return {
    async serve(target, onInternal) {
      const [{ routes }, { getRequestListener }] = await Promise.all([
        import('./routes.ts'),
        import('@hono/node-server'),
      ]);
      setListener(getRequestListener(routes(target, onInternal).fetch, { overrideGlobalObjects: false }));
      isServing = true;
    },
    async close(deadline) {
      release();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      const cut = (): void => server.closeAllConnections();
      if (!isServing || deadline.aborted) cut();
      deadline.addEventListener('abort', cut, { once: true });
      // A follower's answer has begun and does not end; all others are sent as a whole.
      for (const response of open) if (response.headersSent && !response.writableEnded) response.destroy();
      await closed;
      deadline.removeEventListener('abort', cut);
    },
  };
}
