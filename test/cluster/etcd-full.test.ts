/**
 * An etcd that takes nothing, since it has no space left or the user may only read, is one that is away: a host keeps its own
 * records until it takes them.
 */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import type { WeftError } from '../../src/error.ts';
import { checkStore } from '../../src/observe/store-check.ts';
import { openStoreOf } from '../support/etcd-store.ts';
import { startEtcd } from '../support/etcd.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { hostsOf } from './feed-host.ts';

t.setTimeout(120_000);

const endpoint = (name: string) => ({ key: `endpoints/default/${name}`, value: { host: 'a', name } });

t.test('a user that may only read, and may write again', async (t) => {
  const lab = openLab(t);
  const etcd = await startEtcd(lab, { users: { root: 'r', weft: 'w' } });
  const permit = (what: string): Promise<string> =>
    etcd.ctl(['role', 'grant-permission', 'weft', '--prefix=true', what, 'weft/']);
  await permit('read');
  const passwordFile = `${lab.directory}/password`;
  writeFileSync(passwordFile, 'w\n');
  const store = openStoreOf(etcd, { user: { name: 'weft', passwordFile } });
  t.teardown(() => store.close());
  const host = await hostsOf(t, store)('a');
  const why = /user "weft" may not read and write below "weft\/"/;
  for (let tick = 0; tick < 5; tick++) {
    const { lists } = host.link;
    host.feed.tick();
    await host.until(() => host.link.lists > lists, 'another try');
  }
  t.match(host.log, [why]);
  t.equal(host.log.length, 1, 'it is told once, however often it is tried');
  t.match(host.feed.waitsFor()?.message, why);

  await permit('readwrite');
  await host.until(() => host.isStarted, 'the permission');
  await permit('read');
  t.ok((await host.write({ put: [endpoint('meanwhile')] })) < 0, 'it is kept');
  t.ok(host.inForce.has('endpoints/default/meanwhile'), 'and in force here');
  await t.rejects(host.write({ put: [{ key: 'networks/blue', value: {} }] }), { code: 'unreachable', message: why });
  t.notOk(host.report.takesNothing, 'what this user may not write says nothing of all others');
  await permit('readwrite');
  await host.until(() => host.report.pending.length === 0, 'its record to be stored');
  t.notOk(host.report.takesNothing);
  t.match(await store.get('endpoints/default/meanwhile'), { value: { host: 'a' } });
  t.notOk(host.report.takesNothing);
});

t.test('no space, and space again', async (t) => {
  const etcd = await startEtcd(openLab(t), { options: ['--quota-backend-bytes', String(4 << 20)] });
  let laterMs = 0;
  const store = openStoreOf(etcd, { clock: () => performance.now() + laterMs });
  t.teardown(() => store.close());
  const host = await hostsOf(t, store)('a');
  t.ok((await host.write({ put: [endpoint('before')] })) > 0);

  const others = openStoreOf(etcd, { prefix: 'others/' });
  t.teardown(() => others.close());
  const put = [{ key: 'k', value: 'x'.repeat(1_000_000) }];
  const isFull = (): Promise<boolean> =>
    others.transact({ put }).then(
      () => false,
      (error: WeftError) => error.code === 'unreachable',
    );
  await until(isFull, { what: 'no space' });
  t.notOk(host.report.takesNothing, 'nothing was written since');
  t.ok((await host.write({ put: [endpoint('meanwhile')] })) < 0, 'it is kept');
  t.ok(host.inForce.has('endpoints/default/meanwhile'), 'and in force here');
  t.equal(host.report.pending.length, 1);
  t.match(host.report.takesNothing, /database space exceeded: compact and defragment it, then `etcdctl alarm disarm`/);
  t.match(checkStore(host.report, undefined), [
    {
      check: 'store',
      result: 'failed',
      detail:
        /^it answers, and takes nothing that is written: etcd at .* space exceeded.*; other hosts do not know of endpoint/,
    },
  ]);
  await host.write({ delete: ['endpoints/default/before'] });
  t.ok(host.report.takesNothing, 'that it still deletes says nothing');
  laterMs += 31_000;
  t.notOk(host.report.takesNothing, 'nobody has tried it for long');
  await t.rejects(store.grant(60_000), { code: 'unreachable', message: /space exceeded/ });
  t.ok(host.report.takesNothing, 'a lease is a write, too');
  const foreign = { put: [{ key: 'networks/blue', value: {} }] };
  const why =
    /^the store does not take this now \(etcd at .*: database space exceeded: compact and defragment it, then/;
  await t.rejects(host.write(foreign), { code: 'unreachable', message: why });

  await etcd.compact();
  await etcd.ctl(['defrag']);
  await etcd.ctl(['alarm', 'disarm']);
  await host.until(() => host.report.pending.length === 0, 'its record to be stored');
  t.match(await store.get('endpoints/default/meanwhile'), { value: { host: 'a' } });
  t.notOk(host.report.takesNothing);
});
