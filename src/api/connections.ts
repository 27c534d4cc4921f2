/**
 * How many connections the API has at once, so that clients never take the last
 * descriptor of the daemon.
 *
 * One more than the cap ends the connection that has been idle longest: clients
 * that connect and say nothing keep nobody out. Requests in progress are never
 * ended for another. They are one fewer than the cap, and what comes beyond them
 * is refused with a message, so one connection is always free to be refused.
 */
import { readFileSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const MOST_CONNECTIONS = 512;

/** An eighth of the descriptors that this process may have. native/io/descriptors.h leaves so many, and some more. */
export function connectionCap(): number {
  const [, limit] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return limit === undefined
    ? MOST_CONNECTIONS
    : Math.min(MOST_CONNECTIONS, Math.max(2, Math.floor(Number(limit) / 8)));
}

/** @returns what tells whether a request may be answered, to be asked once at its begin */
export function capConnections(
  server: Server,
  cap: number,
): (request: IncomingMessage, response: ServerResponse) => boolean {
  /** In the order in which they became so. */
  const idle = new Set<Socket>();
  /** With as many requests in progress: a client may send several. */
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
