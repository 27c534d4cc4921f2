/**
 * Staging: transactions of any size on a store that limits their operations.
 *
 *   1. staged/open/ID appears, with a lease: ID is under way while it exists
 *   2. each entry is replaced by what it was and what it will be, marked with ID,
 *      in as many transactions as it takes
 *   3. one transaction deletes staged/open/ID and puts staged/done/ID: all of it
 *      is visible at once, and that is its revision
 *
 * The state of ID is which of the two keys exists; neither means that it was given up,
 * since its writer died or was refused. Readers see of a marked entry what it will be
 * where ID is done, and what it was otherwise; so there is never a part of it. Marked
 * entries are left as they are until they are written again.
 *
 * A writer that meets a marked entry of another ID that is under way is refused, as by
 * any other change. Entries are marked in the order of their keys: of two writers that
 * have entries in common, one goes on.
 *
 * Transactions that fit the limit are one transaction of the store below.
 */
import { WeftError } from '../error.ts';
import {
  conflictError,
  type Entry,
  type Listing,
  type Put,
  type Store,
  type Transaction,
  type WatchEvent,
} from './store.ts';
import { DONE, isStagingKey, MARK, markedWith, OPEN, STAGED, StagedIds, visible, type Marked } from './staged-ids.ts';
import { watchStaged } from './staged-watch.ts';

/** How long a writer that died holds up others. */
const LEASE_MS = 15_000;
/** How often a transaction without expectations is tried while others change the same entries. */
const ATTEMPTS = 20;

/** A store without a limit. */
export function unlimited(store: Store): Store {
  return store.operationLimit === Infinity ? store : new StagedStore(store);
}

/** An entry as it is stored, and as it is seen. */
interface Read {
  readonly stored: number;
  readonly seen: Entry | undefined;
}

class StagedStore implements Store {
  readonly operationLimit = Infinity;
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  async get(key: string): Promise<Entry | undefined> {
    const entry = await this.#store.get(key);
    if (markedWith(entry) === undefined) return entry;
    return (await this.list(key)).entries.find((one) => one.key === key);
  }

