/**
 * The store of one host: a directory with one file, `journal`, and all of it in
 * memory. journal.ts has the format.
 *
 *   open:      lock the directory; read the journal, set a torn end aside
 *   transact:  wait in the queue → one batch of all that waits: check, append,
 *              sync → memory → resolve. One sync for many (group commit).
 *   compact:   when more was appended than the snapshot and COMPACT_BYTES have:
 *              write a new journal beside it, sync, rename, sync the directory
 *
 * A change is in memory only when it is durable. After an append that failed
 * the journal is cut back, and the store goes on; where even that fails (or a
 * sync: what the disk holds is not known then) nothing is written any more.
 */
import { constants, closeSync, fsyncSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { open, rename, type FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { WeftError } from '../error.ts';
import {
  decode,
  encodeBatch,
  encodeSnapshot,
  FORMAT,
  keysIn,
  type JournalTransaction,
  type Snapshot,
} from './journal.ts';
import { lockDirectory } from './lock.ts';
import type { Entry, Store, Transaction } from './store.ts';

export interface EmbeddedStoreOptions {
  /** Created with mode 0700 if it does not exist. */
  readonly directory: string;
  readonly onWarning: (message: string) => void;
}

const COMPACT_BYTES = 1 << 20;

/**
 * @throws WeftError `conflict` when another process has the directory, `state` when the journal is damaged or of a
 * newer version (it is left as it is), `system` when the directory cannot be used.
 */
export async function openEmbeddedStore({ directory: given, onWarning }: EmbeddedStoreOptions): Promise<Store> {
  const directory = resolve(given);
  try {
    createDirectory(directory);
    const unlock = lockDirectory(directory);
    try {
      return new EmbeddedStore(directory, onWarning, unlock, await load(directory, onWarning));
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

interface Loaded {
  readonly entries: Map<string, Entry>;
  readonly revision: number;
  readonly file: FileHandle;
  readonly snapshotBytes: number;
  readonly lengthBytes: number;
}

async function load(directory: string, onWarning: (message: string) => void): Promise<Loaded> {
  const path = join(directory, 'journal');
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const created = await replaceJournal(directory, { revision: 0, entries: [] });
    return { entries: new Map(), revision: 0, snapshotBytes: created.lengthBytes, ...created };
  }

  const decoded = decode(bytes);
  switch (decoded.kind) {
    case 'damaged':
      throw damageError(directory, bytes, decoded);
    case 'newer':
      throw new WeftError(
        'state',
        `state directory ${directory} was written by a newer version of weft (format ${decoded.format}, this one reads ${FORMAT})`,
      );
    case 'sound':
      break;
    default:
      decoded satisfies never;
  }
  const { snapshot, transactions, lengthBytes } = decoded;
  const entries = new Map(snapshot.entries.map((entry) => [entry.key, deepFreeze(entry)]));
  for (const transaction of transactions) applyTo(entries, transaction);

  const torn = bytes.length - lengthBytes;
  const file = await open(path, 'r+');
  try {
    if (torn > 0) {
      const record = bytes.subarray(lengthBytes);
      const aside = await setAside(path, record, lengthBytes);
      await file.truncate(lengthBytes);
      const what = ofKeys(record);
      onWarning(
        `state directory ${directory}: the last change${what} was not written to its end, and is not made; its ${torn} bytes are ${aside}`,
      );
    }
    // What was read may not have been synced before a crash, and is acted upon from here on.
    await file.sync();
    syncDirectory(directory);
  } catch (error) {
    await file.close();
    throw error;
  }
  const revision = transactions.at(-1)?.revision ?? snapshot.revision;
  return { entries, revision, file, lengthBytes, snapshotBytes: encodeSnapshot(snapshot).length };
}

/** It is left as it is: who mends it decides what is given up. */
function damageError(
  directory: string,
  bytes: Buffer,
  { atByte, isLast }: { atByte: number; isLast: boolean },
): WeftError {
  const end = bytes.indexOf('\n', atByte) + 1 || bytes.length;
  const what = ofKeys(bytes.subarray(atByte, end));
  const journal = join(directory, 'journal');
  const mend = isLast
    ? `or give up that last change alone: \`cp ${journal} ${journal}.damaged && truncate -s ${atByte} ${journal}\``
    : 'or move it away to start empty';
  return new WeftError(
    'state',
    `state directory ${directory}: journal is damaged at byte ${atByte}${what && `, in a change${what}`}: restore it from a backup, ${mend}`,
  );
}

/** ` of networks/blue, endpoints/web`; nothing where it cannot be read. */
function ofKeys(record: Buffer): string {
  const keys = keysIn(record);
  const named = keys.slice(0, 5).join(', ');
  return keys.length === 0 ? '' : ` of ${named}${keys.length > 5 ? ` and ${keys.length - 5} more` : ''}`;
}

/** Keeps what is cut off the journal, in a file beside it. @returns where it is, in words */
async function setAside(journal: string, record: Buffer, atByte: number): Promise<string> {
  for (let attempt = 0; ; attempt++) {
    const path = `${journal}.torn-${atByte}${attempt === 0 ? '' : `-${attempt}`}`;
    let file: FileHandle;
    try {
      file = await open(path, 'wx', 0o600);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') continue;
      return `kept here alone, since there is no room for a file (${code}): ${record.toString('base64')}`;
    }
    try {
      await writeAll(file, record, 0);
      await file.sync();
      return `in ${path}`;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      return `kept here alone, since they could not be written (${code}): ${record.toString('base64')}`;
    } finally {
      await file.close();
    }
  }
}

interface Waiting {
  readonly expect: readonly { readonly key: string; readonly revision: number }[];
  readonly put: JournalTransaction['put'];
  readonly delete: readonly string[];
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

class EmbeddedStore implements Store {
  readonly #directory: string;
  readonly #onWarning: (message: string) => void;
  readonly #unlock: () => void;
  readonly #entries: Map<string, Entry>;
  #revision: number;
  #file: FileHandle;
  #lengthBytes: number;
  /** The journal is compacted when it is longer. */
  #compactAtBytes: number;
  #closing: Promise<void> | undefined;
  #queue: Waiting[] = [];
  /** Of what is being written; undefined when nothing is. */
  #writing: Promise<void> | undefined;
  /** Why nothing can be written any more. */
  #broken: WeftError | undefined;

  constructor(directory: string, onWarning: (message: string) => void, unlock: () => void, loaded: Loaded) {
    this.#directory = directory;
    this.#onWarning = onWarning;
    this.#unlock = unlock;
    this.#entries = loaded.entries;
    this.#revision = loaded.revision;
    this.#file = loaded.file;
    this.#lengthBytes = loaded.lengthBytes;
    this.#compactAtBytes = compactAt(loaded.snapshotBytes);
  }

  async list(prefix: string): Promise<Entry[]> {
    return [...this.#entries.values()]
      .filter(({ key }) => key.startsWith(prefix))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async get(key: string): Promise<Entry | undefined> {
    return this.#entries.get(key);
  }

  transact({ expect = [], put = [], delete: deleted = [] }: Transaction): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#broken) throw this.#broken;
      const changed = [...put.map(({ key }) => key), ...deleted];
      if (new Set(changed).size < changed.length) {
        throw new WeftError('internal', `a transaction changes a key twice: ${changed.join(', ')}`);
      }
      this.#queue.push({
        expect: expect.map(({ key, revision }) => ({ key, revision })),
        put: put.map(({ key, value }) => ({ key, value: jsonCopy(key, value) })),
        delete: [...deleted],
        resolve,
        reject,
      });
      this.#writing ??= this.#drain();
    });
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    await this.#writing;
    this.#broken = new WeftError('conflict', `state directory ${this.#directory} is closed`);
    await this.#file.close();
    this.#unlock();
  }

  async #drain(): Promise<void> {
    // What the caller asks for right after this call still joins the first batch.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const waiting = this.#queue;
      this.#queue = [];
      await this.#commit(waiting);
      if (this.#lengthBytes > this.#compactAtBytes && !this.#broken) await this.#compact();
    }
    this.#writing = undefined;
  }

  async #commit(waiting: readonly Waiting[]): Promise<void> {
    const { batch, accepted } = this.#check(waiting);
    try {
      if (this.#broken) throw this.#broken;
      if (batch.length > 0) await this.#append(encodeBatch(batch));
    } catch (error) {
      for (const { reject } of accepted) reject(error as Error);
      return;
    }
    for (const transaction of batch) applyTo(this.#entries, transaction);
    this.#revision += batch.length;
    for (const { resolve } of accepted) resolve();
  }

  /** Each sees what those before it do. Rejects those whose expectations fail. */
  #check(waiting: readonly Waiting[]): { batch: JournalTransaction[]; accepted: Waiting[] } {
    const batch: JournalTransaction[] = [];
    const accepted: Waiting[] = [];
    const changed = new Map<string, number>();
    for (const one of waiting) {
      const revisionOf = (key: string): number => changed.get(key) ?? this.#entries.get(key)?.revision ?? 0;
      const failed = one.expect.find(({ key, revision }) => revisionOf(key) !== revision);
      if (failed) {
        const { key, revision } = failed;
        one.reject(
          new WeftError(
            'conflict',
            `"${key}" has revision ${revisionOf(key)}, not ${revision}: it was changed meanwhile`,
          ),
        );
        continue;
      }
      const revision = this.#revision + batch.length + 1;
      for (const { key } of one.put) changed.set(key, revision);
      for (const key of one.delete) changed.set(key, 0);
      batch.push({ revision, put: one.put, delete: one.delete });
      accepted.push(one);
    }
    return { batch, accepted };
  }

  async #append(bytes: Buffer): Promise<void> {
    try {
      await writeAll(this.#file, bytes, this.#lengthBytes);
    } catch (error) {
      const failure = this.#failure(error);
      try {
        await this.#file.truncate(this.#lengthBytes);
        await this.#file.sync();
      } catch {
        this.#broken = failure;
      }
      throw failure;
    }
    try {
      await this.#file.datasync();
    } catch (error) {
      this.#broken = this.#failure(error);
      throw this.#broken;
    }
    this.#lengthBytes += bytes.length;
  }

  async #compact(): Promise<void> {
    const entries = [...this.#entries.values()];
    let replaced: Awaited<ReturnType<typeof replaceJournal>>;
    try {
      replaced = await replaceJournal(this.#directory, { revision: this.#revision, entries });
    } catch (error) {
      if (error instanceof Unsynced) this.#broken = this.#failure(error.cause);
      this.#onWarning(`state directory ${this.#directory}: its journal was not compacted: ${(error as Error).message}`);
      this.#compactAtBytes = compactAt(this.#lengthBytes);
      return;
    }
    const before = this.#file;
    this.#file = replaced.file;
    this.#lengthBytes = replaced.lengthBytes;
    this.#compactAtBytes = compactAt(replaced.lengthBytes);
    // What it held is in the new one; nothing depends on how it closes.
    await before.close().catch(() => {});
  }

  #failure(error: unknown): WeftError {
    const { message } = error as Error;
    return new WeftError('system', `state directory ${this.#directory} cannot be written: ${message}`, {
      cause: error,
    });
  }
}

/** The rename was done, and it is not known whether it is durable. */
class Unsynced extends Error {}

/** Puts a journal that begins with `snapshot` in the place of what is there, durably. The caller closes the file. */
async function replaceJournal(
  directory: string,
  snapshot: Snapshot,
): Promise<{ file: FileHandle; lengthBytes: number }> {
  const path = join(directory, 'journal.new');
  const bytes = encodeSnapshot(snapshot);
  const file = await open(path, 'w', 0o600);
  try {
    await writeAll(file, bytes, 0);
    await file.sync();
    await rename(path, join(directory, 'journal'));
    try {
      syncDirectory(directory);
    } catch (error) {
      throw new Unsynced((error as Error).message, { cause: error });
    }
  } catch (error) {
    await file.close();
    throw error;
  }
  return { file, lengthBytes: bytes.length };
}

async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}

function applyTo(entries: Map<string, Entry>, { revision, put, delete: deleted }: JournalTransaction): void {
  for (const { key, value } of put) entries.set(key, deepFreeze({ key, value, revision }));
  for (const key of deleted) entries.delete(key);
}

function jsonCopy(key: string, value: unknown): unknown {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new WeftError('internal', `the value of "${key}" is not JSON`);
  return JSON.parse(text);
}

/** All readers share it. */
function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const part of Object.values(value)) deepFreeze(part);
  }
  return value;
}

function compactAt(snapshotBytes: number): number {
  return snapshotBytes + Math.max(snapshotBytes, COMPACT_BYTES);
}

/**
 * Durably: each new directory is an entry of the one above. Not by Node's
 * `recursive`, which does not end where directories cannot be made (/proc).
 */
function createDirectory(directory: string): void {
  const make = (): void => mkdirSync(directory, { mode: 0o700 });
  try {
    make();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(directory) === directory) throw error;
    createDirectory(dirname(directory));
    make();
  }
  syncDirectory(dirname(directory));
}

function syncDirectory(directory: string): void {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
