/** A sample of `test/long/chaos.ts`, which says what happens: a few disturbances, from another seed each time. */
import t from 'tap';
import { chaos } from '../support/chaos.ts';

t.setTimeout(300_000);

await t.test('three hosts on etcd, while things fail', (t) =>
  chaos(t, { seconds: 12, seed: Date.now() % 2 ** 32, hosts: 3, members: 3, datapath: 'native' }),
);
