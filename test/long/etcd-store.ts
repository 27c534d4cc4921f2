/**
 * The chaos of the store on etcd, for as long as wanted.
 *
 *     node --import=tsx test/long/etcd-store.ts [--seconds 60] [--seed S] [--times 1]
 */
import { parseArgs } from 'node:util';
import t from 'tap';
import { chaos } from '../store/etcd-chaos.ts';
import { openLab } from '../support/lab.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
    times: { type: 'string', default: '1' },
  },
});
const [seconds, first, times] = [Number(values.seconds), Number(values.seed), Number(values.times)];
t.setTimeout(times * (seconds + 300) * 1000);

for (let seed = first; seed < first + times; seed++) {
  await t.test(`seed ${seed}`, async (t) => {
    const endMs = performance.now() + seconds * 1000;
    const { faults, ...counts } = await chaos(openLab(t), seed, () => performance.now() > endMs);
    t.comment(JSON.stringify(counts));
    t.same(faults, []);
    t.ok(counts.lists <= 2 * (1 + counts.compactions), 'a list anew only where etcd was compacted');
  });
}
