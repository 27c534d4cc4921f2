/** Large things on etcd: lists in pages of one revision, answers in fragments, and transactions that have to be staged. */
import t from 'tap';
import { unlimited } from '../../src/store/staged.ts';
import type { WatchEvent } from '../../src/store/store.ts';
import { openStoreOf } from '../support/etcd-store.ts';
import { startEtcd } from '../support/etcd.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';

t.setTimeout(300_000);

const lab = openLab(t);
const etcd = await startEtcd(lab);
/** Several pages, also of keys alone. */
const LISTED = 4300;
const keyOf = (n: number): string => `k/${String(n).padStart(5, '0')}`;

t.test('a list in pages is one revision, whatever is written meanwhile', async (t) => {
  const store = openStoreOf(etcd, { prefix: 'weft/pages/' });
  t.teardown(() => store.close());
  const count = LISTED;
  for (let first = 0; first < count; first += 100) {
    const put = Array.from({ length: 100 }, (_, n) => ({ key: keyOf(first + n), value: 0 }));
    await store.transact({ put });
  }
  let writes = 0;
  let isDone = false;
  const writing = (async () => {
    // The first and the last entry always have the same value.
    for (; !isDone; writes++) {
      const value = writes;
      await store.transact({ put: [0, count - 1].map((n) => ({ key: keyOf(n), value })) });
    }
  })();
  for (let n = 0; n < 20; n++) {
    const { revision, entries } = await store.list('k/');
    t.equal(entries.length, count);
    t.equal(entries[0]?.value, entries.at(-1)?.value, 'one revision');
    t.ok(entries.every((entry) => entry.revision <= revision));
    t.same(
      entries.map(({ key }) => key),
      Array.from({ length: count }, (_, at) => keyOf(at)),
    );
  }
  const known = new Map<string, number>();
  for (let n = 0; n < 20; n++) {
    const {
      revision,
      entries,
      known: left,
    } = await store.list('k/', undefined, (key, at) => (known.get(key) === at ? key : undefined));
    const there = new Map([
      ...left.map((key) => [key, known.get(key)!] as const),
      ...entries.map(({ key, revision }) => [key, revision] as const),
    ]);
    t.equal(left.length + entries.length, count, 'each is known or read');
    t.equal(there.size, count, 'and no one twice');
    t.equal(there.get(keyOf(0)), there.get(keyOf(count - 1)), 'one revision');
    t.ok([...there.values()].every((one) => one <= revision));
    t.ok(entries.every(({ key, value, revision: one }) => typeof value === 'number' && known.get(key) !== one));
    // Next time, something is missing on each page, on some of them all.
    known.clear();
    for (const [at, [key, one]] of [...there].entries()) if (at % (n + 2) > 0 && at % 3000 < 2000) known.set(key, one);
  }
  isDone = true;
  await writing;
  t.comment(`${writes} writes meanwhile`);
  t.ok(writes > 20);
});

t.test('a list goes on when etcd is compacted between two pages', async (t) => {
  const store = openStoreOf(etcd, { prefix: 'weft/pages/' });
  t.teardown(() => store.close());
  let isDone = false;
  const compacting = (async () => {
    while (!isDone) {
      await store.transact({ put: [{ key: 'other', value: 1 }] });
      await etcd.compact();
    }
  })();
  for (let n = 0; n < 30; n++) t.equal((await store.list('k/')).entries.length, LISTED);
  isDone = true;
  await compacting;
});

t.test('more than four megabytes, as a list and in the fragments of a watch', async (t) => {
  const store = openStoreOf(etcd, { prefix: 'weft/large/' });
  t.teardown(() => store.close());
  const { revision } = await store.list('');
  // A fragment has about 1.5 MiB, so it ends within a transaction.
  const size = 64;
  const revisions: number[] = [];
  for (let n = 0; n < 8; n++) {
    const put = Array.from({ length: size }, (_, at) => ({ key: `${n}/${at}`, value: `${n}`.repeat(14_000) }));
    revisions.push(await store.transact({ put }));
  }
  const { entries } = await store.list('');
  t.equal(entries.length, 8 * size);
  const events: WatchEvent[] = [];
  store.watch('', revision + 1, (event) => events.push(event));
  await until(() => events.length >= 8, { what: 'all events' });
  t.same(
    events.map((event) => event.kind === 'changes' && [event.revision, event.changes.length]),
    revisions.map((one) => [one, size]),
    'each transaction as a whole',
  );
});

