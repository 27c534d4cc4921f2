/**
 * Lets connections beyond a cap wait where they take no descriptors: in the kernel's queue of the listening socket. That is for
 * clients that cannot ask again once their request is sent: each of their requests that was read is answered.
 *
 * While as many are open as may be, nothing is accepted. Connections that have said nothing for a moment are ended then, so that
 * clients that connect and say nothing keep nobody out for long.
 */
import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export interface ListeningSocket {
  /** Stops accepting; who connects waits. */
  readonly pause: () => void;
  /** Accepts again, unless the socket was left meanwhile. */
  readonly resume: () => void;
}

/**
 * @param later runs its argument after a moment, in which clients send what they have to say
 * @returns a function; call it when a request begins
 */
export function queueConnections(
  server: Server,
  cap: number,
  { pause, resume }: ListeningSocket,
  later: (work: () => void) => void,
): (socket: Socket, response: ServerResponse) => void {
  const open = new Set<Socket>();
  /** Those that had said nothing when accepting was paused, or later. */
  const silent = new Set<Socket>();
  let isPaused = false;
  const endSilent = (asked: readonly Socket[]): void => {
    for (const socket of asked) if (silent.has(socket)) socket.destroy();
    // Those that have come since, if there is still no room then.
    if (isPaused && silent.size > 0) later(() => endSilent([...silent]));
  };
  server.on('connection', (socket) => {
    open.add(socket);
    silent.add(socket);
    socket.once('close', () => {
      open.delete(socket);
      silent.delete(socket);
      if (!isPaused || open.size >= cap) return;
      isPaused = false;
      resume();
    });
    if (isPaused || open.size < cap) return;
    isPaused = true;
    pause();
    const now = [...silent];
    later(() => endSilent(now));
  });
  return (socket, response) => {
    silent.delete(socket);
    // Whoever keeps one open would keep others waiting, and does not know when it is ended.
    response.shouldKeepAlive = false;
  };
}
