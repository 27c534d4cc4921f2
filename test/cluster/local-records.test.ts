/** What only this host keeps of its endpoints: stored before the endpoints, and taken back if those are refused. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Cluster } from '../../src/cluster/cluster.ts';
import { LocalFeed } from '../../src/cluster/feed/local-feed.ts';
import type { LocalRecord } from '../../src/cluster/endpoint.ts';
import { LocalRecords } from '../../src/cluster/local-records.ts';
import type { Reconciler } from '../../src/cluster/reconciler.ts';
import { WeftError } from '../../src/error.ts';
import { kinds } from '../../src/model/kinds/registry.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import type { Store } from '../../src/store/store.ts';
import { manifest } from './control-plane.ts';

async function open(t: Test): Promise<Store> {
  const directory = mkdtempSync(join(tmpdir(), `weft-records-${process.pid}-`));
  const store = await openEmbeddedStore({ directory, onWarning: (message) => t.fail(message), after: () => () => {} });
  t.teardown(async () => {
    await store.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return store;
}

const numbered = (portNo: number): LocalRecord => ({ portNo, netns: { path: '/n', dev: '1', ino: '2' }, bootId: 'b' });

t.test('the next daemon finds what the last one has stored', async (t) => {
  const store = await open(t);
  const records = new LocalRecords(store, () => {});
  const save = (portNo: number | undefined): Promise<void> =>
    records.save(new Map([['shop/web', portNo === undefined ? undefined : numbered(portNo)]]));
  // Each is stored, because each time the revision is the right one.
  for (const portNo of [3, undefined, 4, 5]) await save(portNo);
  const next = new LocalRecords(store, () => {});
  await next.load();
  t.same(next.names(), ['shop/web']);
  t.same(next.find('shop/web'), numbered(5));
  await next.save(new Map([['shop/web', numbered(6)]]));
  await t.rejects(save(7), { code: 'conflict' }, 'two daemons at once are noticed');
  t.equal(records.find('shop/web')?.portNo, 5);
});

/** A cluster of networks of which something is kept in `own`, and the rest in a store that can refuse it. */
async function openCluster(t: Test, store: Store, own: Store) {
  const log: string[] = [];
  let kept: object | undefined = { before: true };
  const gadget: Reconciler = {
    find: () => undefined,
    get: () => {
      throw new WeftError('not_found', 'none');
    },
    all: () => [],
    shown: ({ resource }) => resource,
    plan: (resource) => ({
      action: 'created',
      declared: { name: resource.metadata.name, resource, revision: 0 },
      own: { now: true },
    }),
    kept: () => new Map([['blue', kept]]),
    keeping: (records) => ({
      store: own === store ? refusing : own,
      transaction: { put: [{ key: 'own/blue', value: records.get('blue')! }] },
      stored: () => {
        kept = records.get('blue');
        log.push(`kept ${JSON.stringify([...records])}`);
      },
    }),
    put: () => void log.push('put'),
    remove: () => {},
  };
  const refusal = { isOn: true };
  const refusing: Store = Object.assign(Object.create(store) as Store, {
    list: (prefix: string) => store.list(prefix),
    watch: store.watch.bind(store),
    transact: async (transaction: Parameters<Store['transact']>[0]) => {
      log.push(`transact ${(transaction.put ?? []).map(({ key }) => key).join()}`);
      if (refusal.isOn && transaction.put?.some(({ key }) => key === 'networks/blue'))
        throw new WeftError('unreachable', 'gone');
      return store.transact(transaction);
    },
  });
  const nothing = async (): Promise<void> => {};
  const others: Reconciler = { ...gadget, all: () => [], put: () => {} };
  const cluster = new Cluster({
    hostName: 'here',
    feed: new LocalFeed(refusing),
    reconcilers: new Map(kinds.map(({ kind }) => [kind, kind === 'Network' ? gadget : others])),
    registers: [],
    ...{ onEnforced: nothing, check: nothing, prepare: nothing, onApplied: nothing },
    after: () => () => {},
    wallClock: () => 0,
    logger: { info: () => {}, warn: (_, message) => t.fail(message), error: (_, message) => t.fail(message) },
  });
  await cluster.serial.run(() => cluster.start());
  log.length = 0;
  return { cluster, log, refusal, kept: () => kept };
}

const blue = manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] });

t.test('it comes first, and is as it was if the store refuses the resource', async (t) => {
  const { cluster, log, refusal, kept } = await openCluster(t, await open(t), await open(t));
  await t.rejects(cluster.apply([blue]), { code: 'unreachable' });
  t.same(log, ['kept [["blue",{"now":true}]]', 'transact networks/blue', 'kept [["blue",{"before":true}]]']);
  refusal.isOn = false;
  log.length = 0;
  await cluster.apply([blue]);
  t.same(log, ['kept [["blue",{"now":true}]]', 'transact networks/blue', 'put']);
  t.same(kept(), { now: true });
  await cluster.close();
});

t.test('in one store it goes with the resource, or is not stored either', async (t) => {
  const store = await open(t);
  const { cluster, log, refusal, kept } = await openCluster(t, store, store);
  await t.rejects(cluster.apply([blue]), { code: 'unreachable' });
  t.same(log, ['transact own/blue,networks/blue']);
  t.equal(await store.get('own/blue'), undefined);
  t.same(kept(), { before: true });
  refusal.isOn = false;
  log.length = 0;
  await cluster.apply([blue]);
  t.same(log, ['transact own/blue,networks/blue', 'kept [["blue",{"now":true}]]', 'put']);
  t.equal((await store.get('own/blue'))?.revision, (await store.get('networks/blue'))?.revision);
  await cluster.close();
});
