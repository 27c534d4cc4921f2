/** A sample of `test/long/mesh.ts`, which says what happens: daemons are killed and etcd goes away under connections. */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { killsAndOutages } from '../support/mesh-kill.ts';
import { needsRoot } from '../support/root.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

const sample = { connections: 8, removals: 2, seed: process.pid };
for (const datapath of datapathKinds) {
  await t.test(`one host, ${datapath}`, { skip: needsRoot }, (t) =>
    killsAndOutages(t, openLab(t), { datapath, hosts: 1, ...sample }),
  );
}
await t.test('two hosts on etcd', { skip: needsRoot }, (t) =>
  killsAndOutages(t, openLab(t), { datapath: 'native', hosts: 2, ...sample }),
);
