/**
 * Steps of a scenario that promise something, while a visitor asks all the time: what each one did, and how many of the
 * requests that began meanwhile have failed.
 */
import { WeftError } from '../../error.ts';
import { table } from '../print.ts';
import type { Request } from './visitor.ts';

interface Step {
  readonly name: string;
  readonly fromMs: number;
  toMs: number;
  /** What it did, in words. */
  outcome: string;
  /** What it did not do although it had promised it. */
  readonly broken: string[];
}

export interface RequestLog {
  /** Those that began in that time and have ended. Milliseconds since the epoch. */
  between(fromMs: number, toMs?: number): Request[];
  /** Resolves when all that began before that time have ended. */
  settled(atMs: number): Promise<void>;
}

export class Steps {
  readonly #asked: RequestLog;
  readonly #steps: Step[] = [];

  constructor(asked: RequestLog) {
    this.#asked = asked;
  }

  /**
   * @param mayFail how many requests may fail meanwhile
   * @param work gets when the step begins, and returns what came of it; it throws what was not as promised
   * @throws WeftError if `work` does
   */
  async take(name: string, mayFail: number, work: (fromMs: number) => Promise<string>): Promise<void> {
    const fromMs = Date.now();
    const step: Step = { name, fromMs, toMs: fromMs, outcome: '', broken: [] };
    this.#steps.push(step);
    try {
      step.outcome = await work(fromMs);
      step.toMs = Date.now();
      await this.#asked.settled(step.toMs);
    } catch (error) {
      step.toMs = Date.now();
      step.broken.push((error as Error).message);
      return this.requireAll();
    }
    const failed = failedOf(this.#requestsOf(step));
    if (failed.length > mayFail)
      step.broken.push(`${failed.length} requests failed, and not ${mayFail} at most: ${failed.at(-1)!.failed}`);
  }

  /** @throws WeftError that names what was promised and not kept */
  requireAll(): void {
    const broken = this.#steps.flatMap(({ name, broken }) => broken.map((what) => `${name}: ${what}`));
    if (broken.length > 0) throw new WeftError('system', `not as promised: ${broken.join('; ')}`);
  }

  text(): Promise<string> {
    const rows = this.#steps.map((step) => {
      const requests = this.#requestsOf(step);
      return [
        step.name,
        String(requests.length),
        String(failedOf(requests).length),
        `${(longestGapMs(step, requests) / 1000).toFixed(2)} s`,
        [step.outcome, ...step.broken.map((what) => `NOT AS PROMISED: ${what}`)].filter(Boolean).join('; '),
      ];
    });
    return table(['STEP', 'REQUESTS', 'FAILED', 'LONGEST GAP', 'WHAT CAME OF IT'], rows, 'no steps');
  }

  #requestsOf({ fromMs, toMs }: Step): Request[] {
    return this.#asked.between(fromMs, toMs);
  }
}

function failedOf(requests: readonly Request[]): Request[] {
  return requests.filter(({ failed }) => failed !== undefined);
}

/** The longest time without an answer. */
function longestGapMs({ fromMs, toMs }: Step, requests: readonly Request[]): number {
  const answeredMs = requests.filter(({ failed }) => failed === undefined).map(({ endMs }) => endMs);
  const times = [fromMs, ...answeredMs.filter((atMs) => atMs < toMs).sort((a, b) => a - b), toMs];
  return Math.max(...times.slice(1).map((atMs, n) => atMs - times[n]!));
}