  async list(prefix: string, at?: number): Promise<Listing> {
    const { revision, entries } = await this.#store.list(prefix, at);
    const seen = entries.filter(({ key }) => !isStagingKey(key));
    if (!seen.some((entry) => markedWith(entry) !== undefined)) return { revision, entries: seen };
    const { doneAt } = new StagedIds((await this.#store.list(STAGED, revision)).entries);
    return { revision, entries: seen.flatMap((entry) => visible(entry, doneAt.get(markedWith(entry) ?? '')) ?? []) };
  }

  async transact(transaction: Transaction): Promise<number> {
    const { expect = [], put = [], delete: deleted = [] } = transaction;
    const keys = [...new Set([...expect, ...put].map(({ key }) => key).concat(deleted))].sort();
    for (let attempt = 1; ; attempt++) {
      const read = await this.#read(keys);
      for (const { key, revision } of expect) {
        const actual = read.get(key)!.seen?.revision ?? 0;
        if (actual !== revision) throw conflictError(key, actual, revision);
      }
      if (keys.length > this.#store.operationLimit) return this.#stage(transaction, keys, read);
      const expectations = keys.map((key) => ({ key, revision: read.get(key)!.stored }));
      try {
        return await this.#store.transact({ expect: expectations, put, delete: deleted });
      } catch (error) {
        // What was expected is compared again; what was not may be as it likes.
        if (!isConflict(error) || attempt === ATTEMPTS) throw error;
      }
    }
  }

  watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void {
    return watchStaged(this.#store, prefix, from, listener);
  }

  grant(ttlMs: number): Promise<string> {
    return this.#store.grant(ttlMs);
  }

  keepAlive(lease: string): Promise<void> {
    return this.#store.keepAlive(lease);
  }

  revoke(lease: string): Promise<void> {
    return this.#store.revoke(lease);
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  /** @throws WeftError('conflict') where one of them is being changed by a larger transaction */
  async #read(keys: readonly string[]): Promise<Map<string, Read>> {
    const entries = await Promise.all(keys.map((key) => this.#store.get(key)));
    const isMarked = entries.some((entry) => markedWith(entry) !== undefined);
    const { open, doneAt } = new StagedIds(isMarked ? (await this.#store.list(STAGED)).entries : []);
    return new Map(
      keys.map((key, at) => {
        const entry = entries[at];
        const id = markedWith(entry) ?? '';
        if (open.has(id)) {
          throw new WeftError('conflict', `"${key}" is being changed by a larger change that is under way: try again`);
        }
        return [key, { stored: entry?.revision ?? 0, seen: entry && visible(entry, doneAt.get(id)) }];
      }),
    );
  }

  async #stage(
    { put = [], delete: deleted = [] }: Transaction,
    keys: readonly string[],
    read: ReadonlyMap<string, Read>,
  ): Promise<number> {
    if (put.some(({ lease }) => lease !== undefined)) {
      throw new WeftError('internal', 'what is put with a lease has to fit into one transaction');
    }
    const id = await this.#store.grant(LEASE_MS);
    const marked = marks(id, keys, read, new Map(put.map((one) => [one.key, one])), new Set(deleted));
    const written: Put[] = [];
    let revision: number;
    try {
      const open = { key: `${OPEN}${id}`, value: {}, lease: id };
      const opened = await this.#store.transact({ expect: [{ key: open.key, revision: 0 }], put: [open] });
      for (const batch of chunks(marked, this.#store.operationLimit)) {
        const expect = batch.map(({ key }) => ({ key, revision: read.get(key)!.stored }));
        await this.#store.transact({ expect, put: batch });
        written.push(...batch);
        await this.#store.keepAlive(id);
      }
      revision = await this.#store.transact({
        expect: [{ key: open.key, revision: opened }],
        put: [{ key: `${DONE}${id}`, value: {} }],
        delete: [open.key],
      });
    } catch (error) {
      await this.#store.revoke(id).catch(() => {}); // it ends by itself
      await this.#tidy(written, false);
      throw error;
    }
    await this.#store.revoke(id).catch(() => {});
    await this.#tidy(written, true);
    await this.#forgetDone().catch(() => {}); // the next one does
    return revision;
  }

  /** What no entry is marked with any more needs no key that says that it is done. */
  async #forgetDone(): Promise<void> {
    const { entries } = await this.#store.list('');
    const used = new Set(entries.map(markedWith));
    const unused = entries.filter(({ key }) => key.startsWith(DONE) && !used.has(key.slice(DONE.length)));
    for (const batch of chunks(unused, this.#store.operationLimit)) {
      await this.#store.transact({ delete: batch.map(({ key }) => key) });
    }
  }

  /** Removes marked entries that nobody sees. What stays behind is no harm. */
  async #tidy(marked: readonly Put[], isDone: boolean): Promise<void> {
    const unseen = marked.filter(({ key, value }) => !visible({ key, value, revision: 1 }, isDone ? 1 : undefined));
    for (const batch of chunks(unseen, this.#store.operationLimit)) {
      const entries = await Promise.all(batch.map(({ key }) => this.#store.get(key)));
      const own = entries.flatMap((entry, at) =>
        entry && markedWith(entry) === markedWith({ ...entry, value: batch[at]!.value }) ? [entry] : [],
      );
      const expect = own.map(({ key, revision }) => ({ key, revision }));
      await this.#store.transact({ expect, delete: own.map(({ key }) => key) }).catch(() => {});
    }
  }
}

/** What replaces the entries while ID is under way. */
function marks(
  id: string,
  keys: readonly string[],
  read: ReadonlyMap<string, Read>,
  put: ReadonlyMap<string, Put>,
  deleted: ReadonlySet<string>,
): Put[] {
  return keys.map((key) => {
    const { seen } = read.get(key)!;
    const one = put.get(key);
    const value: Marked = {
      [MARK]: id,
      ...(seen && { before: { value: seen.value, revision: seen.revision } }),
      ...(one && { after: { value: one.value } }),
      ...(!one && !deleted.has(key) && { isRead: true }),
    };
    return { key, value };
  });
}

function isConflict(error: unknown): boolean {
  return error instanceof WeftError && error.code === 'conflict';
}

function chunks<T>(items: readonly T[], most: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / most) }, (_, n) => items.slice(n * most, (n + 1) * most));
}
