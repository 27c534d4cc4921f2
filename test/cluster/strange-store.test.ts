/** A shared store that is not what it was: restored, emptied, exchanged, or of a newer version. */
import t, { type Test } from 'tap';
import { networkKind } from '../../src/model/kinds/network.ts';
import type { Store } from '../../src/store/store.ts';
import { openStore } from './control-plane.ts';
import { BLUE, contents, DB, DEFAULT, endpointOf, FeedHost, twoHosts, WEB } from './feed-host.ts';

const RED = 'networks/red';

/** A store with what another one had at one time. Its revisions go on from there. */
async function restored(t: Test, from: Store): Promise<() => Promise<Store>> {
  const { entries, revision } = await from.list('');
  return async () => {
    const store = await openStore(t);
    for (let at = 1; at <= revision; at++) {
      const written = entries.filter((entry) => entry.revision === at);
      await store.transact({ put: written.map(({ key, value }) => ({ key, value })) });
    }
    return store;
  };
}

for (const history of ['', ' of another cluster id']) {
  t.test(`an empty store${history}`, async (t) => {
    const { a, b } = await twoHosts(t);
    const before = a.values();
    const empty = await openStore(t);
    for (const host of [a, b]) host.link.away();
    await a.set('endpoints/default/app', endpointOf('a', '10.0.0.3'));
    a.link.back(empty, history);
    await a.until(() => a.report.pending.length === 0, 'its own records');
    b.link.back(empty, history);
    await b.until(() => b.inForce.has('endpoints/default/app'), 'what is new');
    await a.until(() => !a.report.held.some(({ name }) => name === 'endpoint "db"'), 'the other host’s records');

    const app = { 'endpoints/default/app': endpointOf('a', '10.0.0.3') };
    t.same(a.values(), { ...before, ...app }, 'what is in force stays so');
    t.same(b.values(), a.values());
    for (const host of [a, b]) {
      t.same(host.report.held, [
        { name: 'namespace "default"', change: 'deleted' },
        { name: 'network "blue"', change: 'deleted' },
      ]);
      t.equal(host.report.cluster, 'cluster-a');
      t.equal(host.report.refused, undefined);
      t.match(host.feed.failure(networkKind, 'blue'), { message: /^network "blue" stays as it was, .* has lost it/ });
    }
    t.match(a.report.signs, ['its record `format` is missing']);
    t.same(Object.keys(await contents(empty)), ['endpoints/default/app', DB, WEB, 'format']);

    // New changes by anybody count, also of what is held.
    await b.set(BLUE, { vni: 1, labels: {} });
    await a.set(RED, { vni: 2 });
    for (const host of [a, b]) await host.until(() => 'labels' in Object(host.inForce.get(BLUE)?.value), 'blue');
    t.same(a.report.held, [{ name: 'namespace "default"', change: 'deleted' }]);

    t.same(await a.accept(), { accepted: [{ name: 'namespace "default"', change: 'deleted' }] });
    t.notOk(a.inForce.has(DEFAULT));
    t.ok(b.inForce.has(DEFAULT));
    t.same([a.report.signs, a.report.held], [[], []]);
    t.same(await a.accept(), { accepted: [] }, 'again: nothing');
    await b.accept();
    t.same(a.values(), b.values());
    t.same(Object.keys(a.values()), ['endpoints/default/app', DB, WEB, BLUE, RED]);
  });

  t.test(`an old snapshot${history}`, async (t) => {
    const { shared, a, b, start } = await twoHosts(t);
    const restore = await restored(t, shared);
    await a.set(RED, { vni: 2 });
    await a.set(BLUE, { vni: 1, labels: {} });
    await a.set('networks/old', { vni: 9 });
    await a.set('networks/old', undefined);
    await b.set(DB, undefined);
    await b.set('endpoints/default/new', endpointOf('b', '10.0.0.9'));
    await a.set(WEB, { ...endpointOf('a', '10.0.0.1'), labels: {} });
    for (const host of [a, b]) await host.until(() => !host.inForce.has(DB) && host.inForce.has(RED), 'all');
    await b.until(() => 'labels' in Object(b.inForce.get(WEB)?.value), 'web');
    const before = a.values();
    const c = await start('c');
    t.same(c.values(), before);

    const old = await restore();
    for (const host of [a, b, c]) host.link.away();
    for (const host of [b, a]) host.link.back(old, history);
    for (const host of [a, b]) {
      await host.until(() => host.report.signs.length > 0 && host.report.held.length === 2, 'what is held');
      t.same(host.values(), before, 'what is in force stays so');
      t.same(host.report.held, [
        { name: 'network "blue"', change: 'changed' },
        { name: 'network "red"', change: 'deleted' },
      ]);
    }
    t.match((await old.get(WEB))?.value, { labels: {} }, 'a’s own record is written again');
    t.notOk(await old.get(DB), 'and b’s own deletion made again');
    await a.set('networks/green', { vni: 4 });
    // More writes than there were before: a host that comes late sees no revision that went back.
    for (let n = 0; n < 30; n++) await a.set('networks/green', { vni: 4, n });
    c.link.back(old, history);
    await c.until(() => c.report.held.length === 2, 'what is held at c');
    await c.until(() => c.inForce.has('networks/green'), 'what is new');
    t.same(c.values(), a.values());
    t.same(c.report.held, a.report.held);

    // It is still so after a restart.
    const again = await start('c', { known: c.directory, history });
    await again.stop();
    const away = await start('c', { known: c.directory, isAway: true, history });
    t.same(away.values(), a.values());
    t.same(away.report.held.length, 0, 'what the store has is not known while it is away');
    away.link.back(old, history);
    await away.until(() => away.report.held.length === 2, 'what is held');
    t.same(away.values(), a.values());

    for (const host of [a, b, away]) {
      await host.until(() => host.inForce.has('networks/green'), 'green');
      await host.accept();
    }
    t.same(a.values(), b.values());
    t.same(a.values(), away.values());
    t.notOk(a.inForce.has(RED));
    t.same(a.inForce.get(BLUE)?.value, { vni: 1 });
    t.match(a.inForce.get(WEB)?.value, { labels: {} });
  });
}

