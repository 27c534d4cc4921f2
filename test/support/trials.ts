/** Random trials: one subtest for each seed, which says what was done if it fails. `SEEDS` and `SEED` run others. */
import t, { type Test } from 'tap';
import { Random } from './random.ts';

export interface Trial {
  /** What was done so far. */
  readonly steps: readonly string[];
  /** Throws if something is wrong. */
  run(): Promise<void>;
  stop(): Promise<void>;
}

/** @param seeds how many there are unless `SEEDS` says so @param right what holds if nothing is wrong */
export function runTrials(seeds: number, right: string, open: (t: Test, random: Random) => Promise<Trial>): void {
  const count = Number(process.env.SEEDS ?? seeds);
  const first = Number(process.env.SEED ?? 1);
  t.setTimeout(600_000);
  for (let seed = first; seed < first + count; seed++) {
    t.test(`seed ${seed}`, async (t) => {
      const trial = await open(t, new Random(seed));
      try {
        await trial.run();
        t.pass(right);
      } catch (error) {
        t.comment(trial.steps.join('\n'));
        t.fail(`seed ${seed}: ${(error as Error).stack}`);
      } finally {
        await trial.stop();
      }
    });
  }
}
