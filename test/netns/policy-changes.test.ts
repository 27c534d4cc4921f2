/**
 * Nothing that is denied gets through, whatever happens to daemons, policies, labels, endpoints and the store; and policies that
 * change under connections disturb none that they allow. For longer, and at 10,000 packets a second, with `npm run test:policy`.
 */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { changeUnderLoad } from '../support/policy/change-under-load.ts';
import { neverOpen } from '../support/policy/never-open.ts';
import { needsRoot } from '../support/root.ts';
import { datapathKinds } from '../support/weft.ts';

t.setTimeout(600_000);

await t.test('never open', { skip: needsRoot }, (t) =>
  neverOpen(t, openLab(t), { datapath: 'native', rate: 300, times: 1, after: 100, isBusy: true }),
);
for (const datapath of datapathKinds) {
  await t.test(`policies change under connections, ${datapath}`, { skip: needsRoot }, async (t) => {
    const tookMs = await changeUnderLoad(t, openLab(t), { datapath, connections: 20, changes: 12 });
    t.comment(`what is forbidden had ended ${tookMs.toFixed(0)} ms after the change was applied`);
  });
}
