/**
 * The running daemon's side of a takeover.
 *
 *   offered   the new daemon was accepted; nothing has changed yet, and it may take its time
 *   given     it has said `go`: this one has finished what was under way, closed its switch without giving
 *             anything up, and passed on duplicates of all that it had open
 *   done      the new one forwards: this one has nothing left to do
 *
 * Only one of the two uses anything at a time. If the new daemon does not forward in time, it says so where it was started
 * and ends; one that cannot even do that is killed. When it has ended, this one opens its switch again, with the same
 * descriptors: what arrived in between has waited in the kernel.
 */
import { connectPackets, type PacketConnection, type PassedMessage } from '../addon/passing.ts';
import { WeftError } from '../error.ts';
import { closeAll, type Descriptors } from './descriptors.ts';
import {
  checkTakeover,
  FORWARD_MS,
  messageOf,
  textOf,
  type TakeoverAnswer,
  type TakeoverPlace,
  type TakeoverRequest,
} from './request.ts';

/** How long the new daemon may take until it says `go`. */
const PREPARE_MS = 30_000;
/** How long one that does not forward in time may take to end by itself. */
const ENDING_MS = 1000;
const LATE = `it does not forward after ${FORWARD_MS / 1000} s`;
/** How long a killed process may take to end. */
const DYING_MS = 30_000;

export interface PredecessorOptions {
  readonly place: TakeoverPlace;
  readonly version: string;
  readonly descriptors: Descriptors;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
  /** Finishes what is under way, and closes the switch and the socket; `descriptors` has all that was open. */
  readonly letGo: () => Promise<void>;
  /** Opens all of that again. */
  readonly resume: () => Promise<void>;
  /** The new daemon has this pid, and forwards. */
  readonly onDone: (pid: number) => void;
  readonly log: (message: string, details: object) => void;
  readonly warn: (message: string, details: object) => void;
}

/** One takeover, until it is done or given up. */
interface Successor {
  readonly pid: number;
  readonly version: string;
  readonly connection: PacketConnection;
  phase: 'offered' | 'given' | 'ended';
  isGone: boolean;
  /** It has not forwarded in time. */
  isLate: boolean;
  /** Called when it is gone. */
  onGone: () => void;
  cancelTimer: () => void;
}

export class Predecessor {
  readonly #options: PredecessorOptions;
  #successor: Successor | undefined;
  /** Resolves when nothing is in the balance any more. */
  #settled: Promise<void> = Promise.resolve();
  #settle = (): void => {};
  #isDone = false;

  constructor(options: PredecessorOptions) {
    this.#options = options;
  }