t.test('a record that only the restore has brought back takes nothing from a running endpoint', async (t) => {
  const { shared, a, b, start } = await twoHosts(t);
  const restore = await restored(t, shared);
  const { addresses } = Object(b.inForce.get(DB)?.value) as { readonly addresses: readonly string[] };
  await b.set(DB, undefined);
  await a.until(() => !a.inForce.has(DB), 'the deletion');
  const app = endpointOf('a', addresses[0]!);
  await a.set('endpoints/default/app', app);
  a.link.away();
  await a.set('endpoints/default/app', { ...app, labels: { app: 'after' } });
  const old = await restore();
  const again = await start('a', { known: a.directory, isAway: true });
  again.link.back(old);
  await again.until(() => again.report.pending.length === 0, 'that the store has it');
  t.match(again.inForce.get('endpoints/default/app')?.value, { labels: { app: 'after' } });
  t.same(again.report.lost, []);
  t.notOk(again.inForce.has(DB));
});

t.test(
  'what a restore has lost of a host is given up if its address is another’s when that host comes back',
  async (t) => {
    const { shared, a, b, start } = await twoHosts(t);
    const APP = 'endpoints/default/app';
    const restore = await restored(t, shared);
    await b.set(APP, endpointOf('b', '10.0.0.9'));
    await a.until(() => a.inForce.has(APP), 'the endpoint');
    await b.stop();
    const old = await restore();
    a.link.away();
    a.link.back(old);
    await a.until(() => a.report.held.length > 0, 'what is held');
    await a.accept();
    await a.set('endpoints/default/next', endpointOf('a', '10.0.0.9'));
    const back = await start('b', { known: b.directory, isAway: true });
    t.ok(back.inForce.has(APP));
    back.link.back(old);
    await back.until(() => !back.inForce.has(APP), 'that it is given up');
    t.match(back.report.lost, [
      /^endpoint "app" is given up: .* was given to endpoint "next" of host "a" since the store/,
    ]);
    t.notOk(await old.get(APP));
    t.same(back.values(), a.values());
  },
);

