/** A sample of `test/long/mesh.ts`, which says what happens, and has the limits: a backend leaves its service. */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { serviceResets } from '../support/service-resets.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(300_000);

for (const datapath of datapathKinds) {
  await t.test(`one host, ${datapath}`, { skip: needsRoot }, async (t) => {
    await serviceResets(t, openLab(t), { datapath, hosts: 1 });
  });
}
await t.test('two hosts on etcd', { skip: needsRoot }, async (t) => {
  await serviceResets(t, openLab(t), { datapath: 'native', hosts: 2 });
});
