/** Hosts that share a store say what they have in force, and one can wait for all of them. */
import t, { type Test } from 'tap';
import { Cluster } from '../../src/cluster/cluster.ts';
import type { Feed, News } from '../../src/cluster/feed/feed.ts';
import type { MembershipEnvironment } from '../../src/cluster/membership/membership.ts';
import { LEASE_MS } from '../../src/cluster/membership/presence.ts';
import { PublishedRevisions } from '../../src/cluster/membership/published-revisions.ts';
import { WeftError } from '../../src/error.ts';
import type { HostInForceReport } from '../../src/model/report.ts';
import { hostKind } from '../../src/model/kinds/host.ts';
import { unlimited } from '../../src/store/staged.ts';
import type { Store } from '../../src/store/store.ts';
import { within } from '../../src/store/within.ts';
import { until } from '../support/process.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';
import { endpointOf } from './feed-host.ts';
import { Hooked } from '../support/switch.ts';
import { Switchable } from '../support/switchable.ts';

const SHORT_MS = 300;
const LONG_MS = 60_000;
type HostName = 'a' | 'b' | 'c';

/** The timers of the hosts keep no process alive. */
function stayAlive(t: Test): void {
  const alive = setInterval(() => {}, LONG_MS);
  t.teardown(() => clearInterval(alive));
}

/** Three hosts. @param reachable what `a` knows of the tunnels to the others @param unreachableMs and for how long they are down @param ofA what else is so there */
async function lab(
  t: Test,
  reachable: Partial<Record<string, boolean>> = {},
  unreachableMs = 0,
  ofA: Partial<MembershipEnvironment> = {},
) {
  stayAlive(t);
  const root = await openStore(t);
  const [shared, applied] = [within(root, 'state/'), within(root, 'applied/')];
  const open = (host: HostName, membership: Partial<MembershipEnvironment> = {}) =>
    openControlPlane(t, undefined, { host, shared, applied, underlay: underlayOf(host), membership });
  const seenByA: Partial<MembershipEnvironment> = {
    isReachable: (host) => reachable[host],
    unreachableMs: (host) => (reachable[host] === false ? unreachableMs : undefined),
    ...ofA,
  };
  const [a, b, c] = [await open('a', seenByA), await open('b'), await open('c')];
  for (const { hosts, membership } of [a, b, c]) {
    await until(() => hosts.registered().length === 3 && ['a', 'b', 'c'].every((name) => membership.live.find(name)), {
      what: 'all know each other',
    });
  }
  return { root, shared, open, a, b, c };
}

const underlayOf = (host: HostName): string => `192.0.2.${1 + 'abc'.indexOf(host)}`;
const states = (hosts: readonly HostInForceReport[]) =>
  Object.fromEntries(hosts.map(({ host, state }) => [host, state]));
const network = (name: string, n: number) => manifest('Network', name, { subnets: [`10.${n}.0.0/24`] });

t.test('peers follow the store', async (t) => {
  const { a } = await lab(t);
  t.same(a.hosts.vteps(), ['192.0.2.2', '192.0.2.3']);
  const { vteps } = a.forwarding.tables.topology;
  t.ok(vteps.all().every((vtep) => vteps.isSharing(vtep)));
});

t.test('a change is in force everywhere when that was waited for', async (t) => {
  const { a, b, c } = await lab(t);
  for (const n of [1, 2, 3]) {
    await a.cluster.apply([network(`n${n}`, n)]);
    const { revision, hosts } = await a.membership.inForce.wait(LONG_MS);
    t.same(states(hosts), { a: 'in force', b: 'in force', c: 'in force' });
    t.ok(hosts.every((host) => host.revision! >= revision));
    for (const plane of [b, c]) t.ok(plane.networks.find(`n${n}`), 'and it is');
  }
});

t.test('what somebody has deleted of it by hand comes back', async (t) => {
  const { root, a } = await lab(t);
  await a.cluster.apply([network('blue', 1)]);
  await a.membership.inForce.wait(LONG_MS);
  const before = (await root.get('applied/b'))!.value;
  await root.transact({ delete: ['applied/b'] });
  await until(() => root.get('applied/b'), { what: 'it is published again' });
  t.same((await root.get('applied/b'))!.value, before);
  t.match((await a.membership.inForce.wait(LONG_MS)).hosts, { length: 3 });
});

