/** What is in force on hosts that share a store, whatever happens to the store. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { checkStore } from '../../src/observe/store-check.ts';
import type { Store } from '../../src/store/store.ts';
import { Hooked } from '../support/switch.ts';
import { openStore } from './control-plane.ts';
import { BLUE, DB, DEFAULT, endpointOf, type FeedHost, hostsOf, twoHosts, WEB } from './feed-host.ts';

t.test('two hosts see what either writes, and a store belongs to one cluster', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  t.same(Object.keys(a.values()), [DB, WEB, DEFAULT, BLUE]);
  t.same(a.values(), b.values());
  t.match((await shared.get('format'))?.value, { id: 'cluster-a', version: 1 });
  t.match([a.report.cluster, b.report.cluster], ['cluster-a', 'cluster-a']);
  const begun = 'the store had nothing under its prefix: a cluster begins there';
  t.same([a.log.includes(begun), b.log.includes(begun)], [true, false], 'who begins it says so');
  await a.set(WEB, undefined);
  await b.until(() => !b.inForce.has(WEB), 'the deletion');
  t.same(b.values(), a.values());
});

t.test('while the store is away', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  a.link.away();
  const app = endpointOf('a', '10.0.0.3');
  await t.rejects(a.set(BLUE, { vni: 2 }), {
    code: 'unreachable',
    message:
      'the store cannot be reached (connection refused, since 2026-01-01T00:00:01.000Z): network "blue" cannot be changed meanwhile',
  });
  await t.rejects(a.set('networks/red', { vni: 2 }), { code: 'unreachable' });
  await t.rejects(a.set(DB, undefined), { code: 'unreachable', message: /endpoint "db"/ }, 'another host’s');
  await t.rejects(a.set(DB, endpointOf('a', '10.0.0.2')), { code: 'unreachable' }, 'nor taken over');
  await t.rejects(a.set('blocks/blue/1', { host: 'a' }), { code: 'unreachable' }, 'a new claim');
  await a.set('endpoints/default/app', app);
  await a.set(WEB, undefined);
  await t.rejects(a.write({ expect: [{ key: WEB, revision: 9 }], put: [] }), { code: 'conflict' });
  t.same(a.inForce.get('endpoints/default/app')?.value, app, 'it is in force here');
  t.notOk(a.inForce.has(WEB));
  t.same(a.report.pending, ['endpoint "app"', 'endpoint "web" (deleted)']);
  t.notOk(b.inForce.has('endpoints/default/app'), 'and nobody else knows of it');
  await b.set('networks/red', { vni: 7 });
  await b.set(DB, { ...endpointOf('b', '10.0.0.2'), labels: {} });

  a.link.back();
  await a.until(() => a.report.pending.length === 0, 'the writes');
  await b.until(() => b.inForce.has('endpoints/default/app') && !b.inForce.has(WEB), 'the other host');
  t.same(a.values(), b.values());
  t.same(a.report.lost, []);
  t.notOk(await shared.get(WEB));
  await a.set('endpoints/default/app', { ...app, labels: {} });
  await b.until(() => 'labels' in (b.inForce.get('endpoints/default/app')!.value as object), 'a later change');
});

t.test('a host that may be another one’s copy writes nothing', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  const app = 'endpoints/default/app';
  a.link.away();
  await a.set(app, endpointOf('a', '10.0.0.3'));
  a.barred = 'host "a" runs already';
  a.link.back();
  await a.set(WEB, { ...endpointOf('a', '10.0.0.1'), labels: {} });
  await t.rejects(a.set('networks/red', { vni: 2 }), {
    message: 'host "a" runs already: network "red" cannot be changed meanwhile',
  });
  await b.set(DB, { ...endpointOf('b', '10.0.0.2'), labels: {} });
  await a.until(() => 'labels' in (a.inForce.get(DB)!.value as object), 'what others write');
  for (let tick = 0; tick < 10; tick++) a.feed.tick();
  await a.settle();
  t.same(a.report.pending, ['endpoint "app"', 'endpoint "web"']);
  t.notOk(await shared.get(app));
  a.barred = undefined;
  await a.until(() => a.report.pending.length === 0, 'the writes');
  t.ok(await shared.get(app));
  t.same(a.values(), b.values());
});

t.test('a host writes nothing that it wrote alone before it is known whether it may', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  const app = 'endpoints/default/app';
  a.link.away();
  await a.set(app, endpointOf('a', '10.0.0.3'));
  a.isDecided = false;
  a.link.back();
  await b.set(DB, { ...endpointOf('b', '10.0.0.2'), labels: {} });
  await a.until(() => 'labels' in (a.inForce.get(DB)!.value as object), 'what others write');
  for (let tick = 0; tick < 10; tick++) a.feed.tick();
  await a.settle();
  t.same(a.report.pending, ['endpoint "app"']);
  t.notOk(await shared.get(app));
  a.isDecided = true;
  a.feed.tick();
  await a.settle();
  t.same(a.report.pending, [], 'with the next tick');
  t.ok(await shared.get(app));
  t.same(a.values(), b.values());
});

t.test('a restart while the store is away', async (t) => {
  const { start, a, b } = await twoHosts(t);
  a.link.away();
  await a.set('endpoints/default/app', endpointOf('a', '10.0.0.3'));
  await a.set(WEB, undefined);
  const before = a.values();
  const again = await start('a', { known: a.directory, isAway: true });
  t.ok(again.isStarted, 'it starts from its copy');
  t.same(again.values(), before);
  t.same(again.report.pending, ['endpoint "app"', 'endpoint "web" (deleted)']);
  t.ok(again.log.some((line) => line.startsWith('the copy of the cluster’s state is put into force')));
  await again.set('endpoints/default/app', undefined);
  await again.set('endpoints/default/new', endpointOf('a', '10.0.0.4'));
  await b.set(DB, undefined);
  again.link.back();
  await again.until(() => again.report.pending.length === 0 && !again.inForce.has(DB), 'the store');
  await b.until(() => b.inForce.has('endpoints/default/new') && !b.inForce.has(WEB), 'the other host');
  t.same(again.values(), b.values());
  t.same(Object.keys(b.values()), ['endpoints/default/new', DEFAULT, BLUE]);
});

t.test('what a host wrote while the store was away is not lost with its copy', async (t) => {
  const { shared, start, a, b } = await twoHosts(t);
  const app = 'endpoints/default/app';
  a.link.away();
  await a.set(app, endpointOf('a', '10.0.0.3'));
  await a.set(WEB, { ...endpointOf('a', '10.0.0.1'), labels: { app: 'web' } });
  const before = a.values();
  await a.stop();
  rmSync(join(a.directory, 'copy'));
  const away = await start('a', { known: a.directory, isAway: true });
  t.notOk(away.isStarted, 'nothing is in force without what the cluster says of it');
  await away.stop();
  const again = await start('a', { known: a.directory });
  t.same(again.values(), before, 'it is in force before the store has it');
  await again.until(() => again.report.pending.length === 0, 'the writes');
  await b.until(() => b.inForce.has(app), 'the other host');
  t.same(b.values(), before);
  t.same((await shared.get(app))?.value, before[app]);
  t.same(again.report.lost, []);
});

t.test('a record that nobody can read does not keep what was written while the store was away', async (t) => {
  const { shared, start, a, b } = await twoHosts(t);
  const app = 'endpoints/default/app';
  const unreadable = ['garbage', {}, { spec: 'garbage' }, { spec: { network: 7 } }, null];
  const records = [...unreadable.map((resource) => ({ host: 'b', resource })), 'garbage', null, 7];
  const odd = [
    { ...endpointOf('b', '10.0.0.9'), addresses: 5 },
    { ...endpointOf('b', '10.0.0.9'), mac: {} },
  ];
  await shared.transact({
    put: [...records, ...odd].map((value, n) => ({ key: `endpoints/default/odd-${n}`, value })),
  });
  await a.settle();
  a.link.away();
  await a.set(app, endpointOf('a', '10.0.0.3'));
  const again = await start('a', { known: a.directory });
  t.ok(again.isStarted);
  await again.until(() => again.report.pending.length === 0, 'the write');
  await b.until(() => b.inForce.has(app), 'the other host');
});

t.test('a host that gets another name while the store lacks what it wrote does not start', async (t) => {
  const { shared, start, a } = await twoHosts(t);
  const app = 'endpoints/default/app';
  a.link.away();
  await a.set(app, endpointOf('a', '10.0.0.3'));
  await a.stop();
  await t.rejects(start('c', { known: a.directory, idOf: 'a' }), {
    code: 'conflict',
    message:
      'this host was host "a" when it wrote endpoint "app", which the store does not have yet: start it with --host a instead of c until that is stored (`weft status`)',
  });
  t.notOk(await shared.get(app));
  const again = await start('a', { known: a.directory });
  await again.until(() => again.report.pending.length === 0, 'the writes');
  t.match(await shared.get(app), { value: { host: 'a' } });
  await again.stop();
  t.ok((await start('c', { known: a.directory, idOf: 'a' })).isStarted);
});

t.test('nor does it start from a copy of what it had in force under another name', async (t) => {
  const { start, a, b } = await twoHosts(t);
  for (const host of [a, b]) {
    const id = Buffer.from(host.name).toString('hex').padEnd(32, '0');
    await host.set(`hosts/${host.name}`, { host: host.name, id, mac: '000001', since: '2026-01-01T00:00:00Z' });
  }
  await a.until(() => a.inForce.has('hosts/b'), 'the other host');
  await a.stop();
  await t.rejects(start('c', { known: a.directory, idOf: 'a', isAway: true }), {
    code: 'conflict',
    message:
      /^this host was host "a" when it last reached the store \(the store cannot be reached .*\): start it with --host a, or with --host c when the store can be used$/,
  });
  const again = await start('a', { known: a.directory, isAway: true });
  t.ok(again.isStarted);
  await again.stop();
  t.ok((await start('c', { known: a.directory, idOf: 'a' })).isStarted, 'the store says who it is');
});

t.test('the store is away at the first start ever', async (t) => {
  const shared = await openStore(t);
  const start = hostsOf(t, shared);
  const a = await start('a', { isAway: true });
  t.notOk(a.isStarted);
  t.match(a.feed.waitsFor(), { code: 'unreachable', message: /^the store cannot be reached \(connection refused/ });
  await t.rejects(a.set(WEB, endpointOf('a', '10.0.0.1')), { code: 'unreachable' });
  a.link.back();
  await a.until(() => a.isStarted, 'the start');
  t.equal(a.feed.waitsFor(), undefined);
  await a.set(WEB, endpointOf('a', '10.0.0.1'));
  t.same(Object.keys(a.values()), [WEB, DEFAULT]);
});

t.test('a store that is slow when a host starts', async (t) => {
  const { start, a, shared } = await twoHosts(t);
  const before = a.values();
  await a.stop();
  await shared.transact({ delete: [DB] });
  let answer = (): void => {};
  const asked = new Promise<void>((resolve) => (answer = resolve));
  const starting = start('a', { known: a.directory, slow: asked });
  const again = await starting;
  t.same(again.values(), before, 'the copy');
  answer();
  await again.until(() => !again.inForce.has(DB), 'what it says');
  t.same(Object.keys(again.values()), [WEB, DEFAULT, BLUE]);
});

t.test('a store that is silent when another daemon goes on', async (t) => {
  const { start, a } = await twoHosts(t);
  t.equal(a.firstWaitMs, 1000);
  const before = a.values();
  const goesOn = async (known: string) => {
    let answer = (): void => {};
    const slow = new Promise<void>((resolve) => (answer = resolve));
    const next = await start('a', { known, isContinued: true, slow });
    return { next, answer };
  };
  const { next, answer } = await goesOn(a.directory);
  t.same(next.values(), before, 'its copy is what has been in force until just now');
  t.equal(next.firstWaitMs, 100);
  answer();
  await next.until(() => next.report.revision > 0 && next.isStarted, 'what the store says');
  t.same(next.values(), before);
  await next.stop();
  rmSync(join(a.directory, 'copy'));
  const { next: last, answer: answerAtLast } = await goesOn(a.directory);
  t.equal(last.firstWaitMs, 1000, 'without one, nothing but the store knows what was');
  answerAtLast();
  await last.until(() => last.isStarted, 'what the store says');
  t.same(last.values(), before);
});

t.test('an answer that is lost', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  const app = endpointOf('a', '10.0.0.3');
  a.link.losesAnswer = true;
  t.ok((await a.set('endpoints/default/app', app)) < 0, 'it is kept here');
  t.ok(a.inForce.has('endpoints/default/app'));
  const { revision } = (await shared.get('endpoints/default/app'))!;
  a.link.back();
  await a.until(() => a.report.pending.length === 0, 'the store');
  t.equal((await shared.get('endpoints/default/app'))?.revision, revision, 'it is not written twice');
  await b.until(() => b.inForce.has('endpoints/default/app'), 'the other host');

  a.link.losesAnswer = true;
  await t.rejects(a.set('networks/red', { vni: 3 }), {
    code: 'unreachable',
    message: /network "red" cannot be changed meanwhile; whether it was stored shows when the store is back$/,
  });
  a.link.back();
  await a.until(() => a.inForce.has('networks/red'), 'what was stored');
});

t.test('what the store has made for a host, and never reported, does not undo what the host wrote later', async (t) => {
  const { a } = await twoHosts(t);
  const version = (n: number) => endpointOf('a', '10.0.0.1', { n });
  a.link.isLost = () => true;
  await a.serial.run(() => a.feed.transact({ put: [{ key: WEB, value: version(1) }] }));
  a.link.away();
  a.link.isLost = () => false;
  await a.set(WEB, version(2));
  const seen: unknown[] = [];
  const set = a.inForce.set.bind(a.inForce);
  a.inForce.set = (key, entry) => {
    if (key === WEB) seen.push(entry.value);
    return set(key, entry);
  };
  const restored = await openStore(t);
  a.link.back(restored, '-2');
  await a.until(() => a.report.pending.length === 0, 'the store');
  t.same((await restored.get(WEB))?.value, version(2));
  t.same(a.inForce.get(WEB)?.value, version(2));
  t.notHas(seen, [version(1)], 'nor is the former one in force for a moment');
});

t.test('containers that come and go while the store is away leave nothing', async (t) => {
  const { a, b } = await twoHosts(t);
  a.link.away();
  for (let n = 0; n < 5; n++) {
    await a.set(`endpoints/default/job-${n}`, endpointOf('a', '10.0.0.3'));
    t.same(a.report.pending, [`endpoint "job-${n}"`]);
    await a.set(`endpoints/default/job-${n}`, undefined);
    t.same(a.report.pending, []);
  }
  a.link.back();
  // But what may have been stored has to be deleted.
  a.link.losesAnswer = true;
  await a.set('endpoints/default/job', endpointOf('a', '10.0.0.3'));
  await a.set('endpoints/default/job', undefined);
  t.same(a.report.pending, ['endpoint "job" (deleted)']);
  a.link.back();
  await a.until(() => a.report.pending.length === 0, 'the store');
  await b.set('networks/last', {});
  await a.until(() => a.inForce.has('networks/last'), 'the last change');
  t.same(a.values(), b.values());
});

t.test('a write is no longer kept for the store only when the copy has it', async (t) => {
  const { start, a } = await twoHosts(t);
  let settled = 0;
  const wrap = (store: Store): Store => {
    const hooked = new Hooked(store);
    hooked.beforeTransact = async ({ delete: deleted = [] }) => {
      if (!deleted.includes('pending/endpoints/default/app')) return;
      settled++;
      // As it is at this moment, when the daemon might be killed.
      t.match(readFileSync(join(a.directory, 'copy'), 'utf8'), /"endpoints\/default\/app",\d+,/);
    };
    return hooked;
  };
  const again = await start('a', { known: a.directory, wrap, isAway: true });
  await again.set('endpoints/default/app', endpointOf('a', '10.0.0.3'));
  again.link.back();
  await again.until(() => again.report.pending.length === 0, 'the store');
  t.equal(settled, 1);
});

t.test('a daemon that is killed at whatever write', async (t) => {
  const { shared, start, a, b } = await twoHosts(t);
  await a.stop();
  const fine = endpointOf('a', '10.0.0.6');
  for (let writes = 0, isOver = false; !isOver; writes++) {
    const directory = mkdtempSync(join(tmpdir(), `weft-feed-${process.pid}-`));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    cpSync(a.directory, directory, { recursive: true });
    const name = `endpoints/default/n${writes}`;
    let own: Hooked | undefined;
    const dying = await start('a', { known: directory, wrap: (store) => (own = new Hooked(store)) });
    own!.writesLeft = writes;
    // What it was told to be done: away, and then with the store.
    const done: [string, object | undefined][] = [];
    const set = async (key: string, value: object | undefined): Promise<void> => {
      await dying.set(key, value);
      done.push([key, value]);
    };
    try {
      dying.link.away();
      await set(name, fine);
      await set(WEB, { ...endpointOf('a', '10.0.0.1'), labels: { writes } });
      await set(name, { ...fine, labels: {} });
      dying.link.back();
      await dying.settle();
      await set(name, undefined);
      isOver = own!.writesLeft > 0 && dying.report.pending.length === 0;
    } catch {
      // It is dead by now.
    }
    dying.link.away();
    const next = await start('a', { known: directory, isAway: true });
    const expected = new Map(done);
    for (const [key, value] of expected) t.same(next.inForce.get(key)?.value, value, `${writes} writes: ${key}`);
    next.link.back();
    await next.until(() => next.report.pending.length === 0, 'its own records');
    for (const [key, value] of expected)
      t.same((await shared.get(key))?.value, value, `${writes} writes: ${key} is stored`);
    if (next.inForce.has(name)) await next.set(name, undefined);
    await next.stop();
    cpSync(directory, a.directory, { recursive: true });
  }
  t.same(b.report.lost, []);
});

t.test('what two hosts made of one name, address or MAC while one of them was cut off', async (t) => {
  const { a, b } = await twoHosts(t);
  a.link.away();
  await a.set('endpoints/default/name', endpointOf('a', '10.0.0.3'));
  await a.set('endpoints/default/address', endpointOf('a', '10.0.0.4'));
  await a.set('endpoints/default/mac', { ...endpointOf('a', '10.0.0.5'), mac: '02:00:00:00:00:99' });
  await a.set('endpoints/default/fine', endpointOf('a', '10.0.0.6'));
  await a.set(WEB, { ...endpointOf('a', '10.0.0.1'), labels: { a: '1' } });
  await b.set('endpoints/default/name', endpointOf('b', '10.0.0.30'));
  await b.set('endpoints/default/other', { ...endpointOf('b', '10.0.0.4'), mac: '02:00:00:00:00:77' });
  await b.set('endpoints/default/another', { ...endpointOf('b', '10.0.0.50'), mac: '02:00:00:00:00:99' });
  await b.set(WEB, { ...endpointOf('a', '10.0.0.1'), labels: { b: '2' } });
  /** Never do two endpoints on one host have one address or MAC. */
  const owners = (values: Record<string, unknown>): unknown[] =>
    Object.values(values).flatMap((value) => {
      const { addresses = [], mac = '' } = value as { addresses?: string[]; mac?: string };
      return [...addresses, ...(mac ? [mac] : [])];
    });
  a.link.back();
  await a.until(() => {
    const all = owners(a.values());
    t.equal(new Set(all).size, all.length, 'no two owners');
    return a.report.pending.length === 0;
  }, 'the store');
  await b.until(() => b.inForce.has('endpoints/default/fine'), 'the other host');
  t.same(a.values(), b.values());
  t.match(a.inForce.get('endpoints/default/name')?.value, { host: 'b' });
  t.match(a.inForce.get(WEB)?.value, { labels: { a: '1' } }, 'its own record stays as its host has it');
  t.same(a.report.lost.toSorted(), [
    'endpoint "address" is given up: ip 10.0.0.4 in network "blue" was given to endpoint "other" of host "b" while the store was away',
    'endpoint "mac" is given up: mac 02:00:00:00:00:99 in network "blue" was given to endpoint "another" of host "b" while the store was away',
    'endpoint "name" was taken over by host "b" while the store was away: what this host made of it is given up',
  ]);
  await b.set('endpoints/default/name', { ...endpointOf('b', '10.0.0.30'), labels: { later: '1' } });
  await a.until(() => 'labels' in (a.values()['endpoints/default/name'] as object), 'what its host made of it later');
  t.equal(a.report.lost.length, 3, 'is no reason to forget what was given up here');
  const told = a.report.lost;
  t.same(
    await a.feed.accept(),
    { accepted: [], lost: told },
    'but somebody who accepts it is, who is told it once more',
  );
  t.same(a.report.lost, []);
  t.same(await a.feed.accept(), { accepted: [] });
});

