/**
 * The daemon's side of the holder (native/holder.cc, which has its messages): a process of some hundred kilobytes that
 * keeps duplicates of descriptors. It listens in the state directory, where the next daemon finds it.
 *
 *   find   at a start: a holder that a killed daemon has left, and what it has
 *   start  when everything is in force, unless there is one
 *   look   from time to time: one whose socket was deleted is of no use, and would keep interfaces open
 *   end    when weft is stopped; a killed daemon's holder ends by itself after a minute
 *
 * Each request waits for its reply, which takes as long as a switch between two processes. A holder that does
 * not reply is killed, since interfaces would stay open for as long as it lives; nothing depends on it while weft runs.
 */
import { spawn } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { connectPackets, listenPackets, MESSAGE_DESCRIPTORS, type PacketConnection } from '../addon/passing.ts';
import { WeftError } from '../error.ts';
import { nativeProgram } from '../package.ts';
import { closeAll, type Keeper, type Named } from './descriptors.ts';

const PROGRAM = nativeProgram('weft-holder');
/** Its socket in the state directory. */
const SOCKET = 'holder';
const REPLY_MS = 1000;

export class Holder implements Keeper {
  readonly #directory: string;
  readonly #connection: PacketConnection;
  readonly #pid: number;
  readonly #names = new Set<string>();
  #onLost: (why: string) => void = () => {};
  #isLost = false;

  private constructor(directory: string, connection: PacketConnection, pid: number) {
    this.#directory = directory;
    this.#connection = connection;
    this.#pid = pid;
  }

  /**
   * The holder of a state directory, if there is one that answers, and what it has. The descriptors belong to the
   * caller.
   */
  static find(directory: string): { readonly holder: Holder; readonly held: Named[] } | undefined {
    try {
      const connection = inDirectory(directory, connectPackets);
      if (!connection) return undefined;
      const holder = new Holder(directory, connection, connection.peer);
      return { holder, held: holder.#take() };
    } catch (error) {
      if (error instanceof WeftError || (error as NodeJS.ErrnoException).code !== undefined) return undefined;
      throw error;
    }
  }

  /** @throws WeftError if it cannot be started */
  static start(directory: string): Holder {
    rmSync(join(directory, SOCKET), { force: true });
    const listener = inDirectory(directory, listenPackets);
    try {
      const child = spawn(PROGRAM, [realpathSync(directory)], {
        stdio: ['ignore', 'ignore', 'ignore', listener],
        detached: true,
        env: {},
      });
      // Requests that it does not answer say so.
      child.on('error', () => {});
      child.unref();
      // It waits in the queue of the listening socket until the holder accepts it.
      return new Holder(directory, inDirectory(directory, connectPackets)!, child.pid ?? 0);
    } finally {
      closeSync(listener);
    }
  }

  /** Calls back once if the holder ends or does not answer. Call it once. */
  watch(onLost: (why: string) => void): void {
    this.#onLost = onLost;
    this.#connection.listen((message) => {
      if (message) closeAll(message.descriptors);
      else this.#lose('it has ended');
    });
  }

  /** Ends it if the next daemon would not find it, since its socket was deleted, or all of the state directory. */
  look(): void {
    const socket = join(this.#directory, SOCKET);
    if (this.#isLost || existsSync(socket)) return;
    this.#ask('E');
    this.#lose(`${socket} was deleted`);
  }

  names(): readonly string[] {
    return [...this.#names];
  }

  put(name: string, descriptors: readonly number[]): void {
    this.#names.add(name);
    if (this.#ask(`P${name}`, descriptors.slice(0, MESSAGE_DESCRIPTORS)) === 'F') this.#kill('it has no room for more');
  }

  drop(name: string): void {
    this.#names.delete(name);
    this.#ask(`D${name}`);
  }

  end(): void {
    this.#onLost = () => {};
    this.#ask('E');
    this.#lose('');
    rmSync(join(this.#directory, SOCKET), { force: true });
  }

  /** It goes on for whoever is connected, too. */
  close(): void {
    this.#onLost = () => {};
    this.#lose('');
  }

  #take(): Named[] {
    const held: Named[] = [];
    try {
      this.#connection.send('T');
      for (;;) {
        const message = this.#connection.receive(REPLY_MS);
        if (!message) throw new WeftError('system', 'the holder does not answer');
        const text = Buffer.from(message.bytes).toString();
        if (text[0] !== 'N') return held;
        const name = text.slice(1);
        this.#names.add(name);
        held.push({ name, descriptors: message.descriptors });
      }
    } catch (error) {
      for (const { descriptors } of held) closeAll(descriptors);
      this.#kill((error as Error).message);
      throw error;
    }
  }

  /** @returns the reply; undefined without one */
  #ask(request: string, descriptors: readonly number[] = []): string | undefined {
    if (this.#isLost) return undefined;
    try {
      this.#connection.send(request, descriptors);
      const reply = this.#connection.receive(REPLY_MS);
      if (reply) return Buffer.from(reply.bytes).toString();
      this.#kill('it does not answer');
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      this.#lose(error.message);
    }
    return undefined;
  }

  /** Whatever it still has is closed with it. */
  #kill(why: string): void {
    try {
      if (isHolder(this.#pid, this.#directory)) {
        process.kill(this.#pid, 'SIGKILL');
        // Its end ends the connection, and this loop.
        for (let late; (late = this.#connection.receive(REPLY_MS)); ) closeAll(late.descriptors);
      }
    } catch {
      // It has ended.
    }
    this.#lose(why);
  }

  #lose(why: string): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#connection.close();
    this.#onLost(why);
  }
}

/** Is that still the holder of this directory? The number may belong to another process by now. */
function isHolder(pid: number, directory: string): boolean {
  const [program, of] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  return basename(program!) === basename(PROGRAM) && of === realpathSync(directory);
}

/** Uses a path that is short enough for a socket, however long that of the directory is. */
function inDirectory<T>(directory: string, use: (path: string) => T): T {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return use(`/proc/self/fd/${fd}/${SOCKET}`);
  } finally {
    closeSync(fd);
  }
}
