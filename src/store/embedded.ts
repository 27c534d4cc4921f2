/**
 * The store of one host: a directory with one file, `journal`, and all of it in
 * memory. journal.ts has the format, journal-file.ts the file.
 *
 *   open:      lock the directory; read the journal
 *   transact:  wait in the queue → one batch of all that waits: check, append,
 *              sync → memory → watches → resolve. One sync for many (group commit).
 *   compact:   when more was appended than the snapshot and a megabyte have
 *
 * A change is in memory only when it is durable. After an append that failed the
 * store goes on; where nobody knows what the disk holds, nothing is written any more.
 *
 * Only the process that opened the store holds leases of it, so they end with that
 * process: what is still attached to a lease when the store is opened is not there
 * any more.
 */
import { resolve } from 'node:path';
import { WeftError } from '../error.ts';
import { deepFreeze } from './frozen.ts';
import { History, type HistoryLimits } from './history.ts';
import { createDirectory, JournalFile } from './journal-file.ts';
import type { JournalTransaction } from './journal.ts';
import { lockDirectory, type LockDescriptors } from './lock.ts';
import {
  conflictError,
  type Change,
  type Entry,
  type Expectation,
  type KnownKey,
  type Listing,
  type Put,
  type Store,
  type StoreHealth,
  type Transaction,
  type WatchEvent,
} from './store.ts';

export interface EmbeddedStoreOptions {
  /** Created with mode 0700 if it does not exist. */
  readonly directory: string;
  readonly onWarning: (message: string) => void;
  /** For the lock of the directory. */
  readonly descriptors?: LockDescriptors | undefined;
  /** Does something later, for leases; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
  /** The most operations of one transaction; without it there is no limit. */
  readonly operationLimit?: number;
  /** The most bytes of keys and values that `unlimited` puts into one transaction; without it there is no limit. */
  readonly lengthLimitBytes?: number;
  /** How much of what was changed is remembered. */
  readonly history?: HistoryLimits;
}

/**
 * @throws WeftError `conflict` when another process has the directory, `state` when the journal is damaged or of a
 * newer version (it is left as it is), `system` when the directory cannot be used.
 */
export async function openEmbeddedStore(options: EmbeddedStoreOptions): Promise<Store> {
  const directory = resolve(options.directory);
  try {
    await createDirectory(directory);
    const unlock = lockDirectory(directory, options.descriptors);
    try {
      const { file, snapshot, transactions, isOld } = await JournalFile.open(directory, options.onWarning);
      const entries = new Map(snapshot.entries.map((entry) => [entry.key, deepFreeze(entry)]));
      for (const transaction of transactions) applyTo(entries, transaction);
      const revision = transactions.at(-1)?.revision ?? snapshot.revision;
      for (const { key, lease } of [...entries.values()]) if (lease !== undefined) entries.delete(key);
      if (isOld) await file.replace({ revision, entries: [...entries.values()] });
      return new EmbeddedStore({ ...options, directory }, unlock, file, entries, revision);
    } catch (error) {
      unlock();
      throw error;
    }
  } catch (error) {
    if (error instanceof WeftError) throw error;
    const message = `state directory ${directory} cannot be used: ${(error as Error).message}: choose another with --state`;
    throw new WeftError('system', message, { cause: error });
  }
}

/** A directory has one history, as long as a process has it open. */
const HISTORY = 'embedded';

/** A write that waits: a transaction, or the end of a lease. */
interface Waiting {
  readonly expect: readonly Expectation[];
  readonly put: readonly Put[];
  readonly delete: readonly string[];
  /** A lease that ends, with all entries that it has by then. */
  readonly revoke?: string;
  /** Length of the values as JSON. */
  readonly lengthBytes: number;
  readonly resolve: (revision: number) => void;
  readonly reject: (error: Error) => void;
}

/** A write that was accepted, and is to be written. */
interface Accepted {
  readonly transaction: JournalTransaction;
  readonly waiting: Waiting;
}