t.test('what hosts publish is listed once while somebody waits, and an older listing takes nothing back', async (t) => {
  const applied = within(await openStore(t), 'applied/');
  let lists = 0;
  const published = new PublishedRevisions({
    list: (prefix) => {
      lists++;
      return applied.list(prefix);
    },
    watch: (...words) => applied.watch(...words),
  });
  const publish = (key: string, revision: number): Promise<number> =>
    applied.transact({ put: [{ key, value: { revision } }] });
  await publish('b', 0);
  await publish('a', 1);
  let changes = 0;
  const ends = [published.follow(() => void changes++), published.follow(() => void changes++)];
  await Promise.all([published.begun(), published.begun()]);
  t.equal(published.of('a'), 1);
  for (let n = 1; n <= 50; n++) {
    await publish(`h${n}`, n);
    await published.begun();
  }
  await until(() => changes === 100, { what: 'both know all of them' });
  t.equal(published.of('h50'), 50);
  t.equal(lists, 1);
  const old = applied.list('');
  await publish('a', 2);
  await until(() => published.of('a') === 2, { what: 'the change' });
  const late = new PublishedRevisions({ list: () => old, watch: (...words) => applied.watch(...words) });
  ends.push(late.follow(() => {}));
  await late.begun();
  await until(() => late.of('a') === 2, { what: 'what came after the listing' });
  await late.look();
  t.equal(late.of('a'), 2, 'although that was listed before');
  await applied.transact({ delete: ['a'] });
  await until(() => published.of('a') === undefined, { what: 'the deletion' });
  for (const end of ends) end();
  await publish('a', 3);
  await published.look();
  t.equal(published.of('a'), 3);
  t.equal(lists, 2);
});

t.test('what a host has in force of another history of the store does not count', async (t) => {
  const { a, root } = await lab(t);
  await a.cluster.apply([network('blue', 1)]);
  const { revision } = await a.membership.inForce.wait(LONG_MS);
  // The host has not noticed yet that the store was restored: its revisions go on from where they were.
  const lost = { value: { revision: revision + 1000 } };
  await root.transact({ put: [{ key: 'applied/gone', ...lost }] });
  const published = new PublishedRevisions(within(root, 'applied/'));
  await published.look();
  t.equal(published.of('gone'), undefined, 'as it is listed');
  t.ok(published.of('b')! >= revision);
  t.teardown(published.follow(() => {}));
  await published.begun();
  await root.transact({ put: [{ key: 'applied/b', ...lost }] });
  await until(() => published.of('b') === undefined, { what: 'nor as it is reported' });
});

t.test('publishing what is in force makes no new work', async (t) => {
  const { a, b, c, root } = await lab(t);
  await a.cluster.apply([network('blue', 1)]);
  await a.membership.inForce.wait(LONG_MS);
  const before = [a, b, c].map(({ membership }) => membership.inForce.revision);
  // Signs of life, too, are no change of the state.
  const { value, lease } = (await root.get('state/live/b'))!;
  const revision = await root.transact({
    put: [{ key: 'state/live/b', value: { ...(value as object), clock: 1 }, lease: lease! }],
  });
  for (const { cluster } of [a, b, c]) await cluster.serial.run(() => cluster.enforce());
  await until(() => a.membership.live.find('b')?.clock === 1, { what: 'the sign of life is known' });
  t.same(
    [a, b, c].map(({ membership }) => membership.inForce.revision),
    before,
  );
  t.ok(before.every((one) => one < revision));
});

t.test('a host that starts again asks of the others only what concerned the state', async (t) => {
  const { a, b, c, root, shared } = await lab(t);
  await a.cluster.apply([network('blue', 1)]);
  await a.membership.inForce.wait(LONG_MS);
  await c.close();
  await until(() => [a, b].every(({ membership }) => !membership.live.find('c')), { what: 'it is gone' });
  // What others keep in the store, too, makes revisions.
  for (let n = 0; n < 3; n++) await root.transact({ put: [{ key: 'else', value: n }] });
  const applied = within(root, 'applied/');
  const again = await openControlPlane(t, c.directory, { host: 'c', shared, applied, underlay: underlayOf('c') });
  await until(() => again.membership.live.find('c') !== undefined, { what: 'it is registered' });
  const { hosts } = await again.membership.inForce.wait(1000);
  t.same(states(hosts), { a: 'in force', b: 'in force', c: 'in force' });
  t.same(
    hosts.map(({ behind }) => behind),
    [0, 0, 0],
  );
});

