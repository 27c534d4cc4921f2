/** A sample of `test/long/mesh.ts`, which says what happens: daemons are killed and etcd goes away under connections. */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { killsAndOutages } from '../support/mesh-kill.ts';
import { needsRoot } from '../support/root.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

for (const datapath of datapathKinds) {
  for (const hosts of [1, 2] as const) {
    await t.test(`${hosts === 1 ? 'one host' : 'two hosts on etcd'}, ${datapath}`, { skip: needsRoot }, (t) =>
      killsAndOutages(t, openLab(t), { datapath, hosts, connections: 8, removals: 2, seed: process.pid }),
    );
  }
}
