/** Staging on a store that fails, as far as `conformance.ts` does not cover it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { WeftError } from '../../src/error.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { unlimited } from '../../src/store/staged.ts';
import { markedWith } from '../../src/store/staged-ids.ts';
import type { WatchEvent } from '../../src/store/store.ts';
import { until } from '../support/process.ts';
import { Hooked } from '../support/switch.ts';

const LIMIT = 8;

async function open(t: Test) {
  const directory = mkdtempSync(join(tmpdir(), `weft-staged-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const embedded = await openEmbeddedStore({
    directory,
    onWarning: (message) => t.fail(message),
    after: () => () => {},
    operationLimit: LIMIT,
  });
  t.teardown(() => embedded.close());
  const hooked = new Hooked(embedded, LIMIT);
  return { embedded, hooked, store: unlimited(hooked) };
}

t.test('a watch whose store cannot be read ends, as one that has lost its place', async (t) => {
  const { hooked, store } = await open(t);
  hooked.beforeList = () => Promise.reject(new WeftError('unreachable', 'the store is away'));
  const events: WatchEvent[] = [];
  store.watch('', 1, (event) => events.push(event));
  await until(() => events.length > 0, { what: 'the end of the watch' });
  t.same(events, [{ kind: 'compacted' }]);
});

t.test('a watch reads nothing but what is under way', async (t) => {
  const { hooked, store } = await open(t);
  const put = Array.from({ length: 2 * LIMIT }, (_, n) => ({ key: `policy/${n}`, value: n }));
  const revision = await store.transact({ put });
  const listed: string[] = [];
  const list = hooked.list.bind(hooked);
  hooked.list = (prefix, ...more) => {
    listed.push(prefix);
    return list(prefix, ...more);
  };
  const events: WatchEvent[] = [];
  store.watch('', revision + 1, (event) => events.push(event));
  await store.transact({ put: [{ key: 'policy/0', value: 'new' }] });
  await until(() => events.length > 0, { what: 'the change' });
  t.match(events, [{ kind: 'changes', changes: [{ key: 'policy/0', entry: { value: 'new' } }] }]);
  t.notOk(listed.includes(''), 'all that is marked');
});

t.test('an entry that is put back from a dump while it is marked has a revision of this store', async (t) => {
  const { embedded, store } = await open(t);
  for (let n = 0; n < 20; n++) await embedded.transact({ put: [{ key: 'others', value: n }] });
  const referred = await store.transact({ put: [{ key: 'network', value: 'blue' }] });
  const put = Array.from({ length: 2 * LIMIT }, (_, n) => ({ key: `policy/${n}`, value: n }));
  await store.transact({ expect: [{ key: 'network', revision: referred }], put });
  const marked = (await embedded.get('network'))!;
  t.ok(markedWith(marked), 'as it is until it is written again');
  t.equal((await store.get('network'))!.revision, referred);

  const { embedded: other, store: later } = await open(t);
  const events: WatchEvent[] = [];
  later.watch('network', 1, (event) => events.push(event));
  const putBack = await other.transact({ put: [{ key: marked.key, value: marked.value }] });
  t.ok(putBack < referred);
  const revision = putBack - 1;
  const expected = { key: 'network', value: 'blue', revision };
  t.same(await later.get('network'), expected);
  t.same((await later.list('')).entries, [expected]);
  await until(() => events.length > 0, { what: 'the change' });
  t.match(events, [{ kind: 'changes', changes: [{ entry: expected }] }]);
  await later.transact({ expect: [{ key: 'network', revision }], put: [{ key: 'network', value: 'red' }] });
  t.equal((await later.get('network'))!.value, 'red');
});

t.test('whoever watches sees all of a dump that is put back, whatever its entries are marked with', async (t) => {
  const { embedded, store } = await open(t);
  const put = Array.from({ length: 2 * LIMIT }, (_, n) => ({
    key: `${n % 2 === 0 ? 'policy' : 'vip'}/${n}`,
    value: n,
  }));
  await store.transact({ put });
  const dump = (await embedded.list('')).entries;
  const done = dump.findIndex(({ key }) => key.startsWith('staged/done/'));
  t.ok(done > 0 && done < dump.length - 1, 'what says that they count is amid them');

  const { embedded: other, store: later } = await open(t);
  const seen = new Map<string, unknown>();
  let places = 0;
  const follow = async (): Promise<void> => {
    const { entries, revision } = await later.list('');
    for (const { key, value } of entries) seen.set(key, value);
    later.watch('', revision + 1, (event) => {
      if (event.kind === 'compacted') {
        places++;
        void follow();
      } else for (const { key, entry } of event.changes) seen.set(key, entry?.value);
    });
  };
  await follow();
  for (const { key, value } of dump) await other.transact({ put: [{ key, value }] });
  await until(() => seen.size === put.length, { what: 'all of them' });
  for (const { key, value } of put) t.equal(seen.get(key), value, key);
  t.equal(places, 1);
});

t.test(
  'not everything is read after each large transaction, and what records them is forgotten in the end',
  async (t) => {
    const { embedded, hooked, store } = await open(t);
    const done = async () => (await embedded.list('staged/done/')).entries.length;
    const listed: string[] = [];
    const list = hooked.list.bind(hooked);
    hooked.list = (prefix, ...more) => {
      listed.push(prefix);
      return list(prefix, ...more);
    };
    /** One that changes so many entries, of which others change them again. */
    const change = (of: string) =>
      store.transact({ put: Array.from({ length: 2 * LIMIT }, (_, n) => ({ key: `${of}/${n}`, value: { of, n } })) });
    for (let n = 0; n < 10; n++) await change('a');
    t.equal(listed.filter((prefix) => prefix === '').length, 0);
    for (let n = 0; n < 10; n++) await change('a');
    t.ok((await done()) < 10, `${await done()} are left`);
    for (let n = 0; n < 40; n++) await change(`b${n}`);
    listed.length = 0;
    for (let n = 40; n < 80; n++) await change(`b${n}`);
    t.ok(listed.filter((prefix) => prefix === '').length <= 2, 'also if all of them are of use');
    const { entries } = await store.list('');
    t.equal(entries.length, 81 * 2 * LIMIT);
    t.ok(entries.every(({ key, value }) => key.startsWith((value as { readonly of: string }).of)));
  },
);