t.test('what the datapath does not have yet is waited for, too', async (t) => {
  const root = await openStore(t);
  const [shared, applied] = [within(root, 'state/'), within(root, 'applied/')];
  let settled = Promise.resolve();
  const membership = { settled: () => settled };
  const a = await openControlPlane(t, undefined, { host: 'a', shared, applied, membership });
  await until(() => a.membership.live.find('a') !== undefined, { what: 'it is registered' });
  let settle = (): void => {};
  settled = new Promise((resolve) => (settle = resolve));
  await a.cluster.apply([network('blue', 1)]);
  const waiting = a.membership.inForce.wait(LONG_MS);
  settle();
  t.ok((await waiting).revision >= a.networks.find('blue')!.revision);
});

t.test('what the copy on the disk does not have yet is waited for, too', async (t) => {
  stayAlive(t);
  const root = await openStore(t);
  const [shared, applied] = [within(root, 'state/'), within(root, 'applied/')];
  const a = await openControlPlane(t, undefined, { host: 'a', shared, applied });
  await until(() => a.membership.live.find('a') !== undefined, { what: 'it is registered' });
  const kept = a.feed.kept.bind(a.feed);
  const writes: (() => void)[] = [];
  a.feed.kept = () => new Promise((resolve) => writes.push(resolve));
  await a.cluster.apply([network('blue', 1)]);
  t.not(a.networks.find('blue'), undefined, 'it is in force');
  await t.rejects(a.membership.inForce.wait(SHORT_MS), { code: 'unreachable' }, 'and would not be after a crash');
  a.feed.kept = kept;
  for (const write of writes) write();
  t.ok((await a.membership.inForce.wait(LONG_MS)).revision >= a.networks.find('blue')!.revision);
});

t.test('what was written while the store was away is waited for until the store and all hosts have it', async (t) => {
  stayAlive(t);
  const root = await openStore(t);
  const [shared, applied] = [new Switchable(within(root, 'state/')), within(root, 'applied/')];
  const [WEB, record] = ['endpoints/default/web', { ...endpointOf('a', '10.0.0.1'), host: 'a' }];
  const a = await openControlPlane(t, undefined, { host: 'a', shared, applied });
  await until(() => a.membership.live.find('a') !== undefined, { what: 'it is registered' });
  shared.away();
  await a.cluster.serial.run(async () => {
    await a.feed.transact({ put: [{ key: WEB, value: record }] });
    await a.cluster.enforce();
  });
  t.notOk(a.cluster.isStored);
  await t.rejects(a.membership.inForce.wait(SHORT_MS), { message: /this host itself is cut off from the store/ });
  const waiting = a.membership.inForce.wait(LONG_MS);
  shared.back();
  const { revision } = await waiting;
  t.ok(a.cluster.isStored);
  t.ok(revision >= (await shared.get(WEB))!.revision);
});

t.test('which change of the state is the last one', async (t) => {
  const entry = (key: string, revision: number) => ({ key, entry: { key, value: {}, revision } });
  const [keys, gone] = [new Set<string>(), { key: 'blocks/x', entry: undefined }];
  const news: (News & { readonly told?: readonly [number, number] })[] = [
    { revision: 900, keys, changes: [entry('blocks/x', 700), entry('live/a', 899)], told: [900, 700] },
    { revision: 901, madeAt: 901, changes: [gone], told: [901, 901] },
    { revision: 905, madeAt: 905, changes: [entry('live/a', 905)] },
    // Known without the watch, which has not got that far.
    { revision: 905, changes: [entry('blocks/y', 907)], told: [905, 907] },
    { revision: 905, madeAt: 908, changes: [gone], told: [905, 908] },
    { revision: 920, keys, changes: [gone, entry('blocks/z', 915)], told: [920, 915] },
    // The store went back: this host goes on with what it has, and has nothing of what follows.
    { revision: 100, changes: [], told: [100, 0] },
    { revision: 101, madeAt: 101, changes: [entry('blocks/z', 101)], told: [101, 101] },
    { revision: 90, keys, changes: [entry('blocks/y', 907), entry('blocks/z', 80)], told: [90, 80] },
    // What this host has written is in force by then, and others have it from there.
    { revision: 110, madeAt: 110, isOfState: true, changes: [], told: [110, 110] },
    { revision: 111, madeAt: 111, isOfState: false, changes: [] },
    // What was missed has left nothing to do.
    { revision: 120, listed: {}, changes: [], told: [120, 110] },
    // Another history, whose revisions go on beyond the one before, or went back without any change.
    { revision: 130, listed: { latest: 60 }, changes: [entry('blocks/y', 60)], told: [130, 60] },
    { revision: 70, listed: { latest: 60 }, changes: [], told: [70, 60] },
  ];
  const left = [...news];
  const told: (readonly [number, number])[] = [];
  const cluster = new Cluster({
    ...{ hostName: 'a', reconcilers: new Map(), registers: [] },
    feed: { start: async () => {}, next: async () => left.shift() } as unknown as Feed,
    onEnforced: async () => {},
    onInForce: (revision, latest) => void told.push([revision, latest]),
    check: async () => {},
    prepare: async () => {},
    onApplied: async () => {},
    after: () => () => {},
    wallClock: () => 0,
    logger: { info: () => {}, warn: () => {}, error: (_, message) => t.fail(message) },
  });
  await cluster.start();
  t.same(
    told,
    news.flatMap((one) => (one.told ? [one.told] : [])),
  );
});

