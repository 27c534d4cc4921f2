/** A state directory knows which store declares what is attached, and no start with another one takes that for deleted. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { useStore } from '../../src/cluster/store-of-attachments.ts';
import { notePlace } from '../../src/cluster/feed/store-place.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import type { Store } from '../../src/store/store.ts';

const ETCD = { endpoints: ['192.0.2.1:2379'], prefix: 'weft/' };
const OTHER_ETCD = { endpoints: ['192.0.2.2:2379'], prefix: 'weft/' };

async function open(t: Test): Promise<Store> {
  const directory = mkdtempSync(join(tmpdir(), `weft-store-of-${process.pid}-`));
  const store = await openEmbeddedStore({ directory, onWarning: (message) => t.fail(message), after: () => () => {} });
  t.teardown(async () => {
    await store.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return store;
}

const attach = (own: Store, ...names: readonly string[]): Promise<number> =>
  own.transact({ put: names.map((name) => ({ key: `attachments/default/${name}`, value: { portNo: 1 } })) });

t.test('without anything attached, any store can follow any other', async (t) => {
  const own = await open(t);
  await useStore(own, 'embedded');
  t.same((await own.list('')).entries, [], 'a host that has never had another store has no record of it');
  for (const store of [ETCD, 'embedded', OTHER_ETCD] as const) await useStore(own, store);
});

t.test('what is attached is of the store used last, whichever etcd that is', async (t) => {
  const own = await open(t);
  await useStore(own, ETCD);
  await attach(own, ...Array.from({ length: 12 }, (_, n) => `web${n + 10}`));
  await useStore(own, OTHER_ETCD);
  const { revision } = await own.list('');
  await t.rejects(useStore(own, 'embedded'), {
    code: 'conflict',
    message: /\(etcd:\/\/192\.0\.2\.2:2379, prefix weft\/\), .* \(embedded\): web10, .*web19, and 2 more: start/,
  });
  t.equal((await own.list('')).revision, revision, 'nothing is changed');
  await useStore(own, OTHER_ETCD);
});

t.test('it is named with its prefix: where it was followed, if a start with a wrong one came after that', async (t) => {
  const own = await open(t);
  await useStore(own, ETCD);
  await attach(own, 'web');
  await useStore(own, { ...ETCD, prefix: 'othr/' });
  const named = (place: string) => ({ message: `before (etcd://192.0.2.1:2379, prefix ${place}), and` });
  await t.rejects(useStore(own, 'embedded'), named('othr/'), 'nothing is known to be wrong with it');
  await notePlace(own, { ...ETCD, prefix: 'other/' });
  await t.rejects(useStore(own, 'embedded'), named('other/'));
});

t.test('of the embedded store, also after another one', async (t) => {
  const own = await open(t);
  await useStore(own, ETCD);
  await useStore(own, 'embedded');
  await attach(own, 'web');
  await useStore(own, 'embedded');
  await t.rejects(useStore(own, ETCD), { message: /before \(embedded\)/ });
});

t.test('the state directory of an earlier version does not say it', async (t) => {
  await t.test('of a host that has met no cluster', async (t) => {
    const own = await open(t);
    await attach(own, 'web');
    await t.rejects(useStore(own, ETCD), { message: /before \(embedded\)/ });
    await useStore(own, 'embedded');
  });

  await t.test('of one that has', async (t) => {
    const own = await open(t);
    await own.transact({ put: [{ key: 'cluster', value: 'c1' }] });
    await attach(own, 'web');
    await t.rejects(useStore(own, 'embedded'), { message: /before \(etcd:\/\/…, cluster c1\)/ });
    await useStore(own, ETCD);
  });

  await t.test('of one that has, and has declared all itself', async (t) => {
    const own = await open(t);
    await own.transact({
      put: [
        { key: 'cluster', value: 'c1' },
        { key: 'endpoints/default/web', value: {} },
      ],
    });
    await attach(own, 'web');
    await useStore(own, 'embedded');
    await t.rejects(useStore(own, ETCD), { message: /before \(embedded\)/ });
  });
});