t.test(
  'of what two hosts gave to others while one was cut off, one is given up also if the store is restored then',
  async (t) => {
    const { shared, a, b } = await twoHosts(t);
    a.link.away();
    await b.set('endpoints/default/other', endpointOf('b', '10.0.0.9'));
    await a.set('endpoints/default/app', endpointOf('a', '10.0.0.9'));
    const restore = await restored(t, shared);
    await b.set('networks/late', { vni: 9 });
    const old = await restore();
    b.link.away();
    for (const host of [b, a]) host.link.back(old);
    await a.until(() => a.report.lost.length > 0, 'that it is given up');
    t.match(a.report.lost, [
      /^endpoint "app" is given up: .* was given to endpoint "other" of host "b" while the store was/,
    ]);
    t.notOk(await old.get('endpoints/default/app'));
  },
);

t.test('what was made just before the store was restored', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  const restore = await restored(t, shared);
  const APP = 'endpoints/default/app';
  const app = endpointOf('a', '10.0.0.3');
  // The watch of neither of the hosts reports it any more.
  for (const host of [a, b]) host.link.isLost = ({ key }) => key === APP || key === RED;
  const writing = [a.set(APP, app), b.set(RED, { vni: 2 })];
  for (const [key] of [[APP], [RED]] as const) {
    while (!(await shared.get(key))) await new Promise((resolve) => setImmediate(resolve));
  }
  const old = await restore();
  for (const host of [a, b]) {
    host.link.away();
    host.link.isLost = () => false;
    host.link.back(old);
  }
  await Promise.all(writing);
  await b.until(() => b.inForce.has(APP), 'that the store has it again');
  t.same((await old.get(APP))?.value, app);
  t.same(b.report.held, [{ name: 'network "red"', change: 'deleted' }]);
  t.ok(b.inForce.has(RED));
});

t.test('a record that comes back', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  await a.set(RED, { vni: 2 });
  const restore = await restored(t, shared);
  await a.set(RED, undefined);
  await a.set(BLUE, { vni: 1, labels: {} });
  await b.until(() => !b.inForce.has(RED), 'the deletion');
  const old = await restore();
  for (const host of [a, b]) host.link.away();
  for (const host of [a, b]) host.link.back(old);
  for (const host of [a, b]) {
    await host.until(() => host.report.held.length === 2, 'what is held');
    t.notOk(host.inForce.has(RED));
    t.same(host.report.held, [
      { name: 'network "blue"', change: 'changed' },
      { name: 'network "red"', change: 'returned' },
    ]);
  }
  await a.set(RED, undefined);
  t.notOk(await old.get(RED), 'it can be deleted');
  await b.until(() => b.report.held.length === 1, 'that');
  await a.set(BLUE, { vni: 1, labels: {} });
  await b.until(() => b.report.held.length === 0, 'that, too');
  t.same([a.report.held, a.report.signs, b.report.signs], [[], [], []], 'then nothing is strange any more');
});

t.test('mass deletions', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  const many = Array.from({ length: 30 }, (_, n) => `networks/n${String(n).padStart(2, '0')}`);
  await a.write({ put: many.map((key) => ({ key, value: {} })) });
  await b.until(() => b.inForce.size === 34, 'all');
  await a.write({ delete: many });
  await b.until(() => b.inForce.size === 4, 'an ordinary deletion of many');

  await a.write({ put: many.map((key) => ({ key, value: {} })) });
  await b.until(() => b.inForce.size === 34, 'all');
  const restore = await restored(t, shared);
  await a.set(RED, { vni: 2 });
  await b.until(() => b.inForce.size === 35, 'all');
  const old = await restore();
  for (const host of [a, b]) host.link.away();
  for (const host of [a, b]) host.link.back(old);
  for (const host of [a, b]) await host.until(() => host.report.held.length === 1, 'what is held');
  await old.transact({ delete: many });
  for (const host of [a, b]) await host.until(() => host.report.held.length === 31, 'held, too');
  t.equal(a.inForce.size, 35);
  // By command of this host, it counts.
  await a.write({ delete: many });
  t.equal(a.inForce.size, 5);
  t.equal(b.inForce.size, 35);
});

