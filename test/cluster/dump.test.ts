/**
 * An operator empties etcd, which keeps the id of its cluster, and puts a dump of its keys back. Revisions are lower then than those
 * that the dump names, and `format` looks as if it came from the future.
 */
import t, { type Test } from 'tap';
import { openStoreOf } from '../support/etcd-store.ts';
import { startEtcd } from '../support/etcd.ts';
import { openLab } from '../support/lab.ts';
import { BLUE, endpointOf, hostsOf, WEB } from './feed-host.ts';

t.setTimeout(120_000);

const LATER = 'networks/later';

/** A host of a cluster that has begun at a high revision, and what to do to empty etcd and put back what it had before `LATER`. */
async function lab(t: Test) {
  const etcd = await startEtcd(openLab(t));
  const store = openStoreOf(etcd);
  t.teardown(() => store.close());
  for (let n = 0; n < 20; n++) await etcd.ctl(['put', 'others/key', String(n)]);
  const start = hostsOf(t, store);
  const a = await start('a');
  await a.set(BLUE, { vni: 1 });
  await a.set(WEB, endpointOf('a', '10.0.0.1'));
  const { entries } = await store.list('');
  await a.set(LATER, { vni: 2 });
  const putBack = async (): Promise<void> => {
    await etcd.wipe({ sameId: true });
    const formatFirst = entries.toSorted((x, y) => Number(y.key === 'format') - Number(x.key === 'format'));
    for (const { key, value } of formatFirst)
      await etcd.ctl(['put', `weft/${key}`], etcd.members, JSON.stringify(value));
    const { revision } = (await store.get('format'))!;
    t.ok(revision < (entries.find(({ key }) => key === 'format')!.value as Format).epoch.revision, 'it cannot be');
  };
  return { store, start, a, putBack };
}

interface Format {
  readonly id: string;
  readonly epoch: { readonly revision: number };
}

t.test('a host that followed it goes on, and holds what the dump does not have', async (t) => {
  const { store, start, a, putBack } = await lab(t);
  const before = a.values();
  a.link.away();
  await putBack();
  a.link.back();
  await a.until(() => a.report.held.length > 0, 'what is held');
  t.same(a.report.held, [{ name: 'network "later"', change: 'deleted' }]);
  t.match(a.report.signs.join(), 'its record `format` was put back from a time when its revisions were higher');
  t.equal(a.report.refused, undefined);
  t.same(a.values(), before);
  const format = (await store.get('format'))!;
  const { id, epoch } = format.value as Format;
  t.equal(id, 'cluster-a');
  t.ok(epoch.revision < format.revision, 'it is right again');

  const b = await start('b');
  await a.set(BLUE, { vni: 1, labels: {} });
  await b.until(() => 'labels' in Object(b.inForce.get(BLUE)?.value), 'what is new');
  await a.accept();
  t.same(a.values(), b.values());
  t.same([a.report.held, a.report.signs], [[], []]);
});

t.test('a host that has followed nothing before begins with it', async (t) => {
  const { store, start, a, putBack } = await lab(t);
  a.link.away();
  await putBack();
  const late = await start('late');
  t.ok(late.isStarted);
  t.equal(late.report.cluster, 'cluster-a');
  t.same(Object.keys(late.values()), [WEB, 'namespaces/default', BLUE]);
  t.notMatch(late.log, [/a cluster begins/]);
  const { revision } = (await store.get('format'))!;
  a.link.back();
  await a.until(() => a.report.held.length > 0, 'what is held');
  t.same(a.report.held, [{ name: 'network "later"', change: 'deleted' }]);
  t.equal((await store.get('format'))!.revision, revision, 'of two hosts, one repairs it');
});
