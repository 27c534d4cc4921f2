/**
 * Where the daemon's log goes: to stderr, without ever waiting for its reader.
 *
 * A reader that stops would otherwise stop the daemon at a write, with its decisions and its
 * API. So nothing here blocks. What cannot be written at once waits, at most WAITING_BYTES, and
 * lines beyond that are left out. As soon as the reader has caught up, a line says how many.
 */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';

const WAITING_BYTES = 256 * 1024;
const RETRY_MS = 100;

export interface LogOutputOptions {
  /** A descriptor that does not block on writing: see `openStderr`. */
  readonly fd: number;
  /** The most bytes that lines may take while they wait. */
  readonly limitBytes?: number;
  /** The line, with its line feed, that says how many lines were left out. */
  readonly lostLine: (lines: number) => string;
}

interface Waiting {
  /** The part that is not written yet. */
  bytes: Buffer;
  /** How many lines are lost with it: itself, or those that it reports. */
  readonly lines: number;
}

export class LogOutput {
  readonly #options: LogOutputOptions;
  readonly #limitBytes: number;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  /** Lines that were left out since this was last reported. */
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

  /** Writes what can be written now. Calls itself while something waits; call it a last time at the end. */
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

  /** True if nothing waits any more. */
  #send(): boolean {
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      let written: number;
      try {
        written = writeSync(this.#options.fd, next.bytes);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return false;
        // Nobody will ever read it (EPIPE), or the disk is full (ENOSPC).
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
 * A descriptor of stderr that does not block. Other processes share stderr (a terminal is shared
 * with the shell), so a pipe or a terminal is opened again for this process alone. That is not
 * possible for a socket (the journal's), but Node's own stream puts it into this mode. A file
 * never blocks.
 */
export function openStderr(): number {
  const stderr = fstatSync(2);
  if (stderr.isFIFO() || stderr.isCharacterDevice()) {
    try {
      return openSync('/proc/self/fd/2', constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    } catch {
      // It belongs to another user, or it is a pipe that nobody reads any more.
    }
  }
  if (!stderr.isFile()) void process.stderr.writable;
  return 2;
}