t.test('the watch of the store loses a change: the audit counts and mends it', async (t) => {
  const { a, b } = await twoHosts(t);
  const audited = async (): Promise<void> => {
    const { runs } = a.report.audit;
    a.feed.audit();
    await a.until(() => a.report.audit.runs === runs + 1, 'the audit');
    for (let tick = 0; tick < 6; tick++) a.feed.tick();
    await a.settle();
  };
  await audited();
  t.same(a.report.audit, { runs: 1, mismatches: 0 });
  a.link.isLost = ({ key }) => key === 'networks/red' || key === DB;
  await b.set('networks/red', { vni: 3 });
  await b.set(DB, undefined);
  await b.set('networks/green', { vni: 4 });
  await a.until(() => a.inForce.has('networks/green'), 'green');
  t.ok(a.inForce.has(DB) && !a.inForce.has('networks/red'));
  await audited();
  await a.until(() => a.inForce.has('networks/red'), 'red');
  t.same(a.report.audit, { runs: 2, mismatches: 2 });
  t.same(a.values(), b.values());
  a.link.isLost = () => false;
  await audited();
  t.same(a.report.audit, { runs: 3, mismatches: 2 });
});

t.test('a change under way is no mismatch', async (t) => {
  const { a, b, shared } = await twoHosts(t);
  // The audit reads what the watch has not reported yet.
  a.link.away();
  await b.set('networks/red', { vni: 3 });
  const listing = await shared.list('');
  a.link.back();
  a.link.listing = listing;
  a.feed.audit();
  await a.until(() => a.report.audit.runs === 1 && a.inForce.has('networks/red'), 'both');
  await b.set('networks/green', { vni: 4 });
  await a.until(() => a.inForce.has('networks/green'), 'a later change');
  t.same(a.report.audit, { runs: 1, mismatches: 0 });
});

