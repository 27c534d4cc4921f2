/**
 * Where the daemon's log goes: stderr, without ever waiting for its reader.
 *
 * A reader that stops would stop the daemon at a write, decisions and API
 * included. So nothing here blocks: what is not taken at once waits, WAITING_BYTES
 * at most, and lines beyond that are left out. How many they were is a line of
 * its own, as soon as the reader has caught up.
 */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';

const WAITING_BYTES = 256 * 1024;
const RETRY_MS = 100;

export interface LogOutputOptions {
  /** Not to block on writing: see `openStderr`. */
  readonly fd: number;
  /** Lines that wait take so much at most. */
  readonly limitBytes?: number;
  /** The line, with its line feed, that says how many were left out. */
  readonly lostLine: (lines: number) => string;
}

interface Waiting {
  /** What of it is not written yet. */
  bytes: Buffer;
  /** Lines that are lost with it: itself, or those that it tells of. */
  readonly lines: number;
}

export class LogOutput {
  readonly #options: LogOutputOptions;
  readonly #limitBytes: number;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  /** Lines that were left out since this was last said. */
  #lost = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LogOutputOptions) {
    this.#options = options;
    this.#limitBytes = options.limitBytes ?? WAITING_BYTES;
  }

  /** Takes a whole line, with its line feed. Never waits, never throws. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    if (this.#waitingBytes + bytes.length > this.#limitBytes) {
      this.#lost++;
      return;
    }
    this.#put({ bytes, lines: 1 });
    if (this.#timer === undefined) this.flush();
  }

  /** Writes what is taken right now. Called by itself while something waits, and for the last time at the end. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (this.#send()) {
      if (this.#lost === 0) return;
      this.#put({ bytes: Buffer.from(this.#options.lostLine(this.#lost)), lines: this.#lost });
      this.#lost = 0;
    }
    this.#timer = setTimeout(() => this.flush(), RETRY_MS);
    this.#timer.unref();
  }

  #put(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#waitingBytes += waiting.bytes.length;
  }

  /** True when nothing waits any more. */
  #send(): boolean {
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      let written: number;
      try {
        written = writeSync(this.#options.fd, next.bytes);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return false;
        // Nobody will read it (EPIPE), or there is no room (ENOSPC).
        this.#lost += this.#waiting.reduce((sum, { lines }) => sum + lines, 0);
        this.#waiting = [];
        this.#waitingBytes = 0;
        return false;
      }
      this.#waitingBytes -= written;
      if (written < next.bytes.length) next.bytes = next.bytes.subarray(written);
      else this.#waiting.shift();
    }
    return true;
  }
}

/**
 * A descriptor of stderr that does not block. Others share what stderr is (a
 * terminal with the shell), so a pipe or terminal is opened anew for this
 * process alone. A socket (the journal's) cannot be: Node's own stream of it
 * puts it into this mode. A file never blocks.
 */
export function openStderr(): number {
  const stderr = fstatSync(2);
  if (stderr.isFIFO() || stderr.isCharacterDevice()) {
    try {
      return openSync('/proc/self/fd/2', constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    } catch {
      // Another user's, or a pipe that nobody reads any more.
    }
  }
  if (!stderr.isFile()) void process.stderr.writable;
  return 2;
}
