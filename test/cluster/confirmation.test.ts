/**
 * A change that waits to be confirmed stays if it is confirmed, and is taken back if it is not, whatever becomes of the daemon that
 * made it. What others have changed since is left alone, and named.
 */
import t from 'tap';
import { Confirmation } from '../../src/cluster/confirmation.ts';
import { WeftError } from '../../src/error.ts';
import { takenBackText } from '../../src/model/confirmation-text.ts';
import { findKind, kinds } from '../../src/model/kinds/registry.ts';
import type { Resource } from '../../src/model/resource.ts';
import { until } from '../support/process.ts';
import { Switchable } from '../support/switchable.ts';
import { openHost, settled } from './block-hosts.ts';
import { manifest, openControlPlane, openStore, type ControlPlaneOptions } from './control-plane.ts';

const FOR_MS = 60_000;
const GRACE_MS = 30_000;
const RETRY_MS = 5000;
const START_MS = Date.parse('2026-01-01T00:00:00Z');

const blue = manifest('Network', 'blue', { subnets: ['10.0.0.0/24'], vni: 100 });
const red = manifest('Network', 'red', { subnets: ['10.1.0.0/24'], vni: 101 });
const policy = (name: string, port: number, labels: object = {}) =>
  manifest('NetworkPolicy', name, { podSelector: {}, ingress: [{ ports: [{ port }] }] }, { labels });
const endpoint = (name: string, network: string, namespace?: string) =>
  manifest('Endpoint', name, { network, netns: '/proc/self/ns/uts' }, namespace === undefined ? {} : { namespace });

/** Time passes when the test says so: timers that are as long as a confirmation wait for it. */
class Time {
  nowMs = START_MS;
  readonly #leastMs: number;
  readonly #timers = new Set<{ readonly delayMs: number; readonly work: () => void }>();

  constructor(leastMs = FOR_MS / 2) {
    this.#leastMs = leastMs;
  }

  readonly options = {
    wallClock: () => this.nowMs,
    after: (delayMs: number, work: () => void): (() => void) => {
      if (delayMs >= this.#leastMs) {
        const timer = { delayMs, work };
        this.#timers.add(timer);
        return () => this.#timers.delete(timer);
      }
      const timeout = setTimeout(work, delayMs).unref();
      return () => clearTimeout(timeout);
    },
  } satisfies ControlPlaneOptions;

