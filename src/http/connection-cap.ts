/**
 * Limits the number of connections to an HTTP server, so that clients never take the daemon's last
 * descriptor.
 *
 * When there is one more than the cap, the connection that has been idle longest is ended:
 * clients that connect and say nothing keep nobody out. A request in progress is never ended
 * for another. At most one fewer than the cap are in progress, and further requests are
 * refused with a message, so one connection is always free for such a refusal.
 */
import { readFileSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const MOST_CONNECTIONS = 512;

/** An eighth of the descriptors that this process may have. native/io/descriptors.h leaves that many, and some more. */
export function connectionCap(): number {
  const [, limit] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return limit === undefined
    ? MOST_CONNECTIONS
    : Math.min(MOST_CONNECTIONS, Math.max(2, Math.floor(Number(limit) / 8)));
}

/** @returns a function that says whether a request may be answered; call it once when a request begins */
export function capConnections(
  server: Server,
  cap: number,
): (request: IncomingMessage, response: ServerResponse) => boolean {
  /** In the order in which they became idle. */
  const idle = new Set<Socket>();
  /** With the number of requests in progress: a client may send several. */
  const busy = new Map<Socket, number>();
  server.on('connection', (socket) => {
    idle.add(socket);
    socket.once('close', () => idle.delete(socket));
    if (idle.size + busy.size <= cap) return;
    const [longest] = idle;
    // Its `close` comes later, and others may come before it.
    idle.delete(longest!);
    longest!.destroy();
  });
  return (request, response) => {
    const { socket } = request;
    const before = busy.get(socket) ?? 0;
    if (before === 0 && busy.size >= cap - 1) return false;
    busy.set(socket, before + 1);
    idle.delete(socket);
    response.once('close', () => {
      const left = (busy.get(socket) ?? 1) - 1;
      if (left > 0) busy.set(socket, left);
      else if (busy.delete(socket) && !socket.destroyed) idle.add(socket);
    });
    return true;
  };
}
