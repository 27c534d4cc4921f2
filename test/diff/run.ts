/**
 * `npm run test:diff -- [--frames N] [--seed S] [--decider random|pipeline]`: a long differential run with its
 * progress.
 * Exit code 1 for a difference, a defect of a cached flow, or if it did not reach what it is for.
 */
import { parseArgs } from 'node:util';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { say } from './conversations.ts';
import { Difference, runDifferential } from './differential.ts';
import { PipelineDecider } from './pipeline-decider.ts';
import { RandomDecider } from './random-decider.ts';
import { wanted, type DeciderName } from './reached.ts';

const { values } = parseArgs({
  options: {
    frames: { type: 'string', default: '1000000' },
    seed: { type: 'string' },
    decider: { type: 'string', default: 'random' },
  },
});
const frames = whole('--frames', values.frames);
const seed = values.seed === undefined ? Number(process.hrtime.bigint() % 0x7fffffffn) : whole('--seed', values.seed);
const decider = isDecider(values.decider) ? values.decider : wrong(`--decider ${values.decider}: random or pipeline`);
const pipelines: PipelineDecider[] = [];
const startMs = performance.now();
let shownMs = startMs;

console.log(`${frames} frames, --seed ${seed} --decider ${decider}`);
try {
  const result = runDifferential({
    left: (options) => openNativeDatapath({ ...options, threads: 0 }),
    right: openReferenceDatapath,
    decider: (context) => {
      if (decider === 'random') return new RandomDecider(context);
      const made = new PipelineDecider(context);
      pipelines.push(made);
      return made;
    },
    ...(decider === 'pipeline' && { usual: say }),
    seed,
    frames,
    onProgress: (done) => {
      const nowMs = performance.now();
      if (nowMs - shownMs < 2000) return;
      shownMs = nowMs;
      const leftS = ((nowMs - startMs) / 1000) * (frames / done - 1);
      console.log(`${done} frames (${Math.floor((done * 100) / frames)} %), about ${Math.ceil(leftS)} s left`);
    },
  });
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  console.log(
    `no difference: ${result.frames} frames, ${result.sessions} sessions, ${result.upcalls} upcalls, ${seconds} s`,
  );
  console.log(`  ${result.hits} hits, ${result.segments} segments, ${result.coalesced} coalesced`);
  for (const counts of [result.reached, result.drops]) {
    for (const [what, count] of [...counts].sort((a, b) => b[1] - a[1])) console.log(`  ${what}: ${count}`);
  }
  const defects = new Set(pipelines.flatMap((pipeline) => pipeline.defects));
  for (const defect of defects) console.error(defect);
  const missing = wanted(decider, result).flatMap(([what, count]) => (count === 0 ? [what] : []));
  if (missing.length > 0) console.error(`not reached: ${missing.join(', ')}`);
  if (missing.length + defects.size > 0) process.exitCode = 1;
} catch (error) {
  if (!(error instanceof Difference)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

function whole(option: string, text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number >= 0) return number;
  return wrong(`${option} ${text}: a whole number from 0 on is expected`);
}

function isDecider(text: string): text is DeciderName {
  return text === 'random' || text === 'pipeline';
}

function wrong(why: string): never {
  console.error(why);
  return process.exit(2);
}
