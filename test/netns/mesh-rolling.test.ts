/** A sample of `test/long/mesh.ts`, which says what happens: all backends of a service are replaced while clients connect. */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { rollingReplacement } from '../support/mesh-rolling.ts';
import { needsRoot } from '../support/root.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

for (const datapath of datapathKinds) {
  await t.test(`one host, ${datapath}`, { skip: needsRoot }, (t) =>
    rollingReplacement(t, openLab(t), { datapath, hosts: 1, backends: 2, rate: 200, rounds: 1 }),
  );
}
await t.test('three hosts on etcd', { skip: needsRoot }, (t) =>
  rollingReplacement(t, openLab(t), { datapath: 'native', hosts: 3, backends: 3, rate: 200, rounds: 1 }),
);
