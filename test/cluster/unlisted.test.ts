/** What is known and a listing does not have is found, one by one, whatever happens while the two are compared. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { SharedState } from '../../src/cluster/feed/shared-state.ts';
import { eachUnlisted } from '../../src/cluster/feed/unlisted.ts';
import type { Entry, Listing } from '../../src/store/store.ts';
import { openStore } from './control-plane.ts';

const RECORDS = 2000;

/** A host that knows some records, and a listing that has them all: every second one as known. */
async function opened(t: Test) {
  const directory = mkdtempSync(join(tmpdir(), 'weft-unlisted-'));
  const own = await openStore(t);
  const copyFile = join(directory, 'copy');
  const state = await SharedState.open({ host: 'here', own, copyFile, onWarning: (message) => t.fail(message) });
  t.teardown(async () => {
    await state.close();
    rmSync(directory, { recursive: true });
  });
  const all = Array.from({ length: RECORDS }, (_, n): Entry => ({ key: `e${n}`, value: { n }, revision: n + 1 }));
  for (const entry of all) state.take({ key: entry.key, entry });
  const listing = (there: readonly Entry[]): Listing => ({
    revision: RECORDS,
    history: '',
    known: there.filter(({ revision }) => revision % 2 === 0).map(({ key }) => key),
    entries: there.filter(({ revision }) => revision % 2 === 1),
  });
  const unlisted = async (there: readonly Entry[]): Promise<string[]> => {
    const found = new Set<string>();
    await eachUnlisted(state, listing(there), (key) => void found.add(key));
    return [...found].sort();
  };
  return { state, all, unlisted };
}

t.test('nothing is missing', async (t) => {
  const { all, unlisted } = await opened(t);
  t.same(await unlisted(all), []);
});

t.test('what is listed and not known does not stand for what is missing', async (t) => {
  const { all, unlisted } = await opened(t);
  const other: Entry = { key: 'other', value: {}, revision: RECORDS + 1 };
  t.same(await unlisted([other, ...all.slice(1)]), ['e0']);
  t.same(await unlisted(all.slice(0, -2)), [`e${RECORDS - 2}`, `e${RECORDS - 1}`]);
});

t.test('what is removed after it was counted does not stand for what is missing', async (t) => {
  const { state, all, unlisted } = await opened(t);
  const finding = unlisted(all.filter(({ key }) => key !== 'e7'));
  // Known ones are counted first, in several turns.
  await new Promise((resolve) => setImmediate(resolve));
  state.take({ key: 'e1', entry: undefined });
  t.same(await finding, ['e7']);
});

t.test('what is held or waits to be written is found, although it is not known', async (t) => {
  const { state, all, unlisted } = await opened(t);
  state.hold('held', undefined);
  t.same(await unlisted(all), ['held']);
});
