/** The cluster with kinds that are only declared: what happens to a resource that cannot be put into force, or read. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Cluster, type ClusterEnvironment } from '../../src/cluster/cluster.ts';
import { LocalFeed } from '../../src/cluster/feed/local-feed.ts';
import { Declarations } from '../../src/cluster/declarations.ts';
import { WeftError } from '../../src/error.ts';
import { kinds } from '../../src/model/kinds/registry.ts';
import type { Resource } from '../../src/model/resource.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { until } from '../support/process.ts';
import { Hooked, kind, manifest } from '../support/switch.ts';
import { Switchable } from '../support/switchable.ts';
import { openControlPlane, openStore } from './control-plane.ts';

const nothing = async (): Promise<void> => {};

async function opened(t: Test, environment: Partial<ClusterEnvironment> = {}) {
  const directory = mkdtempSync(join(tmpdir(), `weft-cluster-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const store = new Hooked(
    await openEmbeddedStore({ directory, onWarning: (message) => t.fail(message), after: () => () => {} }),
  );
  const warnings: object[] = [];
  const cluster = new Cluster({
    hostName: 'here',
    feed: new LocalFeed(store),
    reconcilers: new Map(kinds.map((one) => [one.kind, new Declarations(one.kind)])),
    ...{ registers: [], onEnforced: nothing, check: nothing, prepare: nothing, onApplied: nothing },
    after: () => () => {},
    wallClock: () => 0,
    logger: {
      info: () => {},
      warn: (details) => void warnings.push(details),
      error: (_, message) => t.fail(message),
    },
    ...environment,
  });
  await cluster.serial.run(() => cluster.start());
  t.teardown(async () => {
    await cluster.serial.close();
    await cluster.close();
    await store.close();
  });
  const settled = (): Promise<void> => cluster.serial.run(() => cluster.enforce());
  return { cluster, store, warnings, settled };
}

const network = (labels: Record<string, string> = {}): Resource =>
  manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] }, { labels });

t.test('a new resource that cannot be put into force is taken back, and one that existed stays', async (t) => {
  let failure: WeftError | undefined = new WeftError('system', 'the kernel refuses');
  const { cluster, store } = await opened(t, {
    onApplied: async () => {
      if (failure) throw failure;
    },
  });
  const attach = (resource: Resource) => cluster.serial.run(() => cluster.applyOrTakeBack(resource));
  await t.rejects(attach(network()), failure);
  t.same((await store.list('networks/')).entries, []);
  failure = undefined;
  await attach(network());
  failure = new WeftError('system', 'the kernel refuses');
  await t.rejects(attach(network({ a: 'b' })), failure);
  t.match(cluster.get(kind('net')), [{ metadata: { labels: { a: 'b' } } }]);
});

t.test('a namespace means nothing to a kind whose names are unique in the cluster', async (t) => {
  const { cluster } = await opened(t);
  await cluster.serial.run(() => cluster.applyNow([network()]));
  const which = { name: 'blue', namespace: 'shop' };
  for (const asked of [which, { namespace: 'shop' }]) {
    t.match(cluster.get(kind('net'), asked), [{ metadata: { name: 'blue' } }]);
  }
  const report = { kind: 'Network', name: 'blue', dryRun: false };
  t.same(await cluster.label(kind('net'), which, { tier: 'a' }), { ...report, action: 'configured' });
  t.same(await cluster.delete(kind('net'), which), { ...report, action: 'deleted' });
});

t.test('the namespace `default` is there again when a store that has lost it is accepted, on all hosts', async (t) => {
  const store = await openStore(t);
  const [left, right] = [
    await openControlPlane(t, undefined, { host: 'left', shared: store }),
    await openControlPlane(t, undefined, { host: 'right', shared: store }),
  ];
  await store.transact({ delete: ['format', 'namespaces/default'] });
  for (const { feed } of [left, right]) {
    await until(() => feed.report()?.held.length === 1, { what: 'its deletion to be held' });
  }
  for (const { cluster } of [left, right]) {
    await cluster.acceptStore();
    t.match(cluster.get(kind('namespace')), [{ metadata: { name: 'default' } }]);
  }
  t.same((await store.list('namespaces/')).entries.length, 1);
  t.same(right.feed.report()?.held, [], 'it is not lost any more');
});

t.test('another record of another history is in force, although it has the same revision', async (t) => {
  const shared = await openStore(t);
  const link = new Switchable(shared);
  const { cluster, feed } = await openControlPlane(t, undefined, { shared: link });
  await cluster.apply([network()]);
  const { entries, revision } = await shared.list('');
  const other = await openStore(t);
  for (let at = 1; at <= revision; at++) {
    const written = entries.filter((entry) => entry.revision === at);
    const put = written.map(({ key, value }) =>
      key === 'networks/blue'
        ? { key, value: { ...(value as object), resource: network({ of: 'other' }) } }
        : { key, value },
    );
    await other.transact({ put });
  }
  t.equal((await other.get('networks/blue'))?.revision, (await shared.get('networks/blue'))?.revision);
  link.away();
  link.back(other, ' of another cluster id');
  await until(() => feed.report()?.held.some(({ name }) => name === 'network "blue"'), { what: 'it to be held' });
  t.match(cluster.get(kind('net')), [{ metadata: { labels: {} } }]);
  await cluster.acceptStore();
  t.match(cluster.get(kind('net')), [{ metadata: { labels: { of: 'other' } } }]);
});
