/**
 * A host that starts from its copy, and reads a shared store that takes long: until it has judged what that says, it is not known
 * whose store it is, nor what other hosts have done. So nothing is written there, and nobody loses anything.
 */
import t, { type Test } from 'tap';
import { networkKind } from '../../src/model/kinds/network.ts';
import type { Store } from '../../src/store/store.ts';
import { within } from '../../src/store/within.ts';
import { until } from '../support/process.ts';
import { Switchable } from '../support/switchable.ts';
import { attach, blue, endpoint, type Plane } from './block-hosts.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

const UNDERLAYS: Readonly<Record<string, string>> = { a: '192.0.2.1', b: '192.0.2.2' };

/** A start waits no longer than that for the store. */
const START_MS = 1000;

interface Options {
  readonly known?: string;
  /** What the store says is listed when `answer` is called. */
  readonly isSlow?: boolean;
  /** Changes wait for the store for as long as it takes; by default, they do not wait for long. */
  readonly isPatient?: boolean;
  /** The store is away until then. */
  readonly connected?: Promise<void>;
}

async function open(t: Test, store: Store, host: string, { known, isSlow, isPatient, connected }: Options = {}) {
  const link = new Switchable(within(store, 'state/'));
  if (connected) {
    // As with etcd, a call waits for the first connection.
    link.away();
    const grant = link.grant.bind(link);
    link.grant = async (ttlMs) => {
      await connected;
      return grant(ttlMs);
    };
  }
  let answer = (): void => {};
  const answered = new Promise<void>((resolve) => (answer = resolve));
  link.beforeList = () => (isSlow ? answered : Promise.resolve());
  const plane = await openControlPlane(t, known, {
    host,
    shared: link,
    applied: within(store, 'applied/'),
    underlay: UNDERLAYS[host]!,
    after: (delayMs, work) => {
      const timer = setTimeout(work, isPatient && delayMs > START_MS ? 60_000 : delayMs / 20);
      return () => clearTimeout(timer);
    },
  });
  return { ...plane, link, answer };
}

const follows = (plane: Plane): Promise<unknown> => plane.cluster.serial.run(() => plane.cluster.enforce());
const red = manifest('Network', 'red', { subnets: ['10.1.0.0/24'] });
const deny = manifest('NetworkPolicy', 'deny', { podSelector: {}, policyTypes: ['Ingress'], ingress: [] });

/** A host of one cluster, and the store of another one, in which it must write nothing. */
async function twoClusters(t: Test) {
  const [own, other] = [await openStore(t), await openStore(t)];
  const [a, b] = [await open(t, own, 'a'), await open(t, other, 'b')];
  for (const { cluster } of [a, b]) await cluster.apply([blue('10.0.0.0/24')]);
  const keys = async (): Promise<string[]> => (await other.list('')).entries.map(({ key }) => key);
  const before = new Set(await keys());
  const isAsBefore = async (): Promise<void> => {
    const more = (await keys()).filter((key) => !before.has(key));
    t.same(more, [], 'nothing is written there');
  };
  return { a, other, isAsBefore };
}

t.test('it takes nothing from other hosts', async (t) => {
  const store = await openStore(t);
  const a = await open(t, store, 'a');
  const b = await open(t, store, 'b');
  await a.cluster.apply([blue('10.0.0.0/24'), red]);
  await attach(a, 'a0');
  await follows(b);
  await attach(b, 'b0');
  await follows(a);
  await b.close();
  await until(async () => (await follows(a), a.membership.whyAlive('b') === undefined), { what: 'b is down' });
  await a.close();

  const again = await open(t, store, 'b', { known: b.directory });
  await again.cluster.apply([endpoint('b1', { network: 'red' })]);
  const late = await open(t, store, 'a', { known: a.directory, isSlow: true });
  t.ok(late.networks.find('blue'), 'its copy is in force');
  await t.rejects(late.cluster.apply([endpoint('b0', {})]), {
    code: 'unreachable',
    message: 'the store is being read: endpoint "b0" cannot be changed meanwhile',
  });
  await t.rejects(late.cluster.delete(networkKind, { name: 'red' }), {
    code: 'unreachable',
    message: 'the store is being read: network "red" cannot be changed meanwhile',
  });
  t.match(late.membership.report, { state: 'waiting', why: 'the store is being read' });
  await attach(late, 'a1');
  t.equal(late.endpoints.get('a1').addresses.length, 1, 'its own endpoints it may attach');
  late.answer();
  await until(() => late.membership.report?.state === 'registered', { what: 'its registration' });
  await until(async () => (await follows(late), late.cluster.isStored), { what: 'its endpoint to be stored' });
  await t.rejects(late.cluster.apply([endpoint('b0', {})]), { code: 'conflict', message: /is on host "b"/ });
  await t.rejects(late.cluster.delete(networkKind, { name: 'red' }), { code: 'conflict', message: /endpoints \(b1\)/ });
});

