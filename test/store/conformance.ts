/**
 * What every store must do, however it is implemented. The crashes are those of its client: it dies
 * before or after any of its writes, and another client opens the same state.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Test } from 'tap';
import { WeftError } from '../../src/error.ts';
import { unlimited } from '../../src/store/staged.ts';
import type { Change, Entry, KnownKey, Store, Transaction, WatchEvent } from '../../src/store/store.ts';
import { until } from '../support/process.ts';
import { Random } from '../support/random.ts';

/** One state, empty at first. */
export interface StoreUnderTest {
  /** A client. The previous one is closed, or has died. */
  readonly open: () => Promise<Store>;
  /** Makes the store forget all revisions before the latest. */
  readonly forget: (store: Store) => Promise<void>;
  /** Lets so much time pass for the leases, if that can be done without waiting. */
  readonly pass: (ms: number) => void;
  /** Ends all leases, as time does. */
  readonly expire: () => Promise<void>;
}

/** Objects that one version of a file has and the other has not. */
const FEW = 10;
/** Longer than any lease. */
const LONG_MS = 60_000;

export interface ConformanceOptions {
  /** Of the objects in a file: more than the store takes in one transaction. */
  readonly count?: number;
  /** Only these cases. */
  readonly cases?: RegExp;
}

export async function conformance(
  t: Test,
  begin: (t: Test) => StoreUnderTest,
  { count = 1000, cases = /./ }: ConformanceOptions = {},
): Promise<void> {
  const test = async (name: string, run: (t: Test) => Promise<void>): Promise<void> => {
    if (cases.test(name)) await t.test(name, run);
  };
  const { objects, file, expected } = files(count);
  const opened = async (t: Test): Promise<{ store: Store; under: StoreUnderTest }> => {
    const under = begin(t);
    const store = unlimited(await under.open());
    t.teardown(() => store.close());
    return { store, under };
  };

  await test('an entry is as it was written, with the revision that wrote it', async (t) => {
    const { store } = await opened(t);
    const value = { subnets: ['10.0.0.0/24'], text: 'é\n', nothing: null };
    const first = await store.transact({ put: [{ key: 'n/b', value }] });
    value.subnets.push('changed afterwards');
    const entry = await store.get('n/b');
    t.same(entry?.value, { subnets: ['10.0.0.0/24'], text: 'é\n', nothing: null });
    t.equal(entry?.revision, first);
    t.throws(() => (entry!.value as { subnets: string[] }).subnets.push('x'), 'readers share it');
    t.equal(await store.get('n'), undefined);

    const second = await store.transact({ put: [{ key: 'n/a', value: 1 }], delete: ['nothing'] });
    t.ok(second > first);
    const { revision, entries } = await store.list('n/');
    t.ok(revision >= second);
    t.same(plain(entries), { 'n/a': 1, 'n/b': entry?.value });
    t.same(
      entries.map(({ key }) => key),
      ['n/a', 'n/b'],
      'ordered by key',
    );
    await t.rejects(store.transact({ put: [{ key: 'k', value: 1 }], delete: ['k'] }), { code: 'internal' });
  });

  await test('an expectation that is not met: nothing is done, and the revision is told', async (t) => {
    const { store } = await opened(t);
    const revision = await store.transact({
      expect: [{ key: 'a', revision: 0 }],
      put: [
        { key: 'a', value: 1 },
        { key: 'b', value: 1 },
      ],
    });
    const refused = { code: 'conflict', message: `"a" has revision ${revision}, not 0: it was changed meanwhile` };
    const absent = [{ key: 'a', revision: 0 }];
    await t.rejects(store.transact({ expect: absent, put: [{ key: 'z', value: 1 }], delete: ['b'] }), refused);
    t.same(plain((await store.list('')).entries), { a: 1, b: 1 });
    await store.transact({ expect: [{ key: 'a', revision }], delete: ['a'] });
    await t.rejects(store.transact({ expect: [{ key: 'a', revision }], put: [{ key: 'a', value: 2 }] }), {
      code: 'conflict',
      message: `"a" has revision 0, not ${revision}: it was changed meanwhile`,
    });
    await store.transact({ expect: absent, put: [{ key: 'a', value: 3 }] });
  });

  await test('of concurrent writers of one entry one wins, and the others are told its revision', async (t) => {
    const { store } = await opened(t);
    await store.transact({ put: [{ key: 'n', value: 0 }] });
    for (let round = 1; round <= 20; round++) {
      const { revision } = (await store.get('n'))!;
      const expect = [{ key: 'n', revision }];
      const race = await Promise.allSettled(
        [1, 2, 3].map((value) => store.transact({ expect, put: [{ key: 'n', value }] })),
      );
      const won = race.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
      const told = race.flatMap((one) => (one.status === 'rejected' ? [(one.reason as Error).message] : []));
      t.equal(won.length, 1);
      t.same(told, Array(2).fill(`"n" has revision ${won[0]}, not ${revision}: it was changed meanwhile`));
      t.equal((await store.get('n'))?.revision, won[0]);
    }
  });

  await test('a list at an earlier revision, until that is forgotten', async (t) => {
    const { store, under } = await opened(t);
    const seen: { at: number; entries: Readonly<Record<string, unknown>> }[] = [];
    for (let n = 0; n < 10; n++) {
      await store.transact({ put: [{ key: `k/${n % 4}`, value: n }], delete: n % 3 === 0 ? [`k/${(n + 1) % 4}`] : [] });
      const { revision, history, entries } = await store.list('k/');
      t.equal(history, (await store.list('')).history, 'one history');
      seen.push({ at: revision, entries: plain(entries) });
    }
    for (const { at, entries } of seen) {
      const listed = await store.list('k/', at);
      t.equal(listed.revision, at);
      t.same(plain(listed.entries), entries);
    }
    await under.forget(store);
    await t.rejects(store.list('k/', seen[0]!.at), { code: 'not_found' });
    t.same(plain((await store.list('k/')).entries), seen.at(-1)!.entries);
  });

  await test('what is known is left out of a list, and what differs is not', async (t) => {
    const { store } = await opened(t);
    const first = await store.transact({ put: ['k/a', 'k/b', 'k/c', 'other'].map((key) => ({ key, value: 1 })) });
    const second = await store.transact({ put: [{ key: 'k/b', value: 2 }], delete: ['k/c'] });
    const remembered = new Map(['k/a', 'k/b', 'k/c', 'other'].map((key) => [key, first]));
    const { revision, entries, known } = await store.list('k/', undefined, knownIn(remembered));
    t.ok(revision >= second);
    t.same(known, ['k/a']);
    t.same(
      entries.map(({ key, value }) => [key, value]),
      [['k/b', 2]],
    );
    t.same((await store.list('k/', first, (key) => key)).known.length, 3, 'at an earlier revision, too');
    t.same((await store.list('k/')).known, []);

    await store.transact(file('old'));
    const old = await store.list('o/');
    const revisions = new Map(old.entries.map((entry) => [entry.key, entry.revision]));
    await store.transact(file('new'));
    const changed = await store.list('o/', undefined, knownIn(revisions));
    t.same(plain(changed.entries), expected('new'), 'what a large change has made is new');
    t.same(changed.known, []);
    // Two of those that it has made are changed once more.
    const later = new Map(changed.entries.map((entry) => [entry.key, entry.revision]));
    await store.transact({ put: objects('old').slice(0, 2) });
    const last = await store.list('o/', undefined, knownIn(later));
    t.ok(last.entries.length >= 2);
    t.same(
      keysOf(last.entries.concat(last.known.map((key) => ({ key }) as Entry))),
      Object.keys(expected('new')).sort(),
    );
    for (const { key, value } of objects('old').slice(0, 2)) {
      t.same(last.entries.find((entry) => entry.key === key)?.value, value);
    }
  });

  await test('a watch tells each transaction as a whole, in order, from its revision on', async (t) => {
    const { store } = await opened(t);
    await store.transact({ put: [{ key: 'a/before', value: 0 }] });
    const from = await store.transact({
      put: [
        { key: 'a/1', value: 1 },
        { key: 'b/1', value: 1 },
        { key: 'a/2', value: 1 },
      ],
    });
    const events: WatchEvent[] = [];
    let isBack = false;
    const stop = store.watch('a/', from, (event) => {
      t.ok(isBack, 'the watch is back before its first event');
      events.push(event);
    });
    isBack = true;
    await store.transact({ put: [{ key: 'b/2', value: 1 }] });
    const last = await store.transact({ put: [{ key: 'a/1', value: 2 }], delete: ['a/2', 'a/never'] });
    await until(() => events.length >= 2, { what: 'two events' });
    t.same(
      events.map((event) => event.kind === 'changes' && [event.revision, changed(event.changes)]),
      [
        [from, { 'a/1': 1, 'a/2': 1 }],
        [last, { 'a/1': 2, 'a/2': undefined }],
      ],
    );
    stop();
    let marker = 0;
    store.watch('', last + 1, () => marker++);
    await store.transact({ put: [{ key: 'a/3', value: 1 }] });
    await until(() => marker > 0, { what: 'another watch to be told' });
    t.equal(events.length, 2, 'the one that was stopped is not');
  });

  await test('a watch of what is forgotten says so and ends', async (t) => {
    const { store, under } = await opened(t);
    const from = await store.transact({ put: [{ key: 'a', value: 1 }] });
    await store.transact({ put: [{ key: 'a', value: 2 }] });
    await under.forget(store);
    const events: WatchEvent[] = [];
    store.watch('a', from, (event) => events.push(event));
    await until(() => events.length > 0, { what: 'an event' });
    await store.transact({ put: [{ key: 'a', value: 3 }] });
    t.same(events, [{ kind: 'compacted' }]);
  });

  await test('list and watch are what a mirror needs: against a naive twin', async (t) => {
    const { store } = await opened(t);
    const seed = Date.now() % 2 ** 32;
    t.comment(`seed ${seed}`);
    const random = new Random(seed);
    const twin: Record<string, unknown> = {};
    const mirrors: { at: number; entries: Record<string, unknown> }[] = [];
    let last = 0;
    for (let n = 0; n < 200; n++) {
      const count = 1 + random.int(8);
      const keys = new Set(Array.from({ length: count }, () => `k/${random.int(20)}`));
      const put = [...keys].filter(() => random.chance(0.7)).map((key) => ({ key, value: { n, key } }));
      const deleted = [...keys].filter((key) => !put.some((one) => one.key === key));
      last = await store.transact({ put, delete: deleted });
      for (const { key, value } of put) twin[key] = value;
      for (const key of deleted) delete twin[key];
      if (n % 50 === 10) {
        const { revision, entries } = await store.list('k/');
        const mirror = { at: revision, entries: plain(entries) };
        mirrors.push(mirror);
        store.watch('k/', revision + 1, (event) => {
          if (event.kind !== 'changes') return;
          mirror.at = event.revision;
          for (const { key, entry } of event.changes) {
            if (entry) mirror.entries[key] = entry.value;
            else delete mirror.entries[key];
          }
        });
      }
    }
    last = await store.transact({ put: [{ key: 'k/end', value: 1 }] });
    twin['k/end'] = 1;
    await until(() => mirrors.every(({ at }) => at === last), { what: 'all mirrors to be up to date' });
    for (const { entries } of mirrors) t.same(entries, twin);
    t.same(plain((await store.list('k/')).entries), twin);
  });

  await test('a lease: its entries go with it, in one transaction', async (t) => {
    const { store, under } = await opened(t);
    const [lease, other] = [await store.grant(10_000), await store.grant(10_000)];
    t.not(lease, other);
    const revision = await store.transact({
      put: [
        { key: 'l/1', value: 1, lease },
        { key: 'l/2', value: 1, lease },
        { key: 'l/kept', value: 1, lease },
        { key: 'l/other', value: 1, lease: other },
      ],
    });
    await store.transact({ put: [{ key: 'l/kept', value: 2 }] });
    const events: WatchEvent[] = [];
    store.watch('l/', revision + 2, (event) => events.push(event));
    const keys = async (): Promise<string[]> => (await store.list('l/')).entries.map(({ key }) => key);
    for (let n = 0; n < 4; n++) {
      under.pass(6000);
      await Promise.all([store.keepAlive(lease), store.keepAlive(other)]);
    }
    t.same(await keys(), ['l/1', 'l/2', 'l/kept', 'l/other'], 'they are kept alive');
    await store.revoke(lease);
    t.same(await keys(), ['l/kept', 'l/other']);
    await until(() => events.length > 0, { what: 'the watch to be told' });
    t.same(
      events.map((event) => event.kind === 'changes' && changed(event.changes)),
      [{ 'l/1': undefined, 'l/2': undefined }],
    );
    await t.rejects(store.keepAlive(lease), { code: 'not_found' });
    await t.rejects(store.transact({ put: [{ key: 'l/late', value: 1, lease }] }), { code: 'not_found' });
    await store.revoke(lease);

    under.pass(LONG_MS);
    await until(async () => (await keys()).join() === 'l/kept', { what: 'the other lease to end by itself' });
    await t.rejects(store.keepAlive(other), { code: 'not_found' });
    const again = await store.grant(10_000);
    t.notOk([lease, other].includes(again), 'an id is never given again');
  });

  await test('writers and the end of a lease at once', async (t) => {
    const { store } = await opened(t);
    for (let round = 0; round < 20; round++) {
      const lease = await store.grant(10_000);
      const put = (n: number): Promise<number> => store.transact({ put: [{ key: `r/${n}`, value: n, lease }] });
      await Promise.allSettled([put(1), put(2), store.revoke(lease), put(3), put(4)]);
      t.same((await store.list('r/')).entries, [], 'nothing is left of it');
    }
  });

  await test('what was written is there for the next client', async (t) => {
    const under = begin(t);
    const first = unlimited(await under.open());
    const revision = await first.transact({ put: [{ key: 'a', value: 1 }] });
    await first.close();
    await t.rejects(first.transact({ put: [{ key: 'late', value: 1 }] }), { code: 'conflict' });
    const second = unlimited(await under.open());
    t.same(await second.get('a'), { key: 'a', value: 1, revision });
    t.ok((await second.transact({ put: [{ key: 'b', value: 1 }] })) > revision);
    await second.close();
    await second.close();
  });

  await test(`${count} objects are one revision`, async (t) => {
    const { store } = await opened(t);
    await store.transact(file('old'));
    const before = await store.list('');
    const expect = before.entries.map(({ key, revision }) => ({ key, revision }));
    const events: WatchEvent[] = [];
    store.watch('o/', before.revision + 1, (event) => events.push(event));
    const revision = await store.transact({ ...file('new'), expect });
    const { entries } = await store.list('');
    t.same(plain(entries), expected('new'));
    t.same([...new Set(entries.map((entry) => entry.revision))], [revision]);
    t.same(plain((await store.list('', before.revision)).entries), expected('old'), 'and before, they were others');
    await until(() => events.length > 0, { what: 'the watch to be told' });
    t.equal(events.length, 1);
    const [event] = events;
    t.equal(event?.kind === 'changes' && event.revision, revision);
    t.same(
      event?.kind === 'changes' && keysOf(event.changes),
      [...keysOf(file('new').put), ...file('new').delete].sort(),
    );

    const again = await store.transact({ put: [{ key: 'o/0001', value: 'by itself' }] });
    t.equal((await store.get('o/0001'))?.revision, again);
    await t.rejects(store.transact({ ...file('old'), expect }), { code: 'conflict' });
    t.equal((await store.list('o/')).entries.length, count + FEW, 'nothing is left of what was refused');
    await store.transact({ expect: [{ key: 'o/old/1', revision: 0 }], put: [{ key: 'o/old/1', value: 1 }] });
  });

  await test('of two large changes that meet one is made, or one after the other, and never a part', async (t) => {
    const { store } = await opened(t);
    await store.transact(file('first'));
    for (let round = 0; round < 5; round++) {
      const expect = (await store.list('o/')).entries.map(({ key, revision }) => ({ key, revision }));
      const versions = [`a${round}`, `b${round}`];
      const race = await Promise.allSettled(
        versions.map((version) => store.transact({ put: objects(version), expect })),
      );
      const won = versions.filter((_, at) => race[at]!.status === 'fulfilled');
      t.equal(won.length, 1);
      t.same(versionsOf((await store.list('o/0')).entries), won);
    }
  });

  for (const dies of ['before', 'after'] as const) {
    await test(`a client that dies ${dies} any write of a file: all of it, or nothing`, async (t) => {
      let writes = 0;
      for (let isOver = false; !isOver; writes++) {
        const under = begin(t);
        const first = await under.open();
        const onlooker = unlimited(first);
        await onlooker.transact(file('old'));
        const mirror = { ...expected('old') };
        onlooker.watch('o/', (await onlooker.list('')).revision + 1, (event) => {
          for (const { key, entry } of event.kind === 'changes' ? event.changes : []) {
            if (entry) mirror[key] = entry.value;
            else delete mirror[key];
          }
          if (versionsOf(entriesOf(mirror)).length !== 1) t.fail('a watch was told a part');
        });
        const { mortal, isDead } = dying(first, writes, dies, async () => {
          const { entries } = await onlooker.list('');
          const isWhole = [expected('old'), expected('new')].some((all) => isDeepStrictEqual(plain(entries), all));
          if (!isWhole) t.fail(`a part was listed before write ${writes}`);
          const { version } = (await onlooker.get(`o/${String(count / 2).padStart(4, '0')}`))!.value as {
            version: string;
          };
          if (version !== versionsOf(entries)[0]) t.fail(`${version} was read`);
        });
        const isMade = await unlimited(mortal)
          .transact(file('new'))
          .then(
            () => true,
            () => false,
          );
        isOver = isMade && !isDead();
        await first.close();

        const second = unlimited(await under.open());
        const found = plain((await second.list('')).entries);
        if (isMade || 'o/new/0' in found) t.same(found, expected('new'), `${writes} writes`);
        else t.same(found, expected('old'), `${writes} writes`);
        await under.expire();
        await until(() => second.transact(file('new')), { what: 'the next client to make it' });
        t.same(plain((await second.list('')).entries), expected('new'));
        await second.close();
      }
      t.comment(`${writes} crashes`);
    });
  }

  await test('the answer to any write of a file is lost: all of it, or nothing', async (t) => {
    const base = await begin(t).open();
    t.teardown(() => base.close());
    const store = unlimited(base);
    for (let write = 0, isOver = false; !isOver; write++) {
      await store.transact(file('old'));
      const { client, isOver: wasAnswered } = unanswered(base, write);
      const answer = await unlimited(client)
        .transact(file('new'))
        .then(String, ({ code }: WeftError) => code);
      isOver = wasAnswered();
      const { entries, revision } = await store.list('');
      const found = plain(entries);
      if (answer === 'unreachable') {
        const isWhole = [expected('old'), expected('new')].some((all) => isDeepStrictEqual(found, all));
        t.ok(isWhole, `write ${write}`);
      } else t.same([found, Number(answer) <= revision], [expected('new'), true], `write ${write}`);
      await store.transact({ delete: keysOf(entries) });
    }
  });
}

