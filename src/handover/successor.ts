/**
 * The new daemon's side of a takeover: `predecessor.ts` has the steps.
 *
 * It says `go` only when it has read its configuration and loaded all its code, so that as little as possible is left
 * to do while nobody forwards. If the running daemon is killed after it has passed everything on, this one goes on alone; if
 * that happens before, this one starts as if none had run, with what the holder has.
 */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { acceptPackets, listenPackets, type PacketConnection } from '../addon/passing.ts';
import { WeftError } from '../error.ts';
import { connectionFileHeader } from '../flow/connection.ts';
import { closeAll, type Descriptors } from './descriptors.ts';
import { messageOf, TAKEOVER_FORMAT, textOf, type TakeoverAnswer, type TakeoverRequest } from './request.ts';

/** How long the running daemon may take to finish what is under way. */
const LETTING_GO_MS = 60_000;

export interface SuccessorOptions {
  /** Path of the API's socket. */
  readonly socket: string;
  readonly state: string;
  readonly host: string;
  readonly version: string;
  /** Where to put what the running daemon has. */
  readonly descriptors: Descriptors;
  /** Asks the running daemon. @returns instead that none runs, or that it has ended meanwhile @throws WeftError with its refusal */
  readonly ask: (request: TakeoverRequest) => Promise<TakeoverAnswer | 'none' | 'killed'>;
  readonly after: (delayMs: number, work: () => void) => () => void;
}

export class Successor {
  readonly #connection: PacketConnection;
  /** The other daemon has ended: nobody goes on if this one does not. */
  isAlone = false;
  #onStop: (how: { readonly purge: boolean }) => void = () => {};
  #stop: { readonly purge: boolean } | undefined;
  #onMessage: (message: { readonly bytes: Uint8Array; readonly descriptors: readonly number[] } | undefined) => void =
    () => {};

  private constructor(connection: PacketConnection) {
    this.#connection = connection;
    connection.listen((message) => this.#onMessage(message));
  }

  /**
   * Takes everything from the daemon that runs at this socket. Returns when that one has let go.
   * @returns instead that none runs, or that it was killed before it had passed everything on: nothing of it is here then
   * @throws WeftError if it refuses, or stops
   */
  static async take(options: SuccessorOptions): Promise<Successor | 'none' | 'killed'> {
    const { socket, state, host, version, ask } = options;
    let directory: string | undefined;
    let listener: number | undefined;
    let connection: PacketConnection;
    const remove = (): void => {
      if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
    };
    // A signal may end the process meanwhile.
    process.once('exit', remove);
    try {
      directory = mkdtempSync(join(dirname(socket), '.weft-'));
      const at = join(directory, 't');
      listener = listenPackets(at);
      const place = { host, state: realPath(state), connections: Buffer.from(connectionFileHeader()).toString('hex') };
      const answer = await ask({ format: TAKEOVER_FORMAT, version, at, place });
      if (typeof answer === 'string') return answer;
      connection = acceptPackets(listener);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'none'; // there is no directory of a socket
      throw error;
    } finally {
      if (listener !== undefined) closeAll([listener]);
      process.off('exit', remove);
      remove();
    }
    const successor = new Successor(connection);
    return (await successor.#takeAll(options)) ? successor : 'killed';
  }

  /** This daemon forwards. @param onStop called if the other one was told to stop in the meantime */
  forwarding(onStop: (how: { readonly purge: boolean }) => void): void {
    this.#onStop = onStop;
    try {
      this.#connection.send(textOf({ say: 'forwarding' }));
    } catch {
      // It is dead: one that goes on would have killed this one before.
    }
    if (this.#stop) onStop(this.#stop);
  }

  /** This daemon has failed, and uses nothing of the other one any more: that one goes on at once. */
  close(): void {
    this.#connection.close();
  }

  /** @returns false if the running daemon was killed @throws WeftError */
  #takeAll({ descriptors, after }: SuccessorOptions): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        cancel();
        this.#connection.close();
        descriptors.closeSpare();
      };
      const fail = (why: string): void => {
        giveUp();
        reject(new WeftError('unreachable', `the running daemon did not hand over: ${why}; see its log`));
      };
      const cancel = after(LETTING_GO_MS, () => fail(`it has not let go after ${LETTING_GO_MS / 1000} s`));
      this.#onMessage = (message) => {
        if (!message) {
          giveUp();
          return resolve(false);
        }
        const said = messageOf(message.bytes);
        if (said.say === 'descriptors') return descriptors.addSpare(said.name, message.descriptors);
        closeAll(message.descriptors);
        if (said.say === 'withdrawn') return fail(said.why);
        if (said.say !== 'all') return;
        cancel();
        descriptors.continue();
        this.#onMessage = (later) => this.#hear(later);
        resolve(true);
      };
      try {
        this.#connection.send(textOf({ say: 'go' }));
      } catch {
        // The connection has ended, which is told with what was said before.
      }
    });
  }

  /** The connection ends with the old daemon. */
  #hear(message: { readonly bytes: Uint8Array; readonly descriptors: readonly number[] } | undefined): void {
    if (!message) {
      this.isAlone = true;
      return this.#connection.close();
    }
    closeAll(message.descriptors);
    const said = messageOf(message.bytes);
    if (said.say !== 'stop') return;
    this.#stop = said;
    this.#onStop(said);
  }
}

/** A directory that does not exist yet has no links in it that matter. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