t.test('a host that lags is named, and the change stays', async (t) => {
  const { a, b } = await lab(t);
  let go = (): void => {};
  const stuck = b.cluster.serial.run(() => new Promise<void>((resolve) => (go = resolve)));
  await a.cluster.apply([network('blue', 1)]);
  await t.rejects(a.membership.inForce.wait(SHORT_MS), {
    code: 'unreachable',
    message: 'in force here, but after 0.3 s not everywhere: host "b" lags behind',
  });
  t.ok(a.networks.find('blue'));
  go();
  await stuck;
  t.same(states((await a.membership.inForce.wait(LONG_MS)).hosts)['b'], 'in force');
});

t.test('a host that is down is named, and not waited for', async (t) => {
  const { a, b } = await lab(t);
  await b.close();
  await until(() => a.membership.live.find('b') === undefined, { what: 'its record is gone' });
  await a.cluster.apply([network('blue', 1)]);
  const { hosts } = await a.membership.inForce.wait(LONG_MS);
  t.same(states(hosts), { a: 'in force', b: 'down', c: 'in force' });
  t.ok(hosts.find(({ host }) => host === 'b')?.since);
});

t.test('a host whose tunnel is down is not waited for, although its lease has not ended', async (t) => {
  const { a, b } = await lab(t, { b: false });
  let go = (): void => {};
  const stuck = b.cluster.serial.run(() => new Promise<void>((resolve) => (go = resolve)));
  await a.cluster.apply([network('blue', 1)]);
  t.same(states((await a.membership.inForce.wait(LONG_MS)).hosts), { a: 'in force', b: 'down', c: 'in force' });
  go();
  await stuck;
});

t.test('a host whose lease outlives its tunnel runs, and is waited for', async (t) => {
  let nowMs = 0;
  const { a, b } = await lab(t, { b: false }, 2 * LEASE_MS + 1, { clock: () => nowMs });
  nowMs = 2 * LEASE_MS + 1;
  await a.cluster.apply([network('blue', 1)]);
  t.same(states((await a.membership.inForce.wait(LONG_MS)).hosts), { a: 'in force', b: 'in force', c: 'in force' });
  let go = (): void => {};
  const stuck = b.cluster.serial.run(() => new Promise<void>((resolve) => (go = resolve)));
  await a.cluster.apply([network('red', 2)]);
  await t.rejects(a.membership.inForce.wait(SHORT_MS), { message: /host "b" lags behind/ });
  const controller = new AbortController();
  const left = [a.membership.inForce.wait(LONG_MS, controller.signal)];
  controller.abort();
  left.push(a.membership.inForce.wait(LONG_MS, controller.signal));
  for (const one of left)
    await t.rejects(one, { message: /host "b" lags behind/ }, 'whoever has left is waited for no longer');
  go();
  await stuck;
});