t.test('what has a lease is never held: nobody might be there to let it end', async (t) => {
  const { shared, start, a, b } = await twoHosts(t);
  const GONE = 'live/gone';
  const lease = await shared.grant(600_000);
  await shared.transact({ put: [{ key: GONE, value: { host: 'gone' }, lease }] });
  for (const host of [a, b]) await host.until(() => host.inForce.has(GONE), 'a host');
  // One of them knows it from its copy only.
  await b.stop();
  const fromCopy = await start('b', { known: b.directory, isAway: true });
  t.ok(fromCopy.inForce.has(GONE));

  const empty = await openStore(t);
  a.link.away();
  for (const host of [a, fromCopy]) host.link.back(empty);
  for (const host of [a, fromCopy]) {
    await host.until(() => host.report.held.length === 2, 'what is held');
    t.notOk(host.inForce.has(GONE));
    t.same(host.report.held, [
      { name: 'namespace "default"', change: 'deleted' },
      { name: 'network "blue"', change: 'deleted' },
    ]);
  }
  const put = Array.from({ length: 30 }, (_, n) => ({ key: `networks/n${n}`, value: {} }));
  await a.write({ put: [...put, { key: GONE, value: { host: 'gone' }, lease: await empty.grant(600_000) }] });
  await fromCopy.until(() => fromCopy.inForce.has(GONE), 'all that is new');
  await empty.transact({ delete: [GONE, ...put.map(({ key }) => key)] });
  await fromCopy.until(() => !fromCopy.inForce.has(GONE), 'its end among many that are held');
  t.equal(fromCopy.report.held.length, 2 + put.length);
});

t.test('what has a lease is not held either if it comes back with the store', async (t) => {
  const { shared, a } = await twoHosts(t);
  const BACK = 'live/back';
  const restore = await restored(t, shared);
  await a.set(BLUE, { vni: 1, labels: {} });
  const old = await restore();
  const lease = await old.grant(600_000);
  await old.transact({ put: [{ key: BACK, value: { host: 'back' }, lease }] });
  a.link.away();
  a.link.back(old, ' of another cluster id');
  await a.until(() => a.inForce.has(BACK), 'it');
  t.same(a.report.held, [{ name: 'network "blue"', change: 'changed' }]);
  await old.revoke(lease);
  await a.until(() => !a.inForce.has(BACK), 'its end');
});

t.test(
  'what has lost its lease while the store was put back is not what it was, also with the same value',
  async (t) => {
    const { shared, a } = await twoHosts(t);
    const live = { key: 'live/gone', value: { host: 'gone' } };
    await shared.transact({ put: [{ ...live, lease: await shared.grant(600_000) }] });
    await a.until(() => a.inForce.get(live.key)?.lease !== undefined, 'a host');
    const restore = await restored(t, shared);
    await a.set(BLUE, { vni: 1, labels: {} });
    const old = await restore();
    await old.transact({ put: [live] });
    a.link.away();
    a.link.back(old, ' of another cluster id');
    await a.until(() => a.report.held.length > 0, 'what is held');
    t.match(a.inForce.get(live.key), { value: live.value, lease: undefined });
  },
);

t.test('everything is deleted by hand, in one transaction, while hosts follow the store', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  const before = a.values();
  const keys = Object.keys(await contents(shared));
  await shared.transact({ delete: keys });
  for (const host of [a, b]) {
    await host.until(() => host.report.signs.length > 0, 'it is noticed');
    await host.until(() => !host.report.held.some(({ name }) => name.startsWith('endpoint')), 'own records');
    t.same(host.values(), before, 'what is in force stays so');
    t.same(host.report.held, [
      { name: 'namespace "default"', change: 'deleted' },
      { name: 'network "blue"', change: 'deleted' },
    ]);
  }
  t.same(Object.keys(await contents(shared)), [DB, WEB, 'format']);
  t.equal((await a.accept()).accepted.length, 2);
  await b.accept();
  t.same(a.values(), b.values());
});

