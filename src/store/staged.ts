/**
 * Staging: transactions of any size, on a store that limits the number of operations.
 *
 *   1. staged/open/ID is created with a lease; ID is under way as long as it exists
 *   2. each entry is replaced by a record of what it was and what it will be, marked with ID, in as
 *      many transactions as that takes
 *   3. one transaction deletes staged/open/ID and puts staged/done/ID: everything becomes visible at
 *      once, at the revision of this transaction
 *
 * Which of the two keys exists tells the state of ID. If neither does, the transaction was given up
 * because its writer died or was refused. For a marked entry, readers see what it will be if ID is
 * done, and otherwise what it was, so they never see a part of a transaction. Marked entries stay as
 * they are until they are written again.
 *
 * A writer that finds an entry marked by another ID under way is refused, as by any other change.
 * Entries are marked in the order of their keys, so of two writers with entries in common, one
 * always makes progress.
 *
 * A transaction that fits the limit is passed on as a single transaction.
 */
import { WeftError } from '../error.ts';
import { eachInTurns } from '../turns.ts';
import { StoreOnAnother } from './on-another.ts';
import {
  conflictError,
  type Entry,
  type KnownKey,
  type Listing,
  type Put,
  type Store,
  type Transaction,
  type WatchEvent,
} from './store.ts';
import { DONE, isStagingKey, MARK, markedWith, OPEN, STAGED, StagedIds, visible, type Marked } from './staged-ids.ts';
import { watchStaged } from './staged-watch.ts';

/** How long a writer that died can hold up others. */
const LEASE_MS = 15_000;
/** How many entries of a listing are looked at in one turn of the event loop. */
const LOOKED_AT_PER_TURN = 4096;
/** How often a transaction without expectations is tried while others change the same entries. */
const ATTEMPTS = 20;
/** How many `done` keys there have to be until it is looked which of them are of no use any more: everything is read for that. */
const MOST_DONE = 16;

/** Makes a store without a limit. */
export function unlimited(store: Store): Store {
  return Math.min(store.operationLimit, store.lengthLimitBytes) === Infinity ? store : new StagedStore(store);
}

/** An entry as it is stored, and as readers see it. */
interface Read {
  readonly stored: number;
  readonly seen: Entry | undefined;
}

class StagedStore extends StoreOnAnother {
  readonly operationLimit = Infinity;
  readonly lengthLimitBytes = Infinity;
  /** How many `done` keys were of use when that was looked at last. */
  #used = 0;

  async get(key: string): Promise<Entry | undefined> {
    const entry = await this.store.get(key);
    if (markedWith(entry) === undefined) return entry;
    return (await this.list(key)).entries.find((one) => one.key === key);
  }