t.test('a lease outlives nothing while this host is cut off from the store, where no lease ends then', async (t) => {
  let isStored = true;
  let nowMs = 0;
  const { a } = await lab(t, { b: false }, 2 * LEASE_MS + 1, { isStored: () => isStored, clock: () => nowMs });
  nowMs = 2 * LEASE_MS + 1;
  await a.cluster.apply([network('blue', 1)]);
  await a.membership.inForce.wait(LONG_MS);
  t.same(states(a.membership.inForce.report().hosts), { a: 'in force', b: 'in force', c: 'in force' });
  isStored = false;
  t.same(states(a.membership.inForce.report().hosts), { a: 'in force', b: 'down', c: 'in force' });
  isStored = true;
  a.membership.lost();
  await until(() => a.membership.report?.state === 'registered', { what: 'it is in the store again' });
  t.same(
    states(a.membership.inForce.report().hosts),
    { a: 'in force', b: 'down', c: 'in force' },
    'nor just after that',
  );
  nowMs *= 2;
  t.same(states(a.membership.inForce.report().hosts), { a: 'in force', b: 'in force', c: 'in force' });
});

t.test(
  'an endpoint is taken from a host without asking only if its lease has ended, and its tunnel is not up',
  async (t) => {
    const reachable: Partial<Record<string, boolean>> = { b: false, c: true };
    const { a, b, c } = await lab(t, reachable);
    t.notOk(a.membership.isDown('b'), 'the tunnel may be cut between these two alone');
    await Promise.all([b.close(), c.close()]);
    await until(() => !a.membership.live.find('b') && !a.membership.live.find('c'), {
      what: 'their leases have ended',
    });
    t.ok(a.membership.isDown('b'));
    t.notOk(a.membership.isDown('c'), 'it is cut off from the store, but runs');
    reachable['c'] = undefined;
    t.ok(a.membership.isDown('c'), 'nobody probes it');
  },
);

t.test('a host that is cut off from the store, but alive, is named', async (t) => {
  const { a, b } = await lab(t, { b: true });
  await b.close();
  await until(() => a.membership.live.find('b') === undefined, { what: 'its lease has ended' });
  await a.cluster.apply([network('blue', 1)]);
  await t.rejects(a.membership.inForce.wait(SHORT_MS), {
    message: /not everywhere: cut off from the store: host "b" since 20/,
  });
  t.ok(a.networks.find('blue'), 'the change stays');
});

t.test('a host is deleted with everything that it has, but not while it runs', async (t) => {
  const { a, b, c, shared, open } = await lab(t, { c: true });
  await a.cluster.apply([network('blue', 1)]);
  const record = (host: HostName, n: number) => ({
    resource: manifest('Endpoint', `e${n}`, { network: 'blue', netns: '/run/none' }),
    addresses: [`10.1.0.${n}`],
    mac: `02:00:00:00:00:0${n}`,
    host,
  });
  await shared.transact({
    put: [2, 3, 4].map((n) => ({ key: `endpoints/default/e${n}`, value: record(n === 4 ? 'c' : 'b', n) })),
  });
  await until(() => a.endpoints.size === 3, { what: 'they are known' });
  await t.rejects(a.cluster.delete(hostKind, { name: 'a' }), { message: /^host "a" is this host itself: / });
  await t.rejects(a.cluster.delete(hostKind, { name: 'b' }), {
    message:
      /^host "b" runs since \S+, and would register itself again: `weft down` there first; if it was stopped or has died just now, try again in 15 s$/,
  });
  await c.close();
  await until(() => a.membership.live.find('c') === undefined, { what: 'c is cut off' });
  await t.rejects(a.cluster.delete(hostKind, { name: 'c' }), {
    message: /runs, although it is cut off from the store/,
  });

  await b.close();
  await until(() => a.membership.live.find('b') === undefined, { what: 'b is down' });
  await t.rejects(open('b', { id: 'ff'.repeat(16) }), {
    message: /^the name "b" belongs to another host .*`weft delete host b`/,
  });
  const revisions = new Set<number>();
  const stop = shared.watch('', (await shared.list('')).revision + 1, (event) => {
    if (event.kind === 'changes') revisions.add(event.revision);
  });
  await a.cluster.delete(hostKind, { name: 'b' });
  t.same(
    a.endpoints.all().map(({ name }) => name),
    ['e4'],
  );
  t.same(a.hosts.vteps(), ['192.0.2.3']);
  const left = (await shared.list('')).entries.filter(
    ({ key, value }) => key.endsWith('/b') || (value as { host?: string }).host === 'b',
  );
  t.same(left, []);
  t.equal(revisions.size, 1, 'in one transaction');
  stop();
  await open('b', { id: 'ff'.repeat(16) });
  await until(() => a.hosts.vteps().includes('192.0.2.2'), { what: 'it is installed again' });
});