  get waiting(): number[] {
    return [...this.#timers].map(({ delayMs }) => delayMs);
  }

  /** Lets that time pass. */
  pass(byMs: number): void {
    this.nowMs += byMs;
    for (const timer of this.#timers) {
      if (timer.delayMs > byMs) continue;
      this.#timers.delete(timer);
      timer.work();
    }
  }
}

async function open(t: Parameters<typeof openControlPlane>[0], known?: string, time = new Time()) {
  const plane = await openControlPlane(t, known, time.options);
  const { cluster, store } = plane;
  const { confirmation } = cluster;
  const confirmed = (resources: readonly Resource[]) => cluster.apply(resources, { confirmMs: FOR_MS });
  /** Without revisions. */
  const everything = async () =>
    Object.fromEntries((await store.list('')).entries.map(({ key, value }) => [key, value]));
  /** All resources, as they are shown. */
  const shown = () => kinds.flatMap((kind) => cluster.get(kind));
  const takenBack = () => until(() => confirmation.report().takenBack !== null, { what: 'it to be taken back' });
  return { ...plane, time, confirmation, confirmed, everything, shown, takenBack };
}

t.test('what is confirmed stays', async (t) => {
  const { confirmation, confirmed, cluster, everything, time } = await open(t);
  await cluster.apply([blue, policy('db', 80)]);
  t.same(confirmation.report(), { waiting: null, takenBack: null });
  const [changed, created] = await confirmed([policy('db', 81), policy('web', 82)]);
  const ends = '2026-01-01T00:01:00.000Z';
  t.match(changed, { action: 'configured', unconfirmedUntil: ends });
  t.match(created, { action: 'created', unconfirmedUntil: ends });
  const resources = ['networkpolicy "db"', 'networkpolicy "web"'];
  t.same(confirmation.report().waiting, { host: 'here', until: ends, resources, isTakenBack: false });
  t.same(await confirmation.confirm(), { host: 'here', at: '2026-01-01T00:00:00.000Z', resources, otherwise: [] });
  t.equal(confirmation.report().waiting, null);
  const keys = Object.keys(await everything());
  t.same(
    keys.filter((key) => key.startsWith('unconfirmed/')),
    [],
  );
  time.pass(2 * FOR_MS);
  await t.rejects(confirmation.confirm(), {
    code: 'not_found',
    message: 'nothing waits to be confirmed: the last change was confirmed',
  });
  t.match(cluster.get(findKind('netpol')!, { name: 'db' }), [{ spec: { ingress: [{ ports: [{ port: 81 }] }] } }]);
});

t.test('what is confirmed, and was changed or deleted since, is not said to stay', async (t) => {
  const { confirmation, confirmed, cluster, time, takenBack } = await open(t);
  await confirmed([policy('lost', 80)]);
  time.pass(FOR_MS);
  await takenBack();
  await confirmed([policy('db', 81), policy('web', 82), policy('st', 83)]);
  await cluster.delete(findKind('netpol')!, { name: 'st' });
  await cluster.label(findKind('netpol')!, { name: 'web' }, { app: 'web' });
  t.match(await confirmation.confirm(), {
    resources: ['networkpolicy "db"'],
    otherwise: [
      { resource: 'networkpolicy "web"', why: 'it was changed since' },
      { resource: 'networkpolicy "st"', why: 'it was deleted since' },
    ],
  });
  await t.rejects(confirmation.confirm(), { message: /: the last change was confirmed$/ }, 'not the one before it');
});

t.test(
  'what is not confirmed is taken back: what it has replaced is there again, and what it has created is gone',
  async (t) => {
    const { confirmation, confirmed, cluster, everything, shown, takenBack, time, warnings } = await open(t);
    await cluster.apply([blue, policy('db', 80, { app: 'a' }), policy('unchanged', 1), endpoint('web', 'blue')]);
    const [before, keys] = [shown(), Object.keys(await everything())];
    await confirmed([
      manifest('Namespace', 'shop', {}),
      red,
      { ...blue, spec: { ...blue.spec, mtu: 1400 } },
      endpoint('cart', 'red', 'shop'),
      manifest('Endpoint', 'web', { network: 'blue', netns: '/proc/self/ns/uts', allowedAddresses: ['10.0.0.77'] }),
      policy('db', 81, { app: 'b' }),
      policy('unchanged', 1),
      policy('more', 82),
    ]);
    t.not(cluster.get(findKind('net')!, { name: 'red' }), undefined);
    t.same(time.waiting, [FOR_MS]);
    time.pass(FOR_MS);
    await takenBack();
    t.same(shown(), before);
    t.same(Object.keys(await everything()), keys);
    const { waiting, takenBack: last } = confirmation.report();
    t.equal(waiting, null);
    t.same([last!.left, last!.resources.length, last!.at], [[], 7, '2026-01-01T00:01:00.000Z']);
    t.ok(warnings.includes('a change was taken back, since nobody has confirmed it in time'));
    await t.rejects(confirmation.confirm(), { code: 'not_found', message: /the last change was taken back at / });
    await confirmed([policy('db', 81)]);
    t.not(confirmation.report().waiting, null, 'and another one may wait');
  },
);

t.test('what somebody has changed or deleted since, or uses by now, is left alone and named', async (t) => {
  const { confirmation, confirmed, cluster, takenBack, time } = await open(t);
  await cluster.apply([blue, ...['a', 'b', 'c', 'd'].map((name) => policy(name, 80))]);
  await confirmed([...['a', 'b', 'c', 'new', 'gone'].map((name) => policy(name, 81)), red]);
  await cluster.apply([policy('b', 82)]);
  await cluster.delete(findKind('netpol')!, { name: 'c' });
  await cluster.delete(findKind('netpol')!, { name: 'gone' });
  await cluster.label(findKind('netpol')!, { name: 'new' }, { mine: 'yes' });
  await cluster.apply([endpoint('cart', 'red')]);
  time.pass(FOR_MS);
  await takenBack();
  const left = new Map(confirmation.report().takenBack!.left.map(({ resource, why }) => [resource, why]));
  t.same([...left.keys()].sort(), ['network "red"', 'networkpolicy "b"', 'networkpolicy "c"', 'networkpolicy "new"']);
  t.equal(left.get('networkpolicy "b"'), 'it was changed since');
  t.equal(left.get('networkpolicy "c"'), 'it was deleted since');
  t.match(left.get('network "red"'), /has endpoints \(cart\)/);
  const ports = Object.fromEntries(
    cluster.get(findKind('netpol')!).map(({ metadata, spec }) => {
      const { ingress } = spec as {
        readonly ingress: readonly [{ readonly ports: readonly [{ readonly port: number }] }];
      };
      return [metadata.name, ingress[0].ports[0].port];
    }),
  );
  t.same(ports, { a: 80, b: 82, d: 80, new: 81 });
});

t.test('one change waits at a time; others are applied meanwhile', async (t) => {
  const { confirmation, confirmed, cluster, everything } = await open(t);
  await cluster.apply([blue]);
  t.match(await confirmed([blue]), [{ action: 'unchanged', unconfirmedUntil: undefined }]);
  t.equal(confirmation.report().waiting, null, 'nothing has changed');
  t.match(await cluster.apply([red], { confirmMs: FOR_MS, dryRun: true }), [{ action: 'created' }]);
  t.equal(confirmation.report().waiting, null, 'nothing was done');
  await confirmed([policy('a', 80)]);
  const told = { action: 'unchanged', unconfirmedUntil: '2026-01-01T00:01:00.000Z' };
  t.match(await cluster.apply([policy('a', 80), blue]), [{ action: 'unchanged', unconfirmedUntil: undefined }, told]);
  t.match(await confirmed([policy('a', 80)]), [told], 'whoever applies it again learns that it is taken back');
  const before = await everything();
  await t.rejects(confirmed([policy('b', 80)]), {
    code: 'conflict',
    message: /^another change, made on host "here", waits/,
  });
  t.same(await everything(), before);
  await cluster.apply([policy('b', 80)]);
  await cluster.apply([policy('a', 81)]);
  t.match(await cluster.apply([policy('a', 81)]), [{ action: 'unchanged', unconfirmedUntil: undefined }], 'it stays');
});

t.test('a test that would fail does not hold it up', async (t) => {
  const { confirmed, cluster, everything, takenBack, time } = await open(t);
  const there = manifest('Host', 'there', { underlay: '192.0.2.2' });
  const at = (name: string, n: number) =>
    manifest('Endpoint', name, {
      ...{ network: 'blue', host: 'there', addresses: [`10.0.0.${n}`], mac: `02:00:00:00:00:1${n}` },
    });
  await cluster.apply([blue, there, at('web', 2), at('db', 3), policy('db', 80)]);
  const before = await everything();
  await confirmed([policy('db', 81)]);
  const ends = { from: { endpoint: 'web' }, to: { endpoint: 'db' } };
  const test = manifest('PolicyTest', 'new', { ...ends, port: 81, expect: 'allow' });
  await cluster.apply([test]);
  await t.rejects(cluster.apply([policy('db', 80)]), { code: 'conflict' }, 'it would hold up everybody else');
  time.pass(FOR_MS);
  await takenBack();
  const { 'policytests/default/new': kept, ...others } = await everything();
  t.ok(kept);
  t.same(others, before);
});

t.test('what fails for want of room on the disk, or of the store, is tried until it is done', async (t) => {
  const time = new Time(RETRY_MS);
  const { confirmed, confirmation, cluster, everything, store, takenBack, warnings } = await open(t, undefined, time);
  await cluster.apply([blue, policy('a', 80), policy('b', 80)]);
  const before = await everything();
  await confirmed([policy('a', 81), policy('b', 81), policy('new', 81)]);
  const transact = store.transact.bind(store);
  let [failures, code] = [0, 'system' as 'system' | 'unreachable'];
  store.transact = (transaction) => {
    // What is long finds no room. What says that it is all over is short.
    const isLong = transaction.put?.some(({ key }) => key.startsWith('networkpolicies/'));
    if (!isLong) return transact(transaction);
    failures++;
    return Promise.reject(new WeftError(code, 'no space left on device'));
  };
  time.pass(FOR_MS);
  for (let n = 1; n <= 100; n++) {
    await until(() => time.waiting.includes(RETRY_MS), { what: 'it to be tried again' });
    if (n === 3) code = 'unreachable';
    t.ok(confirmation.report().waiting?.isTakenBack);
    if (n === 100) store.transact = transact;
    time.pass(RETRY_MS);
  }
  await takenBack();
  t.ok(failures >= 100, `${failures} failures`);
  t.same(confirmation.report().takenBack!.left, []);
  t.same(await everything(), before);
  const told = warnings.filter((message) => message.includes('trying again'));
  t.equal(told.length, 1, 'the same reason is told once');
});

t.test('whoever is told again of a change does not count from then', (t) => {
  const waits: number[] = [];
  const confirmation = new Confirmation({
    ...{ hostName: 'b', wallClock: () => START_MS },
    after: (delayMs: number) => {
      waits.push(delayMs);
      return () => {};
    },
  } as unknown as ConstructorParameters<typeof Confirmation>[0]);
  const key = 'unconfirmed/change';
  const change = { host: 'a', at: '2026-01-01T00:00:00.000Z', forMs: FOR_MS };
  const see = (revision: number, more: object = {}) =>
    confirmation.see([{ key, entry: { key, revision, value: { ...change, ...more } } }]);
  see(7);
  confirmation.listed(new Set([key]));
  see(7);
  t.same(waits, [FOR_MS + GRACE_MS]);
  see(9, { takingBack: 7 });
  confirmation.listed(new Set([key]));
  t.same(waits, [FOR_MS + GRACE_MS, GRACE_MS], 'whoever takes it back has the time for that');
  confirmation.listed(new Set());
  t.equal(confirmation.report().waiting, null);
  see(12);
  t.same(waits, [FOR_MS + GRACE_MS, GRACE_MS, FOR_MS + GRACE_MS], 'the next one has its own time');
  confirmation.close();
  t.end();
});

t.test('a host says when it takes a change back, if the host that made it has not done that in time', (t) => {
  const time = new Time();
  const confirmation = new Confirmation({
    ...{ hostName: 'b', ...time.options },
  } as unknown as ConstructorParameters<typeof Confirmation>[0]);
  const key = 'unconfirmed/change';
  const change = { host: 'a', at: new Date(START_MS).toISOString(), forMs: FOR_MS };
  time.nowMs += 10;
  confirmation.see([{ key, entry: { key, revision: 7, value: change } }]);
  const waiting = () => confirmation.report().waiting!;
  const until = new Date(START_MS + FOR_MS).toISOString();
  t.equal(takenBackText(waiting()), `is taken back at ${until}`);
  time.nowMs = START_MS + FOR_MS + 1;
  const byOthersAt = new Date(START_MS + 10 + FOR_MS + GRACE_MS).toISOString();
  t.match(waiting(), { until, byOthersAt });
  t.equal(
    takenBackText(waiting()),
    `was to be taken back at ${until}, which host "a" has not done: another host takes it back at ${byOthersAt}`,
  );
  confirmation.see([{ key, entry: { key, revision: 8, value: { ...change, takingBack: 7 } } }]);
  t.match(waiting(), { isTakenBack: true, byOthersAt: undefined });
  confirmation.close();
  t.end();
});

t.test('a daemon that was killed goes on with it when it is there again', async (t) => {
  const first = await open(t);
  await first.cluster.apply([blue, policy('db', 80), policy('web', 80)]);
  const before = await first.everything();
  await first.confirmed([policy('db', 81), policy('web', 81), policy('new', 81)]);
  first.time.nowMs += FOR_MS / 4;
  await first.close();
  t.same(first.time.waiting, [], 'one that has ended does nothing');

  const second = await open(t, first.directory, first.time);
  t.same(second.time.waiting, [(FOR_MS * 3) / 4], 'as long as was left');
  t.match(second.confirmation.report().waiting, { host: 'here', until: '2026-01-01T00:01:00.000Z' });
  second.time.nowMs += FOR_MS;
  await second.close();

  const third = await open(t, first.directory, first.time);
  await third.takenBack();
  t.same(await third.everything(), before);
});

t.test('one that was killed while it took a change back goes on where it was', async (t) => {
  const first = await open(t);
  await first.cluster.apply([blue, policy('db', 80), policy('web', 80)]);
  const before = await first.everything();
  await first.confirmed([policy('db', 81), policy('web', 81), policy('new', 81)]);
  const { value, revision } = (await first.store.get('unconfirmed/change'))!;
  // It has said so, and has had the time for one of them.
  const { store } = first;
  await store.transact({
    put: [
      { key: 'unconfirmed/change', value: { ...(value as object), takingBack: revision } },
      { key: 'networkpolicies/default/db', value: before['networkpolicies/default/db'] },
    ],
    delete: ['unconfirmed/of/networkpolicies/default/db'],
  });
  await first.cluster.serial.run(() => first.cluster.enforce());
  if (first.confirmation.report().waiting)
    await t.rejects(first.confirmation.confirm(), { message: /^(?:it is too late|nothing waits)/ });
  await first.close();
  const second = await open(t, first.directory, first.time);
  await until(() => second.confirmation.report().waiting === null, { what: 'it to be taken back' });
  t.same(await second.everything(), before);
});

t.test(
  'of hosts that share a store, any one confirms a change, and another one takes it back if its own does not',
  async (t) => {
    const shared = await openStore(t);
    const time = new Time();
    const [a, b] = [
      await openControlPlane(t, undefined, { ...time.options, shared, host: 'a' }),
      await openControlPlane(t, undefined, { ...time.options, shared, host: 'b' }),
    ];
    const seen = (waits: boolean) =>
      until(() => (b.cluster.confirmation.report().waiting !== null) === waits, { what: `b to know that it ${waits}` });
    await a.cluster.apply([policy('db', 80)]);
    const both = await Promise.allSettled(
      [a, b].map(({ cluster }, n) => cluster.apply([policy(`new-${n}`, 80)], { confirmMs: FOR_MS })),
    );
    const refused = both.flatMap((one) => (one.status === 'rejected' ? [one.reason as WeftError] : []));
    t.match(refused, [{ code: 'conflict', message: /^another change, made on host "[ab]", waits to be confirmed/ }]);
    t.equal(refused.length, 1, 'of two at once, one waits');
    await seen(true);
    await b.cluster.confirmation.confirm();
    await until(() => a.cluster.confirmation.report().waiting === null, { what: 'a to know' });

    await a.cluster.apply([policy('db', 81)], { confirmMs: FOR_MS });
    await seen(true);
    t.match(await b.cluster.confirmation.confirm(), { host: 'a', resources: ['networkpolicy "db"'] });
    await until(() => a.cluster.confirmation.report().waiting === null, { what: 'a to know' });

    await a.cluster.apply([policy('db', 82)], { confirmMs: FOR_MS });
    await seen(true);
    await a.close();
    time.pass(FOR_MS);
    t.match(b.cluster.confirmation.report().waiting, { host: 'a', isTakenBack: false }, 'that is up to a');
    time.pass(FOR_MS + GRACE_MS);
    await until(() => b.cluster.confirmation.report().takenBack !== null, { what: 'b to take it back' });
    t.match(b.cluster.get(findKind('netpol')!, { name: 'db' }), [{ spec: { ingress: [{ ports: [{ port: 81 }] }] } }]);
    await seen(false);
  },
);

t.test('an endpoint stays on its host if another one takes the change back', async (t) => {
  const shared = await openStore(t);
  const time = new Time();
  const start = (host: string) => openHost(t, new Switchable(shared), host, undefined, time.options);
  const [a, b] = [await start('a'), await start('b')];
  const labelled = (app: string): Resource => {
    const web = endpoint('web', 'blue');
    return { ...web, metadata: { ...web.metadata, labels: { app } } };
  };
  await a.cluster.apply([blue, labelled('before')]);
  await settled(a, b);
  const { addresses, mac } = b.endpoints.get('web');
  await a.cluster.apply([labelled('after')], { confirmMs: FOR_MS });
  await settled(a, b);
  t.match(b.endpoints.get('web'), { host: 'a', resource: { metadata: { labels: { app: 'after' } } } });
  const { directory } = a;
  await a.close();
  time.pass(FOR_MS + GRACE_MS);
  await until(() => b.cluster.confirmation.report().takenBack !== null, { what: 'b to take it back' });
  t.same(b.cluster.confirmation.report().takenBack?.left, []);
  const isAsBefore = { addresses, mac, resource: { metadata: { labels: { app: 'before' } } } };
  t.match(b.endpoints.get('web'), { host: 'a', ...isAsBefore });
  const again = await openHost(t, new Switchable(shared), 'a', directory, time.options);
  t.match(again.endpoints.get('web'), { host: undefined, ...isAsBefore }, 'it is there again when its host is');
});
