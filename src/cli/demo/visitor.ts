/** A container that asks a program of the example over and over, and what came of each request. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { start } from './commands.ts';
import { programIn } from './example.ts';

export interface Request {
  /** When it began, in milliseconds since the epoch. */
  readonly atMs: number;
  /** When it was answered, or given up. */
  readonly endMs: number;
  /** Which `reviews` has answered; undefined if none has. */
  readonly reviewedBy?: string;
  /** Why it was not answered as a whole. */
  readonly failed?: string;
}

/** The fields that are read of what the programs answer (examples/bookinfo/programs). */
interface Answer {
  readonly servedBy: string;
  readonly failed?: string;
  readonly ratingsFailed?: string;
  readonly details?: Answer;
  /** Of `productpage`: what `reviews` has answered to it. */
  readonly reviews?: Answer | readonly unknown[];
}

export class Visitor {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  /** By number; those that are under way are missing. */
  readonly #requests: (Request | undefined)[] = [];
  #rest = '';

  /** @param words what it asks and how, as visitor.mjs takes it */
  constructor(words: readonly string[], signal: AbortSignal) {
    this.#child = start(programIn('tester', 'visitor', {}, words), signal);
    this.#closed = once(this.#child, 'close');
    this.#closed.catch(() => {});
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#read(text));
  }

  /** Those that began in that time and have ended. Milliseconds since the epoch. */
  between(fromMs: number, toMs = Infinity): Request[] {
    return this.#requests.filter(
      (request) => request !== undefined && request.atMs >= fromMs && request.atMs < toMs,
    ) as Request[];
  }

  /** True if all that began before that time have ended. */
  hasAllBefore(atMs: number): boolean {
    const next = this.#requests.findIndex((request) => request !== undefined && request.atMs >= atMs);
    return next >= 0 && !this.#requests.slice(0, next).includes(undefined);
  }

  /** Waits until it has asked as often as it should. */
  async ended(): Promise<void> {
    await this.#closed;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGTERM');
    await this.#closed;
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const { n, atMs, tookMs, ...said } = JSON.parse(line) as {
        readonly n: number;
        readonly atMs: number;
        readonly tookMs: number;
        readonly answer?: Answer;
        readonly failed?: string;
      };
      this.#requests[n] = { atMs, endMs: atMs + tookMs, ...(said.answer ? judged(said.answer) : said) };
    }
  }
}

/** A page without one of its parts counts as failed. */
function judged({ details, reviews, servedBy, ...own }: Answer): Pick<Request, 'reviewedBy' | 'failed'> {
  const reviewed: Partial<Answer> = reviews && 'length' in reviews ? { servedBy, ...own } : (reviews ?? {});
  const failed = details?.failed ?? reviewed.failed ?? reviewed.ratingsFailed;
  return {
    ...(reviewed.servedBy !== undefined && { reviewedBy: reviewed.servedBy }),
    ...(failed !== undefined && { failed }),
  };
}