t.test('an exchange of records that nobody noticed', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  const restore = await restored(t, shared);
  for (let n = 0; n < 5; n++) await a.set(BLUE, { vni: 1, n });
  await b.until(() => Object(b.inForce.get(BLUE)?.value).n === 4, 'blue');
  const old = await restore();
  for (const host of [a, b]) host.link.away();
  // It is already further than the old one was, and no host was there to see it.
  for (let n = 0; n < 20; n++) await old.transact({ put: [{ key: 'networks/other', value: { n } }] });
  for (const host of [a, b]) host.link.back(old);
  for (const host of [a, b]) host.link.compact();
  for (const host of [a, b]) {
    await host.until(() => host.report.held.length === 2 && host.report.signs.length > 0, 'what is held');
    t.same(Object(host.inForce.get(BLUE)?.value).n, 4);
  }
  t.match(a.report.signs, [/^its record "networks\/blue" is older than this host knows it$|^it was restored/]);
});

t.test('a revision of another store says nothing about this one', async (t) => {
  const { a } = await twoHosts(t);
  const { revision } = a.inForce.get(BLUE)!;
  const other = await openStore(t);
  for (let at = 1; at < revision; at++) await other.transact({ put: [{ key: 'networks/other', value: {} }] });
  await other.transact({ put: [{ key: BLUE, value: { vni: 9 } }] });
  a.link.away();
  a.link.back(other, ' of another cluster id');
  await a.until(() => a.report.held.some(({ name }) => name === 'network "blue"'), 'what is held');
  t.same(a.inForce.get(BLUE)?.value, { vni: 1 });
});

t.test('what is in force from the copy has the revisions of the store that is followed', async (t) => {
  const { shared, a, start } = await twoHosts(t);
  await a.stop();
  const other = await openStore(t);
  for (let n = 0; n < 50; n++) await other.transact({ put: [{ key: 'networks/other', value: { n } }] });
  await other.transact({ delete: ['networks/other'] });
  const { entries } = await shared.list('');
  await other.transact({ put: entries.map(({ key, value }) => ({ key, value })) });
  const [history, directory] = [' of another cluster id', a.directory];
  const away = await FeedHost.start('a', other, { known: directory, history });
  await away.until(() => away.report.revision > 50, 'the other store');
  await away.stop();
  const back = await start('a', { known: directory });
  t.same(back.report.held, []);
  for (const key of [WEB, DB, BLUE]) {
    t.equal(back.inForce.get(key)?.revision, (await shared.get(key))?.revision, key);
  }
  await back.set(BLUE, { vni: 1, labels: {} });
  t.match((await shared.get(BLUE))?.value, { labels: {} });
});

for (const sign of ['history', 'format', 'epoch'] as const) {
  t.test(`nothing of a strange store is known by its revision: ${sign}`, async (t) => {
    const { shared, a, b } = await twoHosts(t);
    const before = a.values();
    const { entries, revision } = await shared.list('');
    const other = await openStore(t);
    for (let at = 1; at <= revision; at++) {
      const written = entries.filter((entry) => entry.revision === at);
      const values = written.map(({ key, value }) => ({ key, value: key === BLUE ? { vni: 7 } : value }));
      const put = sign === 'format' ? values.filter(({ key }) => key !== 'format') : values;
      await other.transact({ put });
    }
    t.equal((await other.get(BLUE))?.revision, (await shared.get(BLUE))?.revision, 'by chance, they are the same');
    const history = sign === 'format' ? '' : ' of another cluster id';
    for (const host of [a, b]) host.link.away();
    if (sign === 'epoch') {
      b.link.back(other, history);
      await b.until(() => b.report.held.length > 0, 'what the other host notices first');
    }
    a.link.back(other, history);
    await a.until(() => a.report.held.length > 0, 'what is held');
    t.same(a.report.held, [{ name: 'network "blue"', change: 'changed' }]);
    t.same(a.values(), before);
    t.same(a.link.listed!.known, [], 'it was read as a whole');
    await a.accept();
    t.same(a.inForce.get(BLUE)?.value, { vni: 7 });
  });
}