  /** @throws WeftError that says why there is no takeover */
  offer(request: TakeoverRequest): TakeoverAnswer {
    const { place, version, after, log } = this.#options;
    if (this.#successor) {
      throw new WeftError('conflict', `another daemon (pid ${this.#successor.pid}) is taking over just now: try again`);
    }
    checkTakeover(request, { ...place, version });
    const connection = connectPackets(request.at);
    if (!connection) throw new WeftError('conflict', `nobody listens on ${request.at} to take over`);
    const successor: Successor = {
      pid: connection.peer,
      version: request.version,
      connection,
      phase: 'offered',
      isGone: false,
      isLate: false,
      onGone: () => {},
      cancelTimer: after(PREPARE_MS, () => this.#withdraw(successor, 'it did not begin in time')),
    };
    this.#successor = successor;
    connection.listen((message) => this.#take(successor, message));
    log('a new daemon is about to take over', { pid: successor.pid, version: request.version });
    return { pid: process.pid, version };
  }

  /**
   * For a daemon that is to stop: no takeover begins any more, and one that has begun is decided when this resolves.
   * @returns true if the new daemon has everything; it is told to stop, too, unless it has ended by itself
   * @throws WeftError if it does not read, or has ended and so purges nothing
   */
  async stop({ purge }: { readonly purge: boolean }): Promise<boolean> {
    const successor = this.#successor;
    if (successor?.phase === 'offered') this.#withdraw(successor, 'this daemon stops');
    await this.#settled;
    if (!this.#isDone || !successor) return false;
    try {
      successor.connection.send(textOf({ say: 'stop', purge }));
    } catch (cause) {
      if (!hasEnded(successor.connection)) throw cause;
      if (!purge) return true;
      const why = `the daemon that has taken over (pid ${successor.pid}) has ended, and nothing is purged`;
      throw new WeftError('state', `${why}: start weft again, and then \`weft down --purge\``, { cause });
    }
    return true;
  }

  /** Ends the connection to a daemon that has taken over. */
  close(): void {
    this.#successor?.connection.close();
  }

  #take(successor: Successor, message: PassedMessage | undefined): void {
    if (!message) {
      successor.isGone = true;
      successor.onGone();
      if (successor.phase === 'offered') this.#withdraw(successor, 'it has ended');
      return;
    }
    closeAll(message.descriptors);
    const { say } = messageOf(message.bytes);
    if (say === 'go' && successor.phase === 'offered') void this.#give(successor);
    if (say === 'forwarding' && successor.phase === 'given') this.#finish(successor);
  }

  /** Nothing has changed yet, and nothing will. */
  #withdraw(successor: Successor, why: string): void {
    successor.phase = 'ended';
    successor.cancelTimer();
    try {
      successor.connection.send(textOf({ say: 'withdrawn', why }));
      // If anything were left unread, the kernel would report a broken connection instead.
      for (let late; (late = successor.connection.receive(0)); ) closeAll(late.descriptors);
    } catch {
      // It has ended by itself.
    }
    successor.connection.close();
    this.#successor = undefined;
    this.#options.warn('the new daemon does not take over: this one goes on', { pid: successor.pid, why });
  }

  async #give(successor: Successor): Promise<void> {
    const { descriptors, letGo, after } = this.#options;
    this.#settled = new Promise((resolve) => (this.#settle = resolve));
    successor.phase = 'given';
    successor.cancelTimer();
    try {
      await letGo();
      if (successor.isGone) throw new WeftError('conflict', 'it has ended');
      for (const { name, descriptors: own } of descriptors.allSpare()) {
        successor.connection.send(textOf({ say: 'descriptors', name }), own);
      }
      successor.connection.send(textOf({ say: 'all' }));
      successor.onGone = () => void this.#goOn(successor, successor.isLate ? LATE : 'it has ended');
      successor.cancelTimer = after(FORWARD_MS, () => this.#late(successor));
    } catch (error) {
      await this.#goOn(successor, (error as Error).message);
    }
  }

  /** It ends by itself now. */
  #late(successor: Successor): void {
    if (hasSaidForwarding(successor)) return this.#finish(successor);
    successor.isLate = true;
    successor.cancelTimer = this.#options.after(ENDING_MS, () => {
      if (hasSaidForwarding(successor)) return this.#finish(successor);
      void this.#goOn(successor, LATE);
    });
  }

  #finish(successor: Successor): void {
    successor.phase = 'ended';
    successor.cancelTimer();
    this.#isDone = true;
    this.#settle();
    this.#options.onDone(successor.pid);
  }

  async #goOn(successor: Successor, why: string): Promise<void> {
    if (successor.phase !== 'given') return;
    successor.phase = 'ended';
    successor.cancelTimer();
    const { warn, resume } = this.#options;
    if (!successor.isGone) {
      // It has everything open by now, and must not use it any more. Its end closes the connection.
      const gone = new Promise<void>((resolve) => (successor.onGone = resolve));
      kill(successor.pid);
      const cancel = this.#options.after(DYING_MS, () => successor.onGone());
      await gone;
      cancel();
    }
    successor.connection.close();
    warn('the new daemon has failed: this one goes on', { pid: successor.pid, why });
    try {
      await resume();
    } finally {
      this.#successor = undefined;
      this.#settle();
    }
  }
}

/** It may have done so just now. */
function hasSaidForwarding({ connection }: Successor): boolean {
  try {
    const last = connection.receive(0);
    return last !== undefined && messageOf(last.bytes).say === 'forwarding';
  } catch {
    return false; // it is gone
  }
}

function hasEnded(connection: PacketConnection): boolean {
  try {
    connection.receive(0);
    return false;
  } catch {
    return true;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
