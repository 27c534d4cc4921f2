/**
 * Random frames through the whole switch, pipeline included: native and reference do the same, no mask
 * of a cached flow is too wide, and no cached flow is stale. WEFT_SEED repeats a run.
 */
import t from 'tap';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { say } from './conversations.ts';
import { runDifferential } from './differential.ts';
import { PipelineDecider } from './pipeline-decider.ts';
import { wanted } from './reached.ts';

const seed = Number(process.env['WEFT_SEED'] ?? process.hrtime.bigint() % 0x7fffffffn);

/** Some things are rare: it goes on with the next seed until all were seen, at most so often. */
const MOST_ROUNDS = 10;

t.setTimeout(600_000);

t.test(`with the pipeline (WEFT_SEED=${seed})`, async (t) => {
  const deciders: PipelineDecider[] = [];
  const run = (round: number) =>
    runDifferential({
      left: (options) => openNativeDatapath({ ...options, threads: 0 }),
      right: openReferenceDatapath,
      decider: (context) => {
        const decider = new PipelineDecider(context);
        deciders.push(decider);
        return decider;
      },
      usual: say,
      seed: seed + round,
      frames: 30_000,
    });
  const result = run(0);
  const seen = new Map(wanted('pipeline', result));
  for (let round = 1; round < MOST_ROUNDS && [...seen.values()].includes(0); round++) {
    for (const [what, count] of wanted('pipeline', run(round))) seen.set(what, seen.get(what)! + count);
  }
  const checked = deciders.reduce((sum, decider) => sum + decider.flowsChecked, 0);
  t.ok(result.hits > 100, `${result.hits} hits`);
  t.ok(checked > 1000, `${checked} cached flows were looked at`);
  for (const [what, count] of seen) t.ok(count, `${what}: ${count}`);
  t.same([...new Set(deciders.flatMap((decider) => decider.defects))].slice(0, 20), []);
});