t.test('an epoch that cannot be is refused by name, and followed again when it is repaired', async (t) => {
  const { shared, start, a } = await twoHosts(t);
  const { value, revision } = (await shared.get('format'))!;
  const { epoch, ...rest } = value as { epoch: { revision: number } };
  const wrong = (found: number): RegExp =>
    new RegExp(
      `^the store’s record \`format\` has ${found} in epoch\\.revision, not a whole number from 0 to \\d+: delete it`,
    );
  for (const found of [-1, 0.5]) {
    await shared.transact({ put: [{ key: 'format', value: { ...rest, epoch: { ...epoch, revision: found } } }] });
    await a.until(() => a.report.refused !== undefined, 'the refusal');
    t.match(a.report.refused, wrong(found));
    const late = await start(`late${found}`);
    t.match(late.report.refused, wrong(found), 'also by a host that has just started');
    await shared.transact({ put: [{ key: 'format', value }] });
    for (const host of [a, late]) {
      await host.until(() => {
        host.feed.tick();
        return host.report.refused === undefined;
      }, 'what is right again');
    }
    await late.stop();
  }
  t.ok(revision > epoch.revision);
});

t.test('an epoch that is later than the record that says so is begun anew', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  const { value } = (await shared.get('format'))!;
  const { epoch, ...rest } = value as { epoch: { revision: number } };
  const before = a.values();
  await shared.transact({ put: [{ key: 'format', value: { ...rest, epoch: { ...epoch, revision: 10 ** 15 } } }] });
  const isRight = async (): Promise<boolean> => {
    const { revision, value: now } = (await shared.get('format'))!;
    return (now as { epoch: { revision: number } }).epoch.revision < revision;
  };
  while (!(await isRight())) for (const host of [a, b]) await host.settle();
  await b.set(BLUE, { vni: 1, labels: {} });
  await a.until(() => 'labels' in Object(a.inForce.get(BLUE)?.value), 'what is new');
  t.same({ ...a.values(), [BLUE]: { vni: 1 } }, before);
  for (const host of [a, b]) {
    await host.until(() => host.report.signs.length === 0, 'that nothing is strange any more');
    t.same([host.report.held, host.report.refused], [[], undefined]);
  }
});

t.test('a store of a newer version', async (t) => {
  const { shared, start, a } = await twoHosts(t);
  const format = (await shared.get('format'))!;
  const before = a.values();
  await shared.transact({ put: [{ key: 'format', value: { ...(format.value as object), version: 2 } }] });
  const why = 'the store is of a newer version of weft (format 2, this one reads 1): update weft on this host';
  await a.until(() => a.report.refused !== undefined, 'the refusal');
  t.equal(a.report.refused, why);
  await t.rejects(a.set(BLUE, undefined), { code: 'state' });
  await t.rejects(a.accept(), { code: 'state', message: why });
  t.same(a.values(), before);
  const again = await start('a', { known: a.directory });
  t.same(again.values(), before, 'it starts from its copy');
  const fresh = await start('fresh');
  t.notOk(fresh.isStarted);
  t.match(fresh.feed.waitsFor()?.message, why);
  t.same((await shared.get('format'))?.value, { ...(format.value as object), version: 2 });
  await shared.transact({ put: [{ key: 'format', value: format.value }] });
  for (const host of [fresh, again]) {
    for (let tick = 0; tick < 5; tick++) host.feed.tick();
    await host.until(() => host.report.refused === undefined && host.isStarted, 'the store that it can read');
  }
  t.same(fresh.values(), before);
});
