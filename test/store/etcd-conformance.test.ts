/** The store on etcd does what every store must do: with one member, and a part of that with three. */
import t from 'tap';
import { openStoreOf } from '../support/etcd-store.ts';
import { startEtcd, type Etcd } from '../support/etcd.ts';
import { openLab } from '../support/lab.ts';
import { conformance, type StoreUnderTest } from './conformance.ts';

t.setTimeout(600_000);
/** Objects that take two transactions. */
const COUNT = 200;
let parts = 0;

/** Every case has a prefix of its own, so one etcd serves all. */
function under(etcd: Etcd): StoreUnderTest {
  const prefix = `weft/case${++parts}/`;
  return {
    open: async () => openStoreOf(etcd, { prefix }),
    forget: async () => void (await etcd.compact()),
    pass: () => {},
    expire: async () => {
      const [, ...leases] = (await etcd.ctl(['lease', 'list'])).trim().split('\n');
      for (const lease of leases) await etcd.ctl(['lease', 'revoke', lease]);
    },
  };
}

await t.test('one member', async (t) => {
  const etcd = await startEtcd(openLab(t));
  await conformance(t, () => under(etcd), { count: COUNT });
});

await t.test('three members', async (t) => {
  const etcd = await startEtcd(openLab(t), { members: 3 });
  const cases =
    /concurrent writers|earlier revision|as a whole|naive twin|end of a lease|are one revision|large changes/;
  await conformance(t, () => under(etcd), { count: COUNT, cases });
});
