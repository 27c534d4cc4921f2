/**
 * One host's copy of a shared store's state, in any order: records that this host accepts and others that it does not, several
 * of one key, judged or not when they are written, what cannot be written for a while, files that are compacted, and kills.
 *
 * After each start: of every key it says what the store had last, and what is in force is the newest record that is accepted.
 */
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { StateCopy } from '../../src/cluster/feed/state-copy.ts';
import type { Random } from '../support/random.ts';
import { runTrials, type Trial } from '../support/trials.ts';

const STEPS = 200;
const KEYS = ['networks/a', 'networks/b', 'networks/c'] as const;
const FILLER = 'networks/filler';

interface Value {
  readonly n: number;
  /** Whether the host accepts it. */
  readonly isGood: boolean;
}

class CopyTrial implements Trial {
  readonly #random: Random;
  readonly #directory: string;
  readonly #path: string;
  #copy!: StateCopy<number>;
  readonly steps: string[] = [];
  /** Of each key, what was committed since it was deleted last. */
  #committed = new Map<string, Value[]>();
  /** With what is noted. */
  #noted = new Map<string, Value[]>();
  /** The keys of what is noted and not judged. */
  readonly #unjudged = new Set<string>();
  #isBroken = false;
  #n = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#directory = mkdtempSync(join(tmpdir(), `weft-copy-${process.pid}-`));
    this.#path = join(this.#directory, 'state', 'copy');
    mkdirSync(join(this.#path, '..'));
  }

  async run(): Promise<void> {
    await this.#open();
    for (let step = 0; step < STEPS; step++) await this.#step();
    await this.#kill();
  }

  async stop(): Promise<void> {
    await this.#copy.close().catch(() => {});
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const choice = random.int(100);
    if (choice < 35) return this.#put(random.pick(KEYS), random.chance(0.4));
    if (choice < 39) return this.#delete(random.pick(KEYS));
    if (choice < 53) return this.#commit(false);
    if (choice < 73) return this.#keep();
    if (choice < 83) return this.#flush();
    if (choice < 87) return this.#compact();
    if (choice < 90) return this.#break();
    return this.#kill();
  }

  #put(key: string, isGood: boolean): void {
    const value = { n: ++this.#n, isGood };
    this.steps.push(`put ${key} ${JSON.stringify(value)}`);
    this.#copy.put({ key, revision: value.n }, JSON.stringify(value));
    this.#noted.set(key, [...(this.#noted.get(key) ?? []), value]);
    this.#unjudged.add(key);
  }

  #delete(key: string): void {
    this.steps.push(`delete ${key}`);
    this.#copy.delete(key);
    this.#noted.delete(key);
    this.#unjudged.delete(key);
  }

  #commit(isJudged: boolean): void {
    this.steps.push(`commit ${isJudged}`);
    this.#copy.commit(++this.#n, isJudged);
    this.#committed = new Map(this.#noted);
  }

  /** Of several records of one key, the last is judged. */
  #keep(): void {
    this.#judge();
    this.#commit(true);
  }

  #judge(): void {
    for (const key of this.#unjudged) {
      const last = this.#noted.get(key)!.at(-1)!;
      if (last.isGood) continue;
      this.steps.push(`refuse ${key} ${last.n}`);
      this.#copy.refuse(key, last.n);
    }
    this.#unjudged.clear();
  }

  async #flush(): Promise<void> {
    const isWritten = await this.#copy.flushed();
    this.steps.push(`flushed: ${isWritten}`);
    if (!isWritten && !this.#isBroken) throw new Error('it was not written');
  }

  /** Writes until the file is another one. @param isJudged what the mark says behind which it is compacted */
  async #compact(isJudged = this.#random.chance(0.5)): Promise<void> {
    await this.#mend();
    this.steps.push('compact');
    const inode = statSync(this.#path, { bigint: true }).ino;
    if (isJudged) this.#judge();
    for (let n = 0; statSync(this.#path, { bigint: true }).ino === inode; n++) {
      this.#copy.put({ key: FILLER, revision: ++this.#n }, JSON.stringify('x'.repeat(400_000)));
      this.#commit(isJudged);
      await this.#flush();
      if (n > 20) throw new Error('it is not compacted');
    }
    this.#copy.delete(FILLER);
  }

  #break(): void {
    if (this.#isBroken) return;
    this.steps.push('it cannot be written');
    this.#isBroken = true;
    rmSync(join(this.#path, '..'), { recursive: true });
  }

  async #mend(): Promise<void> {
    if (this.#isBroken) {
      mkdirSync(join(this.#path, '..'));
      // It is written anew with the next change.
      this.#commit(false);
    }
    this.#isBroken = false;
    await this.#flush();
  }

  /** What was committed is written, and what was noted after that is lost. */
  async #kill(): Promise<void> {
    await this.#mend();
    this.steps.push('kill');
    await this.#copy.close();
    await this.#open();
  }

  async #open(): Promise<void> {
    const onWarning = (message: string): void => {
      if (!this.#isBroken) throw new Error(message);
    };
    const { copy, entries, before, refused } = await StateCopy.open<number>(this.#path, onWarning);
    this.#copy = copy;
    this.#noted = new Map(this.#committed);
    this.#unjudged.clear();
    for (const key of KEYS) {
      const all = this.#committed.get(key) ?? [];
      const last = entries.get(key)?.value as Value | undefined;
      const others = (before.get(key) ?? []).map(({ value }) => value as Value);
      const isSame = (what: string, is: Value | undefined, expected: Value | undefined): void => {
        if (is?.n !== expected?.n) throw new Error(`${what} of ${key}: ${is?.n} instead of ${expected?.n}`);
      };
      isSame('the last', last, all.at(-1));
      if (last && refused.has(key) && last.isGood) throw new Error(`${key} is refused`);
      const inForce = [...(last ? [last] : []), ...others].find(({ isGood }) => isGood);
      isSame(
        'in force',
        inForce,
        all.findLast(({ isGood }) => isGood),
      );
      if (last && !refused.has(key)) this.#unjudged.add(key);
    }
    this.steps.push(`opened: ${KEYS.filter((key) => before.has(key)).join(' ')}`);
  }
}

runTrials(
  10,
  'after each start, what is in force is the newest record that is accepted',
  async (_t: Test, random: Random) => new CopyTrial(random),
);