t.test('the place of the watch is lost', async (t) => {
  const { a, b } = await twoHosts(t);
  a.link.away();
  await b.set('networks/red', { vni: 3 });
  await b.set(DB, undefined);
  a.link.back();
  a.link.compact();
  await a.until(() => a.inForce.has('networks/red') && !a.inForce.has(DB), 'the listing');
  t.same(a.values(), b.values());
  t.same(a.report.signs, []);
});

t.test('what is known at the same revision is not read once more', async (t) => {
  const { shared, start, a, b } = await twoHosts(t);
  const read = (host: FeedHost): string[] => host.link.listed!.entries.map(({ key }) => key);
  const lists = a.link.lists;
  a.link.away();
  await b.set(BLUE, { vni: 2 });
  await b.set(DB, undefined);
  await b.set('networks/red', { vni: 3 });
  a.link.back(shared);
  a.link.compact();
  await a.until(() => a.inForce.has('networks/red'), 'what is new');
  t.same(a.values(), b.values(), 'also what was deleted');
  t.same([a.link.lists, read(a)], [lists + 1, ['format', BLUE, 'networks/red']]);
  t.same([...a.link.listed!.known].sort(), [WEB, DEFAULT]);

  a.feed.audit();
  await a.until(() => a.report.audit.runs === 1, 'an audit');
  t.same(read(a), ['format']);
  t.equal(a.report.audit.mismatches, 0);
  const again = await start('a', { known: a.directory });
  t.same(read(again), ['format'], 'nor what the copy has');
  t.same(again.values(), b.values());

  // What this host made is compared with the values of all others.
  again.link.away();
  await again.set('endpoints/default/app', endpointOf('a', '10.0.0.3'));
  again.link.back();
  await again.until(() => again.report.pending.length === 0, 'what it wrote');
  t.same(again.link.listed!.known, []);
});