  /** Nobody knows a marked entry by the revision that marked it: readers see it at another one, or not at all. */
  async list(prefix: string, at?: number, knownKey?: KnownKey): Promise<Listing> {
    const seenKey: KnownKey | undefined =
      knownKey && ((key, written) => (isStagingKey(key) ? undefined : knownKey(key, written)));
    const listing = await this.store.list(prefix, at, seenKey);
    const { revision, history, known } = listing;
    const stored: Entry[] = [];
    let isMarked = false;
    await eachInTurns(listing.entries, LOOKED_AT_PER_TURN, (entry) => {
      if (isStagingKey(entry.key)) return;
      stored.push(entry);
      isMarked ||= markedWith(entry) !== undefined;
    });
    if (!isMarked) return { revision, history, entries: stored, known };
    const { doneAt } = new StagedIds((await this.store.list(STAGED, revision)).entries);
    const entries: Entry[] = [];
    await eachInTurns(stored, LOOKED_AT_PER_TURN, (entry) => {
      const seen = visible(entry, doneAt.get(markedWith(entry) ?? ''));
      if (seen) entries.push(seen);
    });
    return { revision, history, entries, known };
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
      if (batches(keys, this.store).length > 1 || batches(put, this.store).length > 1) {
        return this.#stage(transaction, keys, read);
      }
      const expectations = keys.map((key) => ({ key, revision: read.get(key)!.stored }));
      try {
        return await this.store.transact({ expect: expectations, put, delete: deleted });
      } catch (error) {
        // Only what the caller expected is compared again. Anything else may have changed.
        if (!isConflict(error) || attempt === ATTEMPTS) throw error;
      }
    }
  }

  watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void {
    return watchStaged(this.store, prefix, from, listener);
  }

  close(): Promise<void> {
    return this.store.close();
  }

  /** @throws WeftError('conflict') if a larger transaction is changing one of them */
  async #read(keys: readonly string[]): Promise<Map<string, Read>> {
    const entries = await Promise.all(keys.map((key) => this.store.get(key)));
    const isMarked = entries.some((entry) => markedWith(entry) !== undefined);
    const { open, doneAt } = new StagedIds(isMarked ? (await this.store.list(STAGED)).entries : []);
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
    const id = await this.store.grant(LEASE_MS);
    const marked = marks(id, keys, read, new Map(put.map((one) => [one.key, one])), new Set(deleted));
    const written: Put[] = [];
    let revision: number;
    try {
      const open = { key: `${OPEN}${id}`, value: {}, lease: id };
      const opened = await this.store.transact({ expect: [{ key: open.key, revision: 0 }], put: [open] });
      for (const batch of batches(marked, this.store)) {
        const expect = batch.map(({ key }) => ({ key, revision: read.get(key)!.stored }));
        await this.store.transact({ expect, put: batch });
        written.push(...batch);
        await this.store.keepAlive(id);
      }
      revision = await this.store.transact({
        expect: [{ key: open.key, revision: opened }],
        put: [{ key: `${DONE}${id}`, value: {} }],
        delete: [open.key],
      });
    } catch (error) {
      // The answer may have been lost, and not the write.
      const doneAt = await this.#giveUp(id).catch(() => Promise.reject(error as Error));
      if (doneAt === undefined) {
        await this.#tidy(written, false);
        throw error;
      }
      revision = doneAt;
    }
    await this.store.revoke(id).catch(() => {}); // the lease ends by itself
    await this.#tidy(written, true);
    await this.#forgetDone().catch(() => {}); // the next transaction tries again
    return revision;
  }

  /**
   * Gives ID up unless it is done. @returns the revision at which it was done @throws WeftError if neither is known; then
   * it is given up when its lease ends
   */
  async #giveUp(id: string): Promise<number | undefined> {
    await this.store.revoke(id);
    return (await this.store.get(`${DONE}${id}`))?.revision;
  }

  /** Deletes `done` keys whose ID no entry is marked with any more, once there are twice as many as were of use the last time. */
  async #forgetDone(): Promise<void> {
    const done = (await this.store.list(DONE)).entries.length;
    if (done < Math.max(MOST_DONE, 2 * this.#used)) return;
    const { entries } = await this.store.list('');
    const used = new Set(entries.map(markedWith));
    const all = entries.filter(({ key }) => key.startsWith(DONE));
    const unused = all.filter(({ key }) => !used.has(key.slice(DONE.length)));
    this.#used = all.length - unused.length;
    for (const batch of batches(
      unused.map(({ key }) => key),
      this.store,
    )) {
      await this.store.transact({ delete: batch });
    }
  }

  /** Removes marked entries that nobody sees. Leaving some behind does no harm. */
  async #tidy(marked: readonly Put[], isDone: boolean): Promise<void> {
    const unseen = marked.filter(({ key, value }) => !visible({ key, value, revision: 1 }, isDone ? 1 : undefined));
    for (const batch of batches(unseen, this.store)) {
      const entries = await Promise.all(batch.map(({ key }) => this.store.get(key)));
      const own = entries.flatMap((entry, at) =>
        entry && markedWith(entry) === markedWith({ ...entry, value: batch[at]!.value }) ? [entry] : [],
      );
      const expect = own.map(({ key, revision }) => ({ key, revision }));
      await this.store.transact({ expect, delete: own.map(({ key }) => key) }).catch(() => {});
    }
  }
}

/** The records that replace the entries while ID is under way. */
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

/** Cuts what a transaction changes, or only keys, into parts that the store takes. */
function batches<T extends string | Put>(items: readonly T[], { operationLimit, lengthLimitBytes }: Store): T[][] {
  const made: T[][] = [];
  let lengthBytes = Infinity;
  for (const item of items) {
    const length = lengthLimitBytes === Infinity ? 0 : lengthOf(item);
    lengthBytes += length;
    const last = made.at(-1);
    if (last && last.length < operationLimit && lengthBytes <= lengthLimitBytes) {
      last.push(item);
      continue;
    }
    made.push([item]);
    lengthBytes = length;
  }
  return made;
}

function lengthOf(item: string | Put): number {
  if (typeof item === 'string') return Buffer.byteLength(item);
  return Buffer.byteLength(item.key) + Buffer.byteLength(JSON.stringify(item.value) ?? '');
}