t.test('it writes nothing to the store of another cluster', async (t) => {
  const { a, other, isAsBefore } = await twoClusters(t);
  await a.close();
  const lost = await open(t, other, 'a', { known: a.directory, isSlow: true });
  await t.rejects(lost.cluster.apply([deny]), { code: 'unreachable', message: /^the store is being read: / });
  lost.answer();
  await until(async () => (await follows(lost), lost.feed.report()?.refused !== undefined), { what: 'the refusal' });
  await t.rejects(lost.cluster.apply([deny]), { message: /^the store is that of another cluster/ });
  await until(() => /^the store is that of another cluster/.test(lost.membership.report?.why ?? ''), {
    what: 'its registration says that it waits for another store',
  });
  await isAsBefore();
});

t.test('nor if it has to wait for a connection first', async (t) => {
  const { a, other, isAsBefore } = await twoClusters(t);
  await a.close();
  let connect = (): void => {};
  const connected = new Promise<void>((resolve) => (connect = resolve));
  const lost = await open(t, other, 'a', { known: a.directory, isSlow: true, connected });
  lost.link.back();
  connect();
  await until(() => lost.membership.report?.why === 'the store is being read', { what: 'its registration waits' });
  lost.answer();
  await until(async () => (await follows(lost), lost.feed.report()?.refused !== undefined), { what: 'the refusal' });
  await isAsBefore();
});

t.test('a change waits for what the store says', async (t) => {
  const store = await openStore(t);
  const a = await open(t, store, 'a');
  await a.close();
  const late = await open(t, store, 'a', { known: a.directory, isSlow: true, isPatient: true });
  const applied = late.cluster.apply([blue('10.0.0.0/24')]);
  late.answer();
  t.match(await applied, [{ action: 'created' }]);
});

t.test('nor does a host that runs, whose connection leads to another store', async (t) => {
  const { a, other, isAsBefore } = await twoClusters(t);
  let answer = (): void => {};
  const answered = new Promise<void>((resolve) => (answer = resolve));
  a.link.beforeList = () => answered;
  a.link.away();
  a.link.back(within(other, 'state/'), '-2');
  await t.rejects(a.cluster.apply([deny]), { code: 'unreachable', message: /^the store is being read: / });
  answer();
  await until(async () => (await follows(a), a.feed.report()?.refused !== undefined), { what: 'the refusal' });
  await isAsBefore();
});

t.test('a network is not deleted while the watch is behind', async (t) => {
  const store = await openStore(t);
  const [a, b] = [await open(t, store, 'a'), await open(t, store, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await follows(b);
  a.link.isLost = () => true;
  await attach(b, 'b1');
  await t.rejects(a.cluster.delete(networkKind, { name: 'blue' }), {
    code: 'unreachable',
    message: 'network "blue" cannot be deleted now: what other hosts have changed is still being read: try again',
  });
  a.link.isLost = () => false;
  await until(async () => (await follows(b), b.cluster.get(networkKind).length === 1), { what: 'the network' });
  await attach(b, 'b2');
});

t.test('it is when the watch has come so far, also what the store has lost', async (t) => {
  const store = await openStore(t);
  const [a, b] = [await open(t, store, 'a', { isPatient: true }), await open(t, store, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24'), red]);
  await follows(b);
  const late: (() => void)[] = [];
  a.link.delay = (report) => void late.push(report);
  let isDeleted = false;
  const deleted = a.cluster.delete(networkKind, { name: 'blue' }).finally(() => (isDeleted = true));
  await until(() => late.length > 0, { what: 'the report of the mark' });
  t.notOk(isDeleted);
  a.link.delay = undefined;
  for (const report of late) report();
  t.match(await deleted, { action: 'deleted' });
});
