/**
 * How the switch and the process of a hook talk: one message at a time, over a socket. While the switch asks, it waits, and does
 * nothing else; but no longer than the hook may take, whatever the hook does.
 *
 * A process that waits for a processor is not to blame for that. So what counts is the time that it has run, and only if it does
 * not run either, there is another limit.
 */
import { read, readFileSync, readSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { MOST_MESSAGE_BYTES, type Partner } from '../addon/partner.ts';

/** How long a hook may run for one flow. The switch decides nothing else in the meantime. */
export const BUDGET_MS = 50;
/** How long one read waits. */
export const SLICE_MS = BUDGET_MS / 2;
/** The part of a slice that a process has to run to have used it. */
const USED = 0.8;
/** How long the switch waits, although the process does not run. */
const MOST_MS = 500;

export type ExchangeOutcome =
  | { readonly kind: 'answered'; readonly text: string }
  | { readonly kind: 'too_long' | 'too_slow' | 'ended' };

const readSoon = promisify(read);

export class Exchange {
  readonly #partner: Partner;
  readonly #message = Buffer.allocUnsafeSlow(MOST_MESSAGE_BYTES);

  /** @param partner whose reads wait for `SLICE_MS` */
  constructor(partner: Partner) {
    this.#partner = partner;
  }

  /** What it says by itself; undefined if it says nothing for so long, or has ended. Nothing else waits for it. */
  async next(longestMs: number): Promise<string | undefined> {
    for (let waitedMs = 0; waitedMs < longestMs; waitedMs += SLICE_MS) {
      try {
        const { bytesRead } = await readSoon(this.#partner.socket, this.#message, 0, MOST_MESSAGE_BYTES, null);
        return this.#textOf(bytesRead);
      } catch (error) {
        if (!isNothingYet(error)) return undefined;
      }
    }
    return undefined;
  }

  /** If there is no answer, nothing may be asked any more; but if the question is too long, it has not been asked. */
  ask(question: string): ExchangeOutcome {
    if (Buffer.byteLength(question) > MOST_MESSAGE_BYTES) return { kind: 'too_long' };
    try {
      writeSync(this.#partner.socket, question);
    } catch {
      return { kind: 'ended' };
    }
    let fromMs: number | undefined;
    for (let waitedMs = 0; waitedMs < MOST_MS; waitedMs += SLICE_MS) {
      try {
        const text = this.#textOf(readSync(this.#partner.socket, this.#message, 0, MOST_MESSAGE_BYTES, null));
        return text === undefined ? { kind: 'ended' } : { kind: 'answered', text };
      } catch (error) {
        if (!isNothingYet(error)) return { kind: 'ended' };
      }
      const ranMs = this.ranMs();
      if (ranMs === undefined || (fromMs !== undefined && ranMs - fromMs >= USED * SLICE_MS)) break;
      fromMs ??= ranMs;
    }
    return { kind: 'too_slow' };
  }

  /** How long it has run since its start; undefined if the kernel does not say so. */
  ranMs(): number | undefined {
    try {
      const [nanoseconds] = readFileSync(`/proc/${this.#partner.pid}/schedstat`, 'utf8').split(' ');
      return Number(nanoseconds) / 1e6;
    } catch {
      return undefined;
    }
  }

  #textOf(bytes: number): string | undefined {
    return bytes === 0 ? undefined : this.#message.toString('utf8', 0, bytes);
  }
}

/** True if a read has waited for as long as it may, or a signal has interrupted it. */
function isNothingYet(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EAGAIN' || code === 'EINTR';
}
