/** An etcd that has no space left is one that is away: a host keeps its own records until there is space again. */
import t from 'tap';
import type { WeftError } from '../../src/error.ts';
import { openStoreOf } from '../support/etcd-store.ts';
import { startEtcd } from '../support/etcd.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { hostsOf } from './feed-host.ts';

t.setTimeout(120_000);

t.test('no space, and space again', async (t) => {
  const etcd = await startEtcd(openLab(t), { options: ['--quota-backend-bytes', String(4 << 20)] });
  const store = openStoreOf(etcd);
  t.teardown(() => store.close());
  const host = await hostsOf(t, store)('a');
  const endpoint = (name: string) => ({ key: `endpoints/default/${name}`, value: { host: 'a', name } });
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
  t.ok((await host.write({ put: [endpoint('meanwhile')] })) < 0, 'it is kept');
  t.ok(host.inForce.has('endpoints/default/meanwhile'), 'and in force here');
  t.equal(host.report.pending.length, 1);
  const foreign = { put: [{ key: 'networks/blue', value: {} }] };
  const why =
    /^the store does not take this now \(etcd at .*: database space exceeded: compact and defragment it, then/;
  await t.rejects(host.write(foreign), { code: 'unreachable', message: why });

  await etcd.compact();
  await etcd.ctl(['defrag']);
  await etcd.ctl(['alarm', 'disarm']);
  await host.until(() => host.report.pending.length === 0, 'its record to be stored');
  t.match(await store.get('endpoints/default/meanwhile'), { value: { host: 'a' } });
});