interface Lease {
  readonly ttlMs: number;
  cancelExpiry: () => void;
}

interface Watcher {
  readonly prefix: string;
  readonly listener: (event: WatchEvent) => void;
  /** The next revision that it must be told. */
  next: number;
}

class EmbeddedStore implements Store {
  readonly operationLimit: number;
  readonly lengthLimitBytes: number;
  readonly #options: EmbeddedStoreOptions;
  #unlock: () => void;
  readonly #file: JournalFile;
  readonly #entries: Map<string, Entry>;
  readonly #history: History;
  readonly #leases = new Map<string, Lease>();
  #grants = 0;
  readonly #watchers = new Set<Watcher>();
  #closing: Promise<void> | undefined;
  #closed: WeftError | undefined;
  #queue: Waiting[] = [];
  /** Resolves when the current write is done; undefined if nothing is being written. */
  #writing: Promise<void> | undefined;

  constructor(
    options: EmbeddedStoreOptions,
    unlock: () => void,
    file: JournalFile,
    entries: Map<string, Entry>,
    revision: number,
  ) {
    this.#options = options;
    this.operationLimit = options.operationLimit ?? Infinity;
    this.lengthLimitBytes = options.lengthLimitBytes ?? Infinity;
    this.#unlock = unlock;
    this.#file = file;
    this.#entries = entries;
    this.#history = new History(revision, options.history);
  }

  async get(key: string): Promise<Entry | undefined> {
    return this.#entries.get(key);
  }

  async list(prefix: string, at = this.#history.revision, knownKey: KnownKey = () => undefined): Promise<Listing> {
    const entries = this.#history.entriesAt(at, this.#entries);
    if (!entries) {
      throw new WeftError(
        'not_found',
        `what state directory ${this.#options.directory} had at revision ${at} is forgotten`,
      );
    }
    const found: Entry[] = [];
    const known: string[] = [];
    for (const entry of entries.values()) {
      if (!entry.key.startsWith(prefix)) continue;
      const key = knownKey(entry.key, entry.revision);
      if (key !== undefined) known.push(key);
      else found.push(entry);
    }
    return { revision: at, history: HISTORY, entries: found.sort((a, b) => (a.key < b.key ? -1 : 1)), known };
  }

