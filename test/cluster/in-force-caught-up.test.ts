/**
 * What hosts say that they have in force catches up with the store by itself, whatever happened to that: a restore, another cluster,
 * writes that a host makes up for, changes that it has missed. Nobody has to write anything for that.
 */
import t, { type Test } from 'tap';
import { networkKind } from '../../src/model/kinds/network.ts';
import type { Store } from '../../src/store/store.ts';
import { within } from '../../src/store/within.ts';
import { until } from '../support/process.ts';
import { Switchable } from '../support/switchable.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';
import { endpointOf } from './feed-host.ts';

const LONG_MS = 60_000;
const WEB = 'endpoints/default/web';
const web = endpointOf('b', '10.9.0.9');
const network = (name: string, n: number) => manifest('Network', name, { subnets: [`10.${n}.0.0/24`] });

async function openHost(t: Test, root: Store, host: string) {
  const link = new Switchable(root);
  const [shared, applied] = [within(link, 'state/'), within(link, 'applied/')];
  const underlay = `192.0.2.${host.charCodeAt(0)}`;
  const membership = { isReachable: () => true };
  const plane = await openControlPlane(t, undefined, { host, shared, applied, underlay, membership });
  /** Like an operation of the cluster. */
  const write = async (key: string, value: object | undefined): Promise<void> => {
    await plane.cluster.serial.run(async () => {
      await plane.cluster.enforce();
      const change = value ? { put: [{ key, value }] } : { delete: [key] };
      await plane.feed.caughtUp(await plane.feed.transact(change));
      await plane.cluster.enforce();
    });
  };
  return { ...plane, link, write };
}

type Host = Awaited<ReturnType<typeof openHost>>;

/** Hosts `a` and `b`, which have a network in force. */
async function twoHosts(t: Test) {
  const alive = setInterval(() => {}, LONG_MS);
  t.teardown(() => clearInterval(alive));
  const root = await openStore(t);
  const [a, b] = [await openHost(t, root, 'a'), await openHost(t, root, 'b')];
  await until(() => a.membership.live.find('b') && b.membership.live.find('a'), { what: 'they know each other' });
  await a.cluster.apply([network('blue', 1)]);
  await a.membership.inForce.wait(LONG_MS);
  return { root, a, b };
}

/** A store with what another one has now, but for what has a lease. Its revisions go on from there. */
async function snapshotOf(t: Test, from: Store): Promise<() => Promise<Store>> {
  const { entries, revision } = await from.list('');
  return async () => {
    const store = await openStore(t);
    for (let at = 1; at <= revision; at++) {
      const written = entries.filter((entry) => entry.revision === at && entry.lease === undefined);
      await store.transact({ put: written.map(({ key, value }) => ({ key, value })) });
    }
    return store;
  };
}

/** All say that they have all in force, as each of them sees it. */
async function caughtUp(hosts: readonly Host[]): Promise<void> {
  for (const { membership } of hosts) {
    let seen: string[] = [];
    const isSo = async (): Promise<boolean> => {
      const report = (await membership.lookInForce())!;
      seen = report.hosts.map(({ host, state, behind }) => `${host} ${state} ${behind ?? ''}`);
      const isAll = report.hosts.every(({ state, behind }) => state === 'in force' && behind === 0);
      return isAll && report.hosts.length === hosts.length && report.revision > 0;
    };
    await until(isSo, { what: 'all to have it in force' }).catch((error: unknown) => {
      throw new Error(`${(error as Error).message}: ${seen.join(', ')}`, { cause: error });
    });
  }
}

t.test('a host writes its records again after a restore', async (t) => {
  const { root, a, b } = await twoHosts(t);
  const restore = await snapshotOf(t, root);
  await b.write(WEB, web);
  await a.cluster.apply([network('red', 2)]);
  await a.membership.inForce.wait(LONG_MS);
  const old = await restore();
  for (const { link } of [a, b]) link.away();
  for (const { link } of [a, b]) link.back(old);
  await until(() => old.get(`state/${WEB}`), { what: 'its record' });
  await caughtUp([a, b]);
});

t.test('a restore of which nothing is lost, and all is quiet', async (t) => {
  const { root, a, b } = await twoHosts(t);
  const restore = await snapshotOf(t, root);
  // Signs of life alone.
  const { value, lease } = (await root.get('state/live/b'))!;
  for (let clock = 1; clock <= 20; clock++) {
    await root.transact({ put: [{ key: 'state/live/b', value: { ...(value as object), clock }, lease: lease! }] });
  }
  for (const { membership } of [a, b]) await until(() => membership.live.find('b')?.clock === 20, { what: 'them' });
  const old = await restore();
  for (const { link } of [a, b]) link.away();
  a.link.back(old);
  await until(() => a.feed.report()!.reachable && a.feed.report()!.revision > 0, { what: 'a to see it' });
  for (let n = 0; n < 3; n++) await old.transact({ put: [{ key: 'else', value: n }] });
  b.link.back(old);
  await caughtUp([a, b]);
});

t.test('a host makes up for what it deleted while the store was away', async (t) => {
  const { root, a, b } = await twoHosts(t);
  await b.write(WEB, web);
  await a.membership.inForce.wait(LONG_MS);
  b.link.away();
  await b.write(WEB, undefined);
  b.link.back();
  await until(async () => (await root.get(`state/${WEB}`)) === undefined, { what: 'the deletion' });
  await caughtUp([a, b]);
});

t.test('a host misses what came and went', async (t) => {
  const { a, b } = await twoHosts(t);
  b.link.away();
  await a.cluster.apply([network('red', 2)]);
  await a.cluster.delete(networkKind, { name: 'red' });
  b.link.compact();
  b.link.back();
  await caughtUp([a, b]);
});

t.test('a host joins another cluster, and brings its records along', async (t) => {
  const { root, a, b } = await twoHosts(t);
  await b.write(WEB, web);
  const other = await openStore(t);
  const d = await openHost(t, other, 'd');
  await until(() => d.membership.live.find('d'), { what: 'd' });
  await d.cluster.apply([network('blue', 1)]);
  for (let n = 0; n < 50; n++) await root.transact({ put: [{ key: 'else', value: n }] });
  await a.cluster.apply([network('red', 2)]);
  await a.membership.inForce.wait(LONG_MS);
  b.link.away();
  b.link.back(other);
  await until(() => b.feed.report()!.refused !== undefined, { what: 'the other cluster to be seen' });
  await b.cluster.acceptStore();
  await until(() => other.get(`state/${WEB}`), { what: 'its record' });
  await until(() => b.membership.report!.state === 'registered', { what: 'it to be registered' });
  await caughtUp([b, d]);
});

t.test('what the store has lost is deleted, which changes nothing there', async (t) => {
  const { root, a, b } = await twoHosts(t);
  const restore = await snapshotOf(t, root);
  await a.cluster.apply([manifest('Namespace', 'shop', {})]);
  await a.membership.inForce.wait(LONG_MS);
  const old = await restore();
  for (const { link } of [a, b]) link.away();
  for (const { link } of [a, b]) link.back(old);
  for (const { feed } of [a, b]) await until(() => feed.report()!.held.length > 0, { what: 'it to be held' });
  await a.write('namespaces/shop', undefined);
  await caughtUp([a, b]);
});

t.test('somebody puts an older revision where a host has said what it has in force', async (t) => {
  const { root, a, b } = await twoHosts(t);
  const { lease } = (await root.get('applied/b'))!;
  await root.transact({ put: [{ key: 'applied/b', value: { revision: 1 }, lease: lease! }] });
  await caughtUp([a, b]);
});