/** A client that gets no answer to one of its writes. */
function unanswered(store: Store, write: number): { client: Store; isOver: () => boolean } {
  let left = write;
  const client: Store = {
    operationLimit: store.operationLimit,
    lengthLimitBytes: store.lengthLimitBytes,
    get: (key) => store.get(key),
    list: (prefix, at) => store.list(prefix, at),
    grant: (ttlMs) => store.grant(ttlMs),
    keepAlive: (lease) => store.keepAlive(lease),
    revoke: (lease) => store.revoke(lease),
    watch: (...given) => store.watch(...given),
    health: () => store.health(),
    onHealth: (listener) => store.onHealth(listener),
    close: () => store.close(),
    transact: async (transaction) => {
      const revision = await store.transact(transaction);
      if (left-- === 0) throw new WeftError('unreachable', 'no answer');
      return revision;
    },
  };
  return { client, isOver: () => left >= 0 };
}

interface Version {
  readonly put: { key: string; value: unknown }[];
  readonly delete: string[];
}

/** The versions of a file. @param count of the objects that all of them have */
function files(count: number) {
  const objects = (version: string): Version['put'] =>
    Array.from({ length: count }, (_, n) => ({ key: `o/${String(n).padStart(4, '0')}`, value: { version, n } }));
  /** It creates some objects, changes many, and deletes some that `old` has. */
  const file = (version: string): Version => ({
    put: [...objects(version), ...own(version)],
    delete: version === 'old' ? [] : keysOf(own('old')),
  });
  return { objects, file, expected: (version: string) => plain(file(version).put) };
}

