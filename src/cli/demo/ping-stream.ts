/** A container that pings another one without pause, and when each answer came. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { start } from './commands.ts';
import { inside } from './stage.ts';

/** The pause between two pings. */
export const EVERY_MS = 50;

export class PingStream {
  readonly name: string;
  readonly #child: ChildProcess;
  /** In milliseconds since the epoch, by sequence number. */
  readonly #answers = new Map<number, number>();
  #rest = '';

  constructor(from: string, to: { readonly name: string; readonly ip: string }, signal: AbortSignal) {
    this.name = `${from} → ${to.name}`;
    const ping = ['ping', '-n', '-D', '-i', String(EVERY_MS / 1000), to.ip];
    this.#child = start(inside(from, ping), signal);
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#read(text));
  }

  get answered(): number {
    return this.#answers.size;
  }

  /** When the first answer after that time came; undefined if there is none yet. */
  answerAfter(atMs: number): number | undefined {
    for (const answerMs of this.#answers.values()) if (answerMs > atMs) return answerMs;
    return undefined;
  }

  /** Those that were not answered although a later one was. */
  get lost(): number {
    return Math.max(0, ...this.#answers.keys()) - this.#answers.size;
  }

  get longestGapMs(): number {
    const times = [...this.#answers.values()];
    return times.reduce((longest, atMs, n) => Math.max(longest, n === 0 ? 0 : atMs - times[n - 1]!), 0);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGINT');
    await once(this.#child, 'close');
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const [, seconds, rest = ''] = /^\[(\d+\.\d+)\] (.*)$/.exec(line) ?? [];
      if (seconds === undefined) continue;
      const [, sequence] = /bytes from .*icmp_seq=(\d+) .*time=/.exec(rest) ?? [];
      if (sequence !== undefined) this.#answers.set(Number(sequence), Number(seconds) * 1000);
    }
  }
}
