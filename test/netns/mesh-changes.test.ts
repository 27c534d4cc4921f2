/** A sample of `test/long/mesh.ts`, which says what happens: backends come and go, and a host loses its power. */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { changesUnderLoad, powerLoss } from '../support/mesh-changes.ts';
import { needsRoot } from '../support/root.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

for (const datapath of datapathKinds) {
  await t.test(`backends come and go, ${datapath}`, { skip: needsRoot }, (t) =>
    changesUnderLoad(t, openLab(t), { datapath, hosts: 1, connections: 30, rate: 50, rounds: 1 }),
  );
}
await t.test('a host loses its power', { skip: needsRoot }, async (t) => {
  await powerLoss(t, openLab(t), { datapath: 'native', connections: 30, rate: 50 });
});