t.test('what was listed is judged before all of it is listed again', async (t) => {
  const { a, b } = await twoHosts(t);
  const turns = async (): Promise<void> => {
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  };
  a.link.away();
  await b.set('networks/red', { vni: 3 });
  a.link.back();
  let release = (): void => {};
  const busy = a.serial.run(() => new Promise<void>((resolve) => (release = resolve)));
  const { lists } = a.link;
  a.link.compact();
  await turns();
  t.equal(a.link.lists, lists + 1);
  for (let tick = 0; tick < 10; tick++) a.feed.tick();
  a.link.away();
  a.link.back();
  await turns();
  t.equal(a.link.lists, lists + 1, 'while it waits');
  release();
  await busy;
  await a.until(() => a.inForce.has('networks/red'), 'red');
  t.equal(a.link.lists, lists + 1);
});

t.test('that the copy was damaged at the start is told, and what was done', async (t) => {
  const { start, b } = await twoHosts(t);
  await b.stop();
  const file = join(b.directory, 'copy');
  const bytes = readFileSync(file);
  const at = bytes.lastIndexOf('\n', bytes.length - 2) + 1;
  bytes[at + 12]! ^= 1;
  writeFileSync(file, bytes);
  let host = await start('b', { known: b.directory, isAway: true });
  host.passTime();
  const what = `${file} is damaged at byte ${at}, when weft started`;
  t.match(host.report.copyDamage, new RegExp(`^${what}: (what is in front of that counts|what this host knew)`));
  host.link.back();
  await host.until(() => host.feed.report().copyDamage!.endsWith('has come from the store'), 'what was missing');
  t.match(checkStore(host.report, undefined), [
    { check: 'store' },
    { check: 'copy', result: 'warning', detail: `${what}: what was missing has come from the store` },
  ]);
  await host.stop();
  host = await start('b', { known: b.directory });
  t.equal(host.report.copyDamage, undefined, 'it is whole again');
});