/** The objects that only one of them has. */
function own(version: string): { key: string; value: unknown }[] {
  return Array.from({ length: FEW }, (_, n) => ({ key: `o/${version}/${n}`, value: { version, n } }));
}

function versionsOf(entries: readonly Pick<Entry, 'value'>[]): string[] {
  return [...new Set(entries.map(({ value }) => (value as { version: string }).version))];
}

/** Knows these keys at these revisions. */
function knownIn(revisions: ReadonlyMap<string, number>): KnownKey {
  return (key, revision) => (revisions.get(key) === revision ? key : undefined);
}

function keysOf(items: readonly { readonly key: string }[]): string[] {
  return items.map(({ key }) => key).sort();
}

/** A client for which everything fails from one of its writes on. @param look is called before each write */
function dying(
  store: Store,
  writes: number,
  dies: 'before' | 'after',
  look: () => Promise<void>,
): { mortal: Store; isDead: () => boolean } {
  let left = writes;
  let isDead = false;
  const dead = (): WeftError => new WeftError('unreachable', 'dead');
  const alive = <A extends readonly unknown[], R>(method: (...given: A) => Promise<R>) => {
    return async (...given: A): Promise<R> => {
      if (isDead) throw dead();
      return method(...given);
    };
  };
  const mortal: Store = {
    operationLimit: store.operationLimit,
    lengthLimitBytes: store.lengthLimitBytes,
    get: alive((key) => store.get(key)),
    list: alive((prefix, at) => store.list(prefix, at)),
    grant: alive((ttlMs) => store.grant(ttlMs)),
    keepAlive: alive((lease) => store.keepAlive(lease)),
    revoke: alive((lease) => store.revoke(lease)),
    watch: (...given) => store.watch(...given),
    health: () => store.health(),
    onHealth: (listener) => store.onHealth(listener),
    close: () => store.close(),
    transact: alive(async (transaction: Transaction) => {
      await look();
      isDead = left-- === 0;
      if (isDead && dies === 'before') throw dead();
      const revision = await store.transact(transaction);
      if (isDead) throw dead();
      return revision;
    }),
  };
  return { mortal, isDead: () => isDead };
}

function plain(entries: readonly Pick<Entry, 'key' | 'value'>[]): Record<string, unknown> {
  return Object.fromEntries(entries.map(({ key, value }) => [key, value]));
}

function entriesOf(values: Readonly<Record<string, unknown>>): { key: string; value: unknown }[] {
  return Object.entries(values).map(([key, value]) => ({ key, value }));
}

function changed(changes: readonly Change[]): Record<string, unknown> {
  return Object.fromEntries(changes.map(({ key, entry }) => [key, entry?.value]));
}
