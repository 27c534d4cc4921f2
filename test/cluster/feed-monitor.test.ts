/** What a feed does about a store that answers, and that it does not follow, or follows wrongly. */
import t, { type Test } from 'tap';
import { FeedMonitor } from '../../src/cluster/feed/feed-monitor.ts';
import { WeftError } from '../../src/error.ts';
import type { Store } from '../../src/store/store.ts';
import { openStore } from './control-plane.ts';
import { BLUE, DB, endpointOf, twoHosts, WEB, type FeedHost } from './feed-host.ts';

function ticks(host: FeedHost, count: number): void {
  for (let tick = 0; tick < count; tick++) host.feed.tick();
}

t.test('a store that answers everything but listings is told, until it is followed again', async (t) => {
  const { a, b } = await twoHosts(t);
  const why = 'etcd at 10.0.0.1:2379: no answer within 5 s';
  a.link.beforeCall = async (call) => {
    if (call === 'list') throw new WeftError('unreachable', why);
  };
  a.link.compact();
  await a.until(() => a.log.some((line) => line.endsWith(why)), 'the failure');
  await b.set(BLUE, { vni: 2 });
  for (let tick = 0; tick < 28; tick++) {
    a.feed.tick();
    await a.settle();
  }
  t.equal(a.report.notFollowed, undefined, 'not at once');
  await a.until(() => a.report.notFollowed !== undefined, 'that it is told');
  t.same(a.report.notFollowed, { why, since: '1970-01-01T00:00:00.000Z' });
  const told = a.log.filter((line) => line.startsWith('the store answers, and is not followed'));
  t.same(told, [`the store answers, and is not followed: ${why}`], 'once');
  t.same(a.values()[BLUE], { vni: 1 });
  a.link.beforeCall = async () => {};
  await a.until(() => Object(a.inForce.get(BLUE)?.value).vni === 2, 'what came meanwhile');
  a.feed.tick();
  t.equal(a.report.notFollowed, undefined);
  t.ok(a.log.includes('the store is followed again'));
});

t.test('a store that never answers a listing is told, too, and one that is away is not', async (t) => {
  const { a } = await twoHosts(t);
  let answer = (): void => {};
  a.link.beforeList = () => new Promise<void>((resolve) => (answer = resolve));
  a.link.compact();
  ticks(a, 30);
  t.match(a.report.notFollowed, { why: 'it is being read' });
  a.link.away();
  a.feed.tick();
  t.equal(a.report.notFollowed, undefined);
  t.notOk(a.log.includes('the store is followed again'));
  a.link.beforeList = async () => {};
  answer();
  a.link.back();
  await a.set(WEB, { ...endpointOf('a', '10.0.0.1'), labels: {} });
});

t.test('what was read waits for a change of this host that takes long', async (t) => {
  const { a } = await twoHosts(t);
  let end = (): void => {};
  void a.serial.run(() => new Promise<void>((resolve) => (end = resolve)));
  const { lists } = a.link;
  a.link.compact();
  while (a.link.lists === lists) await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
  ticks(a, 30);
  t.match(a.report.notFollowed, { why: 'what was read waits until this host has finished a change' });
  end();
  await a.settle();
  a.feed.tick();
  t.equal(a.report.notFollowed, undefined);
});

t.test('a watch that reports nothing of what this host writes is replaced', async (t) => {
  const { a, b } = await twoHosts(t);
  a.link.isLost = () => true;
  const value = { ...endpointOf('a', '10.0.0.1'), labels: {} };
  // Nobody waits for its report.
  await a.feed.transact({ put: [{ key: WEB, value }] });
  await b.set(DB, undefined);
  ticks(a, 10);
  await a.settle();
  t.ok(a.inForce.has(DB));
  a.link.isLost = () => false;
  ticks(a, 1);
  await a.until(() => !a.inForce.has(DB), 'what was not reported');
  t.same(a.values(), b.values());
  const told = a.log.filter((line) => line.startsWith('the store does not report what this host wrote'));
  t.equal(told.length, 1);
  ticks(a, 30);
  t.equal(a.log.filter((line) => line.startsWith('the store does not report')).length, 1, 'it works again');
});

/** A store with what another one had at a revision, and with as many changes as that has. */
async function revertedTo(
  t: Test,
  shared: Store,
  entries: Awaited<ReturnType<Store['list']>>['entries'],
): Promise<Store> {
  const old = await openStore(t);
  await old.transact({ put: entries.map(({ key, value }) => ({ key, value })) });
  const { revision } = await shared.list('');
  while ((await old.list('')).revision < revision) await old.transact({ put: [{ key: 'networks/old', value: {} }] });
  return old;
}

t.test('a host that did not notice a restore compares all when a write is refused for what it knows', async (t) => {
  const { shared, a } = await twoHosts(t);
  const { entries } = await shared.list('');
  await a.set(BLUE, { vni: 2 });
  const old = await revertedTo(t, shared, entries);
  a.link.away();
  a.link.isBlind = true;
  a.link.back(old);
  await a.settle();
  t.same(a.report.signs, [], 'it notices nothing');
  await t.rejects(a.set(BLUE, { vni: 3 }), { code: 'conflict' });
  t.equal(a.report.audit.runs, 0);
  const { lists } = a.link;
  ticks(a, 2);
  t.equal(a.link.lists, lists, 'what changed it may still be reported');
  ticks(a, 1);
  await a.until(() => a.report.signs.length > 0, 'that it notices');
  t.same(a.report.held, [
    { name: 'network "blue"', change: 'changed' },
    { name: 'network "old"', change: 'returned' },
  ]);
  t.same(a.values()[BLUE], { vni: 2 });
  await a.set(BLUE, { vni: 3 });
  t.same((await old.get(BLUE))?.value, { vni: 3 });
});

t.test('a write that others were faster than is no reason to compare anything', async (t) => {
  const { shared, a } = await twoHosts(t);
  const { revision } = a.inForce.get(BLUE)!;
  let end = (): void => {};
  void a.serial.run(() => new Promise<void>((resolve) => (end = resolve)));
  await shared.transact({ put: [{ key: BLUE, value: { vni: 2 } }] });
  const write = a.feed.transact({ expect: [{ key: BLUE, revision }], put: [{ key: BLUE, value: {} }] });
  await t.rejects(write, { code: 'conflict' });
  const { lists } = a.link;
  ticks(a, 2);
  end();
  await a.settle();
  t.same(a.values()[BLUE], { vni: 2 });
  ticks(a, 5);
  t.equal(a.link.lists, lists);
});

t.test('a refusal of what is known names some of the records, however many there are', async (t) => {
  const told: object[] = [];
  const log = (details: object): void => void told.push(details);
  const monitor = new FeedMonitor({
    ...{ wallClock: () => 0, logger: { info: log, warn: log, error: log }, told: () => 0, made: () => 0 },
    isStored: () => true,
  });
  const keys = Array.from({ length: 1000 }, (_, at) => `endpoints/default/e${at}`);
  monitor.doubt(keys.map((key) => ({ key, revision: 1 })));
  t.same(
    [1, 2, 3].map(() => monitor.tick(undefined, true)),
    [undefined, undefined, 'audit'],
  );
  t.same(told, [{ records: 1000, named: keys.slice(0, 5) }]);
});