  transact({ expect = [], put = [], delete: deleted = [] }: Transaction): Promise<number> {
    return new Promise((resolve, reject) => {
      const changed = [...put.map(({ key }) => key), ...deleted];
      if (new Set(changed).size < changed.length) {
        throw new WeftError('internal', `a transaction changes a key twice: ${changed.join(', ')}`);
      }
      if (Math.max(expect.length, changed.length) > this.operationLimit) {
        const counts = `${changed.length} changes and ${expect.length} expectations`;
        throw new WeftError('internal', `a transaction has ${counts}, and ${this.operationLimit} are possible`);
      }
      const copied = put.map((one) => jsonCopy(one));
      this.#enqueue({
        expect: expect.map(({ key, revision }) => ({ key, revision })),
        put: copied.map(({ put: one }) => one),
        delete: [...deleted],
        lengthBytes: copied.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
        resolve,
        reject,
      });
    });
  }

  watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void {
    const watcher: Watcher = { prefix, listener, next: from };
    this.#watchers.add(watcher);
    queueMicrotask(() => this.#tell(watcher));
    return () => void this.#watchers.delete(watcher);
  }

  async grant(ttlMs: number): Promise<string> {
    if (this.#closed) throw this.#closed;
    // A lease with entries has moved the revision, so no later process counts from the same revision.
    const id = `${this.#history.revision}-${++this.#grants}`;
    this.#leases.set(id, { ttlMs, cancelExpiry: this.#expire(id, ttlMs) });
    return id;
  }

  async keepAlive(id: string): Promise<void> {
    const lease = this.#leases.get(id);
    if (!lease) throw endedError(id);
    lease.cancelExpiry();
    lease.cancelExpiry = this.#expire(id, lease.ttlMs);
  }

  async revoke(id: string): Promise<void> {
    if (!this.#leases.has(id)) return;
    await new Promise<number>((resolve, reject) => {
      this.#enqueue({ expect: [], put: [], delete: [], revoke: id, lengthBytes: 0, resolve, reject });
    });
  }

  health(): StoreHealth {
    return { isReachable: true };
  }

  onHealth(): () => void {
    return () => {};
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    await this.#writing;
    this.#closed = new WeftError('conflict', `state directory ${this.#options.directory} is closed`);
    for (const { cancelExpiry } of this.#leases.values()) cancelExpiry();
    this.#leases.clear();
    this.#watchers.clear();
    await this.#file.close();
    this.#unlock();
  }

  #expire(id: string, ttlMs: number): () => void {
    return this.#options.after(ttlMs, () => {
      this.revoke(id).catch((error: Error) => {
        const lease = this.#leases.get(id);
        if (!lease) return;
        const { directory, onWarning } = this.#options;
        onWarning(`state directory ${directory}: what an ended lease held is removed later: ${error.message}`);
        lease.cancelExpiry = this.#expire(id, ttlMs);
      });
    });
  }

  /** @throws WeftError if nothing can be written any more */
  #enqueue(waiting: Waiting): void {
    const refused = this.#closed ?? this.#file.broken;
    if (refused) throw refused;
    this.#queue.push(waiting);
    this.#writing ??= this.#drain();
  }

  async #drain(): Promise<void> {
    // What the caller asks for right after this call still joins the first batch.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const waiting = this.#queue;
      this.#queue = [];
      await this.#commit(waiting);
      if (this.#file.isLong && !this.#file.broken) await this.#compact();
    }
    this.#writing = undefined;
  }

  async #commit(waiting: readonly Waiting[]): Promise<void> {
    const accepted = this.#check(waiting);
    try {
      if (this.#file.broken) throw this.#file.broken;
      if (accepted.length > 0 && !this.#file.isThere()) await this.#putBack();
      if (accepted.length > 0) await this.#file.append(accepted.map(({ transaction }) => transaction));
    } catch (error) {
      for (const { waiting: one } of accepted) one.reject(error as Error);
      return;
    }
    for (const { transaction, waiting: one } of accepted) {
      this.#history.add(applyTo(this.#entries, transaction), one.lengthBytes);
      if (one.revoke !== undefined) this.#end(one.revoke);
    }
    for (const watcher of this.#watchers) this.#tell(watcher);
    for (const { transaction, waiting: one } of accepted) one.resolve(transaction.revision);
  }

  /** Each transaction sees what those before it do. Rejects those whose expectations fail. */
  #check(waiting: readonly Waiting[]): Accepted[] {
    const accepted: Accepted[] = [];
    const changed = new Map<string, { readonly revision: number; readonly lease: string | undefined }>();
    const ended = new Set<string>();
    for (const one of waiting) {
      const revision = this.#history.revision + accepted.length + 1;
      const refused = this.#refusal(one, (key) => changed.get(key)?.revision, ended);
      if (refused) {
        one.reject(refused);
        continue;
      }
      if (one.revoke !== undefined) ended.add(one.revoke);
      const deleted = one.revoke === undefined ? one.delete : this.#attachedTo(one.revoke, changed);
      for (const { key, lease } of one.put) changed.set(key, { revision, lease });
      for (const key of deleted) changed.set(key, { revision: 0, lease: undefined });
      accepted.push({ transaction: { revision, put: one.put, delete: deleted }, waiting: one });
    }
    return accepted;
  }

  /** @param changedIn the revision of a key that this batch changes @param ended leases that this batch ends */
  #refusal(
    { expect, put }: Waiting,
    changedIn: (key: string) => number | undefined,
    ended: ReadonlySet<string>,
  ): WeftError | undefined {
    for (const { key, revision } of expect) {
      const actual = changedIn(key) ?? this.#entries.get(key)?.revision ?? 0;
      if (actual !== revision) return conflictError(key, actual, revision);
    }
    const lost = put.find(({ lease }) => lease !== undefined && (!this.#leases.has(lease) || ended.has(lease)));
    return lost && endedError(lost.lease!);
  }

  /** The keys of a lease, with those that this batch attaches or detaches. */
  #attachedTo(id: string, changed: ReadonlyMap<string, { readonly lease: string | undefined }>): string[] {
    const before = [...this.#entries.values()].filter(({ key, lease }) => lease === id && !changed.has(key));
    const since = [...changed].filter(([, { lease }]) => lease === id);
    return [...before.map(({ key }) => key), ...since.map(([key]) => key)];
  }

  #end(id: string): void {
    this.#leases.get(id)?.cancelExpiry();
    this.#leases.delete(id);
  }

  #tell(watcher: Watcher): void {
    const steps = this.#history.since(watcher.next);
    if (!steps) {
      if (this.#watchers.delete(watcher)) watcher.listener({ kind: 'compacted' });
      return;
    }
    for (const { revision, changes } of steps) {
      if (!this.#watchers.has(watcher)) return;
      watcher.next = revision + 1;
      const told: Change[] = changes
        .filter(({ key }) => key.startsWith(watcher.prefix))
        .map(({ key, entry }) => ({ key, entry }));
      if (told.length > 0) watcher.listener({ kind: 'changes', revision, changes: told });
    }
  }

  #replace(): Promise<void> {
    return this.#file.replace({ revision: this.#history.revision, entries: [...this.#entries.values()] });
  }

  /** Somebody has deleted the journal, or its directory: all of it is still in memory. */
  async #putBack(): Promise<void> {
    const { directory, onWarning } = this.#options;
    try {
      await createDirectory(directory);
      // The lock is the directory's, and this may be another one.
      this.#unlock();
      this.#unlock = () => {};
      this.#unlock = lockDirectory(directory, this.#options.descriptors);
      await this.#replace();
    } catch (error) {
      if (error instanceof WeftError) throw error;
      const message = `state directory ${directory} was deleted, and cannot be made again: ${(error as Error).message}`;
      throw new WeftError('system', message, { cause: error });
    }
    onWarning(`state directory ${directory}: its journal had been deleted, and is written again`);
  }

  async #compact(): Promise<void> {
    try {
      await this.#replace();
    } catch (error) {
      const { directory, onWarning } = this.#options;
      onWarning(`state directory ${directory}: its journal was not compacted: ${(error as Error).message}`);
    }
  }
}

function endedError(lease: string): WeftError {
  return new WeftError('not_found', `lease ${lease} has ended`);
}

/** @returns what it changed; a deleted key that had no entry is not included */
function applyTo(
  entries: Map<string, Entry>,
  { revision, put, delete: deleted }: JournalTransaction,
): (Change & { readonly before: Entry | undefined })[] {
  const changes: (Change & { readonly before: Entry | undefined })[] = [];
  for (const { key, value, lease } of put) {
    const before = entries.get(key);
    const entry = deepFreeze({ key, value, revision, ...(lease !== undefined && { lease }) });
    entries.set(key, entry);
    changes.push({ key, entry, before });
  }
  for (const key of deleted) {
    const before = entries.get(key);
    if (entries.delete(key)) changes.push({ key, entry: undefined, before });
  }
  return changes;
}

function jsonCopy({ key, value, lease }: Put): { readonly put: Put; readonly lengthBytes: number } {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new WeftError('internal', `the value of "${key}" is not JSON`);
  return { put: { key, value: JSON.parse(text), ...(lease !== undefined && { lease }) }, lengthBytes: text.length };
}
