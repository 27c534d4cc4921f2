/**
 * The embedded store: with transactions of any size, and with a small limit of operations, so that files are staged.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { within } from '../../src/store/within.ts';
import type { Store } from '../../src/store/store.ts';
import { conformance, type StoreUnderTest } from './conformance.ts';

t.setTimeout(600_000);

/** Enough for everything that a test looks back to. */
const HISTORY = { steps: 250, lengthBytes: 1 << 30 };

/** Longer than any lease. */
const LONG_MS = 60_000;

function embedded(t: Test, operationLimit?: number): StoreUnderTest {
  const directory = mkdtempSync(join(tmpdir(), `weft-conformance-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const timers = new Set<{ atMs: number; work: () => void }>();
  let nowMs = 0;
  const after = (delayMs: number, work: () => void): (() => void) => {
    const timer = { atMs: nowMs + delayMs, work };
    timers.add(timer);
    return () => void timers.delete(timer);
  };
  const pass = (ms: number): void => {
    nowMs += ms;
    const due = [...timers].filter(({ atMs }) => atMs <= nowMs);
    for (const timer of due) timers.delete(timer);
    for (const { work } of due) work();
  };
  return {
    open: () =>
      openEmbeddedStore({
        directory: join(directory, 'state'),
        onWarning: (message) => t.fail(message),
        after,
        history: HISTORY,
        ...(operationLimit !== undefined && { operationLimit }),
      }),
    forget: async (store: Store) => {
      for (let n = 0; n <= HISTORY.steps; n++) await store.transact({ delete: ['never'] });
    },
    pass,
    expire: async () => pass(LONG_MS),
  };
}

/** A part of a store of which others use another part. */
function part(t: Test): StoreUnderTest {
  const under = embedded(t);
  return {
    ...under,
    open: async () => {
      const store = await under.open();
      await store.transact({ put: [{ key: 'other/k', value: 'of others' }] });
      return within(store, 'part/', () => store.close());
    },
  };
}

await t.test('any number of operations in a transaction', (t) => conformance(t, (t) => embedded(t)));
await t.test('a part of a store', (t) => conformance(t, (t) => part(t)));
// etcd has 128 by default.
await t.test('128 operations', (t) => conformance(t, (t) => embedded(t, 128)));
