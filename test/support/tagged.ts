/**
 * Datagrams from every container to every other, each with a number: afterwards it is known of each one whether it
 * arrived, twice, or at somebody for whom it was not meant.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab, Namespace } from './lab.ts';
import type { Background } from './process.ts';
import { python } from './traffic.ts';

const PORT = 7021;
/** How often each sends to each. */
const INTERVAL_S = 0.05;

/** Somebody who sends and receives. */
export interface Talker {
  readonly name: string;
  readonly namespace: Namespace;
  readonly ip4: string;
}

export interface Lost {
  readonly from: string;
  readonly to: string;
  readonly number: number;
  /** When it was sent: milliseconds of CLOCK_MONOTONIC. */
  readonly atMs: number;
}

export interface Ledger {
  readonly sent: number;
  readonly received: number;
  readonly lost: readonly Lost[];
  /** `FROM → TO #NUMBER`, for each that came more than once. */
  readonly twice: readonly string[];
  /** What reached somebody for whom it was not meant, or came from nobody. */
  readonly misdelivered: readonly string[];
}

export class TaggedTraffic {
  readonly #talkers: readonly Talker[];
  readonly #directory: string;
  readonly #programs: Background[] = [];

  static async start(lab: Lab, talkers: readonly Talker[]): Promise<TaggedTraffic> {
    const traffic = new TaggedTraffic(lab, talkers);
    for (const { name, namespace } of talkers) {
      const peers = talkers.filter((other) => other.name !== name).map((other) => `${other.name}=${other.ip4}`);
      const program = namespace.start(python('tagged.py', name, PORT, INTERVAL_S, traffic.#fileOf(name), ...peers));
      traffic.#programs.push(program);
      await program.says('ready');
    }
    return traffic;
  }

  private constructor(lab: Lab, talkers: readonly Talker[]) {
    this.#talkers = talkers;
    this.#directory = lab.directory;
  }

  /** Whom `from` has heard since `sinceMs`, up to now; for waiting until all hear each other. */
  heard(at: string, sinceMs: number): Set<string> {
    const heard = new Set<string>();
    for (const words of this.#linesOf(at)) {
      if (words[0] === 'r' && Number(words[4]) / 1000 >= sinceMs) heard.add(words[1]!);
    }
    return heard;
  }

  /** Ends all of it, and settles. What was sent in the last `graceMs` may still be on its way. */
  async stop(graceMs = 1000): Promise<Ledger> {
    for (const program of this.#programs) {
      if (!program.isRunning) throw new Error(`a talker has ended: ${program.stderr}`);
      await program.stop('SIGKILL');
    }
    const arrivals = new Map<string, number>();
    const misdelivered: string[] = [];
    for (const { name } of this.#talkers) {
      for (const [kind, from, to, number] of this.#linesOf(name)) {
        if (kind !== 'r') continue;
        const id = `${from} → ${to} #${number}`;
        if (to !== name || !this.#talkers.some((talker) => talker.name === from)) misdelivered.push(`${id} at ${name}`);
        else arrivals.set(id, (arrivals.get(id) ?? 0) + 1);
      }
    }
    const sends = this.#talkers.flatMap(({ name: from }) =>
      this.#linesOf(from).flatMap(([kind, to = '', number, time]) =>
        kind === 's' ? [{ from, to, number: Number(number), atMs: Number(time) / 1000 }] : [],
      ),
    );
    const endMs = Math.max(...sends.map(({ atMs }) => atMs)) - graceMs;
    const lost = sends.filter(
      ({ from, to, number, atMs }) => atMs < endMs && !arrivals.has(`${from} → ${to} #${number}`),
    );
    const twice = [...arrivals].flatMap(([id, times]) => (times > 1 ? [`${id}: ${times} times`] : []));
    return { sent: sends.length, received: arrivals.size, lost, twice, misdelivered };
  }

  #linesOf(name: string): string[][] {
    // The last line may be unfinished.
    const lines = readFileSync(this.#fileOf(name), 'utf8').split('\n').slice(0, -1);
    return lines.map((line) => line.split(' '));
  }

  #fileOf(name: string): string {
    return join(this.#directory, `${name}.tagged`);
  }
}
