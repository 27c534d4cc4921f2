/**
 * The journal as a file: read at the start, appended to, and replaced as a whole.
 *
 *   open:    read it, set a torn end aside, sync what was read
 *   append:  one batch behind the last one, durable when it resolves
 *   replace: write a new journal beside it, sync, rename, sync the directory
 *
 * After an append that failed, the journal is cut back. If even that fails, or a sync does, nobody knows
 * what the disk holds: from then on `broken` says so, and the journal must not be written any more.
 * journal.ts has the format.
 */
import { constants, fstatSync, mkdirSync, readFileSync, statSync, type Stats } from 'node:fs';
import { open, readdir, rename, rm, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
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

const COMPACT_BYTES = 1 << 20;
/** How many torn ends are kept. */
const MOST_TORN = 16;

/** What a journal held when it was opened. */
export interface Journaled {
  readonly file: JournalFile;
  readonly snapshot: Snapshot;
  readonly transactions: readonly JournalTransaction[];
  /** It was written by an earlier version, and must be written again in the current format. */
  readonly isOld: boolean;
}

export class JournalFile {
  readonly #directory: string;
  #file: FileHandle;
  #lengthBytes: number;
  /** It is worth replacing when it is longer than this. */
  #compactAtBytes: number;
  #broken: WeftError | undefined;

  private constructor(directory: string, file: FileHandle, lengthBytes: number, snapshotBytes: number) {
    this.#directory = directory;
    this.#file = file;
    this.#lengthBytes = lengthBytes;
    this.#compactAtBytes = compactAt(snapshotBytes);
  }

  /**
   * Opens the journal of a directory, or begins one.
   * @throws WeftError `state` when it is damaged or of a newer version (it is left as it is); Node's error when it
   * cannot be read or written
   */
  static async open(directory: string, onWarning: (message: string) => void): Promise<Journaled> {
    const path = join(directory, 'journal');
    let bytes: Buffer;
    try {
      bytes = readFileSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      const snapshot = { revision: 0, entries: [] };
      const { handle, lengthBytes } = await replaceJournal(directory, snapshot);
      const file = new JournalFile(directory, handle, lengthBytes, lengthBytes);
      return { file, snapshot, transactions: [], isOld: false };
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
    const { format, snapshot, transactions, lengthBytes } = decoded;
    const handle = await open(path, 'r+');
    try {
      await setTornEndAside({ directory, path, handle, bytes, lengthBytes, onWarning });
      // What was read may not have been synced before a crash, and is acted upon from here on.
      await Promise.all([handle.sync(), syncDirectory(directory)]);
    } catch (error) {
      await handle.close();
      throw error;
    }
    const file = new JournalFile(directory, handle, lengthBytes, encodeSnapshot(snapshot).length);
    return { file, snapshot, transactions, isOld: format < FORMAT };
  }

  /** Why nothing can be written any more. */
  get broken(): WeftError | undefined {
    return this.#broken;
  }

  get isLong(): boolean {
    return this.#lengthBytes > this.#compactAtBytes;
  }

  /**
   * False when it was deleted, or its directory was. What is appended then goes to a file that nobody will ever find.
   * @throws WeftError('system') when another journal is in its place, or it cannot be known
   */
  isThere(): boolean {
    const own = fstatSync(this.#file.fd);
    let found: Stats | undefined;
    try {
      found = statSync(join(this.#directory, 'journal'), { throwIfNoEntry: false });
    } catch (error) {
      throw this.#failure(error);
    }
    if (!found) return false;
    if (found.dev === own.dev && found.ino === own.ino) return true;
    throw this.#failure(new Error('another journal is in the place of its own: put that back, or restart weft'));
  }

  /** @throws WeftError('system'); then nothing of it is kept, or the journal is `broken` */
  async append(batch: readonly JournalTransaction[]): Promise<void> {
    const bytes = encodeBatch(batch);
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

  /** Replaces it by a journal that begins with `snapshot`. @throws Node's error; then the old one is still in use */
  async replace(snapshot: Snapshot): Promise<void> {
    let replaced: Awaited<ReturnType<typeof replaceJournal>>;
    try {
      replaced = await replaceJournal(this.#directory, snapshot);
    } catch (error) {
      if (error instanceof Unsynced) this.#broken = this.#failure(error.cause);
      this.#compactAtBytes = compactAt(this.#lengthBytes);
      throw error;
    }
    const before = this.#file;
    this.#file = replaced.handle;
    this.#lengthBytes = replaced.lengthBytes;
    this.#compactAtBytes = compactAt(replaced.lengthBytes);
    // Its contents are in the new one; nothing depends on how it closes.
    await before.close().catch(() => {});
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #failure(error: unknown): WeftError {
    const { message } = error as Error;
    return new WeftError('system', `state directory ${this.#directory} cannot be written: ${message}`, {
      cause: error,
    });
  }
}

/**
 * Durably: each new directory is an entry of the one above. Not by Node's
 * `recursive`, which does not end where directories cannot be made (/proc).
 */
export async function createDirectory(directory: string): Promise<void> {
  const make = (): void => mkdirSync(directory, { mode: 0o700 });
  try {
    make();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(directory) === directory) throw error;
    await createDirectory(dirname(directory));
    make();
  }
  await syncDirectory(dirname(directory));
}

async function setTornEndAside({
  directory,
  path,
  handle,
  bytes,
  lengthBytes,
  onWarning,
}: {
  directory: string;
  path: string;
  handle: FileHandle;
  bytes: Buffer;
  lengthBytes: number;
  onWarning: (message: string) => void;
}): Promise<void> {
  const torn = bytes.subarray(lengthBytes);
  if (torn.length === 0) return;
  const aside = await setAside(path, torn, lengthBytes);
  await handle.truncate(lengthBytes);
  onWarning(
    `state directory ${directory}: the last change${ofKeys(torn)} was written incompletely and is discarded; its ${torn.length} bytes are ${aside}`,
  );
}

/** The file is not modified: whoever repairs it decides what is given up. */
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

/** ` of networks/blue, endpoints/web`; nothing if it cannot be read. */
function ofKeys(record: Buffer): string {
  const keys = keysIn(record);
  const named = keys.slice(0, 5).join(', ');
  return keys.length === 0 ? '' : ` of ${named}${keys.length > 5 ? ` and ${keys.length - 5} more` : ''}`;
}

/** Saves what is cut off the journal, in a file beside it. @returns where it is, in words */
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
      await forgetTorn(journal).catch(() => {}); // the next one tries again
      return `in ${path}`;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      return `kept here alone, since they could not be written (${code}): ${record.toString('base64')}`;
    } finally {
      await file.close();
    }
  }
}

/** Removes the oldest torn ends if there are many. */
async function forgetTorn(journal: string): Promise<void> {
  const files = await readdir(dirname(journal));
  const torn = files.filter((name) => name.startsWith(`${basename(journal)}.torn-`));
  const dated = torn.map((name) => ({
    path: join(dirname(journal), name),
    ms: statSync(join(dirname(journal), name)).mtimeMs,
  }));
  for (const { path } of dated.sort((a, b) => b.ms - a.ms).slice(MOST_TORN)) await rm(path, { force: true });
}

/** The rename was done, but it is not known whether it is durable. */
class Unsynced extends Error {}

/** Puts a journal that begins with `snapshot` in the place of what is there, durably. The caller closes the handle. */
async function replaceJournal(
  directory: string,
  snapshot: Snapshot,
): Promise<{ handle: FileHandle; lengthBytes: number }> {
  const path = join(directory, 'journal.new');
  const bytes = encodeSnapshot(snapshot);
  const handle = await open(path, 'w', 0o600);
  try {
    await writeAll(handle, bytes, 0);
    await handle.sync();
    await rename(path, join(directory, 'journal'));
    try {
      await syncDirectory(directory);
    } catch (error) {
      throw new Unsynced((error as Error).message, { cause: error });
    }
  } catch (error) {
    await handle.close();
    // On a full disk it would take the room that appending needs.
    await rm(path, { force: true }).catch(() => {});
    throw error;
  }
  return { handle, lengthBytes: bytes.length };
}

async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}

function compactAt(snapshotBytes: number): number {
  return snapshotBytes + Math.max(snapshotBytes, COMPACT_BYTES);
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
