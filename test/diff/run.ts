/** `npm run test:diff -- [--frames N] [--seed S]`: a long differential run with its progress. Exit 1 on a difference. */
import { parseArgs } from 'node:util';
import { openNativeDatapath } from '../../src/datapath/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference.ts';
import { Difference, runDifferential } from './differential.ts';
import { RandomDecider } from './random-decider.ts';

const { values } = parseArgs({ options: { frames: { type: 'string', default: '1000000' }, seed: { type: 'string' } } });
const frames = whole('--frames', values.frames);
const seed = values.seed === undefined ? Number(process.hrtime.bigint() % 0x7fffffffn) : whole('--seed', values.seed);
const startMs = performance.now();
let shownMs = startMs;

console.log(`${frames} frames, --seed ${seed}`);
try {
  const result = runDifferential({
    left: (options) => openNativeDatapath({ ...options, threads: 0 }),
    right: openReferenceDatapath,
    decider: (context) => new RandomDecider(context),
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
  for (const [reason, count] of [...result.drops].sort((a, b) => b[1] - a[1])) console.log(`  ${reason}: ${count}`);
} catch (error) {
  if (!(error instanceof Difference)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

function whole(option: string, text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number >= 0) return number;
  console.error(`${option} ${text}: a whole number from 0 on is expected`);
  return process.exit(2);
}