t.test('very many deletions in one revision', async (t) => {
  const store = openStoreOf(etcd, { prefix: 'weft/mass/' });
  t.teardown(() => store.close());
  const count = 30_000;
  let revision = 0;
  for (let first = 0; first < count; first += 125) {
    const put = Array.from({ length: 125 }, (_, n) => ({ key: `${keyOf(first + n)}/${'k'.repeat(40)}`, value: 1 }));
    revision = await store.transact({ put });
  }
  const [live, late]: [WatchEvent[], WatchEvent[]] = [[], []];
  store.watch('', revision + 1, (event) => live.push(event));
  await etcd.ctl(['del', '--prefix', 'weft/mass/']);
  // This one is behind when it begins.
  store.watch('', revision + 1, (event) => late.push(event));
  await until(() => live.length > 0 && late.length > 0, { what: 'the deletion' });
  for (const [event, ...others] of [live, late]) {
    t.equal(event?.kind === 'changes' && event.changes.length, count);
    t.same(others, []);
  }
});

t.test('what is too long for one answer of a watch comes in fragments', async (t) => {
  const store = openStoreOf(etcd, { prefix: 'weft/long-watch/' });
  t.teardown(() => store.close());
  const [count, value] = [24, 'x'.repeat(1_000_000)];
  const { revision } = await store.list('');
  for (let n = 0; n < count; n++) await store.transact({ put: [{ key: keyOf(n), value }] });
  const events: WatchEvent[] = [];
  store.watch('', revision + 1, (event) => events.push(event));
  await until(() => events.length >= count, { what: 'all events' });
  t.same(
    events.map((event) => event.kind),
    events.map(() => 'changes'),
  );
  t.equal(events.length, count);
});

t.test('entries that are too long for one answer come in several', async (t) => {
  const store = openStoreOf(etcd, { prefix: 'weft/long-entries/' });
  t.teardown(() => store.close());
  const [count, value] = [24, 'x'.repeat(1_000_000)];
  for (let n = 0; n < count; n++) await store.transact({ put: [{ key: keyOf(n), value }] });
  t.equal((await store.list('')).entries.length, count);
});

t.test('a transaction that is too long for etcd is staged', async (t) => {
  const store = unlimited(openStoreOf(etcd, { prefix: 'weft/long/' }));
  t.teardown(() => store.close());
  const put = (text: string) => Array.from({ length: 40 }, (_, n) => ({ key: keyOf(n), value: text.repeat(50_000) }));
  for (const text of ['a', 'b']) {
    const revision = await store.transact({ put: put(text) });
    const { entries } = await store.list('k/');
    t.same([...new Set(entries.map((entry) => entry.revision))], [revision], 'one revision');
    t.same([...new Set(entries.map(({ value }) => (value as string)[0]))], [text]);
  }
  t.equal((await store.list('')).entries.length, 40, 'and nothing is left of the stages');
});

t.test('what somebody else has written by hand', async (t) => {
  const store = openStoreOf(etcd, { prefix: 'weft/hand/' });
  t.teardown(() => store.close());
  const { revision } = await store.list('');
  const events: WatchEvent[] = [];
  store.watch('', revision + 1, (event) => events.push(event));
  await etcd.ctl(['put', 'weft/hand/a', 'no JSON']);
  // Between these depths, a value can be read and frozen, and not be turned into text any more.
  const depths = [50_000, 10_000, 7000, 5000, 4500];
  for (const depth of depths) {
    await etcd.ctl(['put', `weft/hand/b${depth}`], etcd.members, '['.repeat(depth) + ']'.repeat(depth));
    await etcd.ctl(['put', `weft/hand/c${depth}`], etcd.members, '{"a":'.repeat(depth) + '1' + '}'.repeat(depth));
  }
  await until(() => events.length === 1 + 2 * depths.length, { what: 'all of it' });
  const { entries } = await store.list('');
  t.equal(entries.length, events.length);
  t.ok(entries.every(({ value }) => value === null));
});