/** Two hosts, and their store, of which a test sees each transaction before it is made. */
async function twoHosts(t: Test) {
  stayAlive(t);
  const root = new Hooked(await openStore(t));
  const [shared, applied] = [within(root, 'state/'), within(root, 'applied/')];
  const open = (host: HostName) =>
    openControlPlane(t, undefined, { host, shared, applied, underlay: underlayOf(host) });
  return { root, shared, a: await open('a'), b: await open('b') };
}

t.test('a host takes itself out of the store, although others change what it has just then', async (t) => {
  const { root, shared, a, b } = await twoHosts(t);
  await a.cluster.apply([network('blue', 1)]);
  const resource = manifest('Endpoint', 'web', { network: 'blue', netns: '/run/none' });
  const record = { resource, addresses: ['10.1.0.2'], mac: '02:00:00:00:00:02', host: 'b' };
  const write = (labels: object): Promise<number> => {
    const value = { ...record, resource: { ...resource, metadata: { ...resource.metadata, labels } } };
    return shared.transact({ put: [{ key: 'endpoints/default/web', value }] });
  };
  await write({});
  await until(() => b.endpoints.size === 1, { what: 'it is known' });
  await Promise.all([b.cluster.serial.close(), b.blocks!.close(), b.membership.leave()]);
  root.beforeTransact = async ({ delete: deleted = [] }) => {
    if (!deleted.includes('state/hosts/b')) return;
    root.beforeTransact = async () => {};
    await write({ app: 'shop' });
  };
  await b.cluster.purge(() => b.hosts.planFarewell());
  const left = (await shared.list('')).entries.filter(
    ({ key, value }) => key.endsWith('/b') || (value as { host?: string }).host === 'b',
  );
  t.same(left, []);
});

t.test(
  'with a host whose record is not accepted goes what that says, and nothing that is another host’s by now',
  async (t) => {
    const { shared, a, b } = await twoHosts(t);
    await until(() => a.membership.live.find('b') !== undefined, { what: 'it is known' });
    await b.close();
    await until(() => a.membership.live.find('b') === undefined, { what: 'b is down' });
    const claims = async (): Promise<Record<string, string>> =>
      Object.fromEntries(
        (await shared.list('host-claims/')).entries.map(({ key, value }) => [key, (value as { host: string }).host]),
      );
    const ofOthers = Object.fromEntries(Object.entries(await claims()).filter(([, host]) => host !== 'b'));

    // A newer version, which has moved, and another host that has its address now.
    const record = (await shared.get('hosts/b'))!.value as { readonly resource: object };
    const newer = { ...record, resource: { ...record.resource, spec: { underlay: '192.0.2.77', colour: 'red' } } };
    const moved = { 'host-claims/underlay/192.0.2.77': 'b', 'host-claims/underlay/192.0.2.2': 'c' };
    const put = Object.entries(moved).map(([key, host]) => ({ key, value: { host } }));
    await shared.transact({ put: [...put, { key: 'hosts/b', value: newer }] });
    await until(() => a.cluster.refused.count === 1, { what: 'it is not accepted' });
    await a.cluster.delete(hostKind, { name: 'b' });
    t.same(await claims(), { ...ofOthers, 'host-claims/underlay/192.0.2.2': 'c' });
    t.notOk(await shared.get('hosts/b'));

    // One that this host has never accepted, and that runs.
    const live = { key: 'live/b', value: { ...b.membership.live.find('b'), host: 'b' } };
    t.match(live.value, { startedAt: String });
    await shared.transact({
      put: [{ key: 'hosts/b', value: newer }, { ...live, lease: await shared.grant(600_000) }, ...put.slice(0, 1)],
    });
    await until(() => a.cluster.refused.count === 1 && a.membership.live.find('b') !== undefined, {
      what: 'it is known',
    });
    await t.rejects(a.cluster.delete(hostKind, { name: 'b' }), { message: /^host "b" runs since/ });
    await shared.transact({ delete: ['live/b'] });
    await until(() => a.membership.live.find('b') === undefined, { what: 'b is down' });
    await a.cluster.delete(hostKind, { name: 'b' });
    t.same(await claims(), { ...ofOthers, 'host-claims/underlay/192.0.2.2': 'c' });

    // One that names what this host has.
    const own = (await shared.get('hosts/a'))!.value as { readonly resource: object };
    await shared.transact({ put: [{ key: 'hosts/b', value: { ...own, colour: 'red' } }] });
    await until(() => a.cluster.refused.count === 1, { what: 'it is not accepted' });
    await a.cluster.delete(hostKind, { name: 'b' });
    t.same(await claims(), { ...ofOthers, 'host-claims/underlay/192.0.2.2': 'c' });
  },
);

