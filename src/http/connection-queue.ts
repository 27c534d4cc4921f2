/**
 * Lets connections wait where they take no descriptors: in the kernel's queue of the listening socket. That is for clients that
 * cannot ask again once their request is sent: each of their requests that was read is answered.
 *
 * Nothing is accepted while as many are open as may be, nor while it is held: until somebody can answer, and before another process
 * gets the listening socket. Connections that have not sent their whole request a moment after they were accepted are ended when
 * others wait for them, so that they keep nobody out for long.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export interface QueueEnvironment {
  /** How many may be open. */
  readonly cap: number;
  /** Stops accepting; who connects waits. */
  readonly pause: () => void;
  /** Accepts again, unless the socket was left meanwhile. */
  readonly resume: () => void;
  /** Runs its argument after a moment, in which clients send what they have to say. */
  readonly later: (work: () => void) => void;
  /** Resolves when one that has waited was accepted, if there was one and there is room. */
  readonly turn: () => Promise<void>;
}

export class ConnectionQueue {
  readonly #environment: QueueEnvironment;
  readonly #open = new Set<Socket>();
  /** Those whose request has not come as a whole. */
  readonly #sending = new Set<Socket>();
  /** Those of them that have had their moment. */
  readonly #late = new Set<Socket>();
  #accepted = 0;
  #isHeld = false;
  #isPaused = false;
  #isEnding = false;
  #onClosed = (): void => {};

  constructor(server: Server, environment: QueueEnvironment) {
    this.#environment = environment;
    server.on('connection', (socket) => this.#add(socket));
  }

  /** Call it when a request begins. */
  begin(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    // Whoever keeps one open would keep others waiting, and does not know when it is ended.
    response.shouldKeepAlive = false;
    request.once('end', () => {
      this.#sending.delete(socket);
      this.#late.delete(socket);
    });
  }

  /** Accepts nothing until `release`. */
  hold(): void {
    this.#isHeld = true;
    this.#update();
  }

  release(): void {
    this.#isHeld = false;
    this.#update();
  }

  /** The server listens at the socket again that it has left. */
  listensAgain(): void {
    this.#isPaused = false;
    this.#update();
  }

  /** Resolves when all that was accepted is answered, or when `deadline` comes. */
  async answered(deadline: AbortSignal): Promise<void> {
    const aborted = new Promise<void>((resolve) => {
      deadline.addEventListener('abort', () => resolve(), { once: true });
    });
    while (this.#open.size > 0 && !deadline.aborted) {
      await Promise.race([aborted, new Promise<void>((resolve) => (this.#onClosed = resolve))]);
    }
  }

  /** Resolves when all that waits is answered, too. Nobody may be able to connect any more. */
  async emptied(deadline: AbortSignal): Promise<void> {
    this.#isEnding = true;
    this.#endLate();
    for (let before = -1; before < this.#accepted && !deadline.aborted; ) {
      await this.answered(deadline);
      before = this.#accepted;
      await this.#environment.turn();
    }
  }

  #add(socket: Socket): void {
    this.#accepted++;
    this.#open.add(socket);
    this.#sending.add(socket);
    socket.once('close', () => {
      for (const set of [this.#open, this.#sending, this.#late]) set.delete(socket);
      this.#update();
      this.#onClosed();
    });
    this.#environment.later(() => {
      if (!this.#sending.has(socket)) return;
      this.#late.add(socket);
      this.#endLate();
    });
    this.#update();
  }

  #update(): void {
    const isPaused = this.#isHeld || this.#open.size >= this.#environment.cap;
    if (isPaused !== this.#isPaused) {
      this.#isPaused = isPaused;
      if (isPaused) this.#environment.pause();
      else this.#environment.resume();
    }
    this.#endLate();
  }

  /** Others wait for them. */
  #endLate(): void {
    if (!this.#isPaused && !this.#isEnding) return;
    for (const socket of this.#late) socket.destroy();
  }
}
