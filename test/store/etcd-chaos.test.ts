/** A sample of the chaos. `node --import=tsx test/long/etcd-store.ts --seconds N --seed S` is the long run. */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { chaos } from './etcd-chaos.ts';

t.setTimeout(600_000);

const FAULTS = 4;

t.test('nobody misses a change, or sees one twice', { skip: needsRoot }, async (t) => {
  const seed = Date.now() % 2 ** 32;
  t.comment(`seed ${seed}`);
  const { faults, faultsMade, compactions, lists, ...counts } = await chaos(openLab(t), seed, (made) => made >= FAULTS);
  t.comment(JSON.stringify({ faultsMade, compactions, lists, ...counts }));
  t.same(faults, []);
  t.ok(lists <= 2 * (1 + compactions), 'a list anew only where etcd was compacted');
  t.ok(counts.told > counts.made, 'two followers were told');
});