t.test('a host that is killed while it takes itself out of the store is not taken for one that runs', async (t) => {
  stayAlive(t);
  const root = await openStore(t);
  const of = (store: Store) => ({ shared: unlimited(within(store, 'state/')), applied: within(store, 'applied/') });
  const a = await openControlPlane(t, undefined, { host: 'a', underlay: underlayOf('a'), ...of(root) });
  // All that it deletes does not fit into one transaction.
  const small = new Hooked(root, 12);
  const b = await openControlPlane(t, undefined, { host: 'b', underlay: underlayOf('b'), ...of(small) });
  await until(() => a.membership.live.find('b') !== undefined, { what: 'it is known' });
  await a.cluster.apply([network('blue', 1)]);
  const endpointRecord = (n: number) => ({
    resource: manifest('Endpoint', `e${n}`, { network: 'blue', netns: '/run/none' }),
    ...{ addresses: [`10.1.0.${n}`], mac: `02:00:00:00:00:${n}`, host: 'b' },
  });
  const numbers = Array.from({ length: 12 }, (_, n) => 10 + n);
  await of(root).shared.transact({
    put: numbers.map((n) => ({ key: `endpoints/default/e${n}`, value: endpointRecord(n) })),
  });
  await until(() => b.endpoints.size === numbers.length, { what: 'its endpoints are known' });
  t.same(
    b.hosts.planFarewell().delete!.filter((key) => /^(live|unhealthy)/.test(key)),
    [],
    'what has a lease goes with that',
  );
  await Promise.all([b.cluster.serial.close(), b.blocks!.close(), b.membership.leave()]);
  // All is marked, and nothing is done.
  small.beforeTransact = async ({ delete: deleted = [] }) => {
    if (!deleted.some((key) => key.includes('staged/open/'))) return;
    small.writesLeft = 0;
    throw new WeftError('system', 'the store is gone');
  };
  await t.rejects(
    b.cluster.purge(() => b.hosts.planFarewell()),
    { message: 'the store is gone' },
  );
  await b.membership.close();
  await until(() => a.membership.whyAlive('b') === undefined, { what: 'it is down' });
  await a.cluster.delete(hostKind, { name: 'b' });
  t.same(a.hosts.registered(), ['a']);
});

t.test('a host that comes back just as it is deleted stays, with all that it has', async (t) => {
  const { root, shared, a, b } = await twoHosts(t);
  await until(() => a.membership.live.find('b') !== undefined, { what: 'it is known' });
  const live = await shared.get('live/b');
  await b.close();
  await until(() => a.membership.live.find('b') === undefined, { what: 'b is down' });
  root.beforeTransact = async ({ delete: deleted = [] }) => {
    if (!deleted.includes('state/hosts/b')) return;
    root.beforeTransact = async () => {};
    await shared.transact({ put: [{ key: 'live/b', value: live!.value, lease: await shared.grant(60_000) }] });
  };
  await t.rejects(a.cluster.delete(hostKind, { name: 'b' }), { message: /^host "b" runs since/ });
  t.match((await shared.get('hosts/b'))?.value, { host: 'b', deletedBy: undefined });
});

t.test('while the copy cannot be written, one waits for all news together', async (t) => {
  let calls = 0;
  let keep = (): void => {};
  const kept = (): Promise<void> => {
    calls++;
    return new Promise((resolve) => (keep = resolve));
  };
  const { membership } = await openControlPlane(t, undefined, { membership: { kept } });
  await until(() => calls === 1, { what: 'the start is to be kept' });
  for (let n = 100; n < 1100; n++) membership.reached(n, n);
  t.equal(calls, 1);
  keep();
  await until(() => calls === 2, { what: 'what came meanwhile is to be kept' });
  t.ok(membership.inForce.revision < 100);
  keep();
  await until(() => membership.inForce.revision === 1099, { what: 'the newest is in force' });
  membership.reached(1100, 1100);
  t.equal(calls, 3);
  keep();
  await until(() => membership.inForce.revision === 1100, { what: 'and so on' });
});
