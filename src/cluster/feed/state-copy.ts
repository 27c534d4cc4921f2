/**
 * This host's copy of what is in force of a shared store: a file from which a daemon starts while the store is away.
 *
 *     CRC32 {"file":"weft copy","format":1}
 *     CRC32 ["networks/blue",17,{…}]          a record, and the revision that the store has it at
 *     CRC32 ["endpoints/default/web"]         there is none any more
 *     CRC32 {"mark":{…}}                      everything above is complete up to here, and belongs to this store
 *     CRC32 {"mark":{…},"refused":[["networks/blue",17]]}   and this host does not accept that record
 *     CRC32 {"mark":{…},"judged":false}       and nobody has said yet whether it accepts what is above, up to the mark before
 *
 * What was committed is written in the background: all that has come together while the write before it was under way, with one
 * mark behind it. What is in force does not wait for that, but this host tells others that it has it in force only when it is
 * written (`written`). Nothing is synced: the copy survives the end of the process at any moment. A power failure may take its
 * end away, and what is in front of the last whole mark then counts: that was in force a moment before.
 *
 * Of several lines with one key, the last counts. Where that is refused, or nobody has said that it is accepted, the one before it
 * that is not refused may be in force, and so may the one before that, back to one that is known to be accepted. When the file
 * has become twice as long, the others are left out: not of what is written to an empty file, where there are none, and which may
 * be everything that a large cluster has. A version that knows nothing of refused records reads the same file without them.
 *
 * The values are in the file alone, not in memory. One that was deleted is written anew, since it is still open.
 */
import { createReadStream, fstatSync, statSync } from 'node:fs';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { WeftError } from '../../error.ts';
import { decodeRecord, encodeJson, encodeRecord } from '../../store/journal.ts';
import type { Entry } from '../../store/store.ts';
import { CopyBatch } from './copy-batch.ts';
import { NotedRecords } from './noted-records.ts';

const HEADER = { file: 'weft copy', format: 1 };
const READ_BYTES = 128 << 10;
/** How many lines are encoded in one turn of the event loop. */
const LINES_PER_WRITE = 256;
const SMALLEST_COMPACTED_BYTES = 1 << 20;
const LINE_FEED = 10;
/** In which a key and a revision usually end. */
const USUAL_KEY_BYTES = 256;

export interface Copied<Mark> {
  readonly copy: StateCopy<Mark>;
  /** What it said; undefined if there was none, or none that can be used. */
  readonly mark: Mark | undefined;
  readonly entries: ReadonlyMap<string, Entry>;
  /** What may be in force instead of those that are refused, or may be, by key: the last one first. */
  readonly before: ReadonlyMap<string, readonly Entry[]>;
  /** The keys of those that are refused. */
  readonly refused: ReadonlySet<string>;
  /** What is wrong with it, and what is left; undefined if it is whole. */
  readonly damage?: { readonly what: string; readonly left: string };
}

/** What was committed, and is not written yet. */
interface Committed<Mark> {
  readonly mark: Mark;
  readonly isJudged: boolean;
}

/** The last line of a batch. */
interface MarkLine<Mark> {
  readonly mark: Mark;
  /** Records that this host does not accept, with their revisions. */
  readonly refused?: readonly (readonly [string, number])[];
  /** False if nobody has said yet whether this host accepts what is in front of it. */
  readonly judged?: false;
}

export class StateCopy<Mark> {
  readonly #path: string;
  readonly #onWarning: (message: string) => void;
  #file: FileHandle;
  #lengthBytes: number;
  #compactAtBytes: number;
  /** True until a record is written to it. */
  #isEmpty: boolean;
  /** What is noted, and not committed yet. */
  #noted = new CopyBatch();
  /** What is committed, and not written yet. */
  #batch = new CopyBatch();
  #due: Committed<Mark> | undefined;
  /** The keys of those whose last line is refused. */
  readonly #refused: Set<string>;
  #writing: Promise<void> | undefined;
  /** How often something was committed, and up to where that is written. */
  #committed = 0;
  #written = 0;
  /** Those who wait until something is written, the first ones first. */
  #waiting: { readonly committed: number; readonly resolve: () => void }[] = [];
  #toldWhy: string | undefined;

  private constructor(
    path: string,
    onWarning: (message: string) => void,
    file: FileHandle,
    { lengthBytes = 0, refused = new Set() }: Partial<Pick<Read<Mark>, 'lengthBytes' | 'refused'>> = {},
  ) {
    this.#path = path;
    this.#onWarning = onWarning;
    this.#file = file;
    this.#lengthBytes = lengthBytes;
    this.#refused = new Set(refused);
    this.#isEmpty = lengthBytes === 0;
    this.#compactAtBytes = longestBytes(lengthBytes);
  }

  /** Reads the copy, or begins one. @throws WeftError('system') if that is not possible */
  static async open<Mark>(path: string, onWarning: (message: string) => void): Promise<Copied<Mark>> {
    try {
      const file = await open(path, 'a+', 0o600);
      await file.close();
      const found = await read<Mark>(path);
      const { mark, entries, before, refused, lengthBytes, damage } = found;
      if (damage !== undefined) onWarning(`${path} ${damage}: ${whatIsLeft(mark)}`);
      const opened = await open(path, 'r+');
      const copy = new StateCopy<Mark>(path, onWarning, opened, found);
      await opened.truncate(lengthBytes);
      if (lengthBytes === 0) await copy.#append([encodeRecord(HEADER)]);
      const told = damage === undefined ? {} : { damage: { what: `${path} ${damage}`, left: whatIsLeft(mark) } };
      return { copy, mark, entries, before, refused, ...told };
    } catch (error) {
      const why = `${path} cannot be used: ${(error as Error).message}`;
      throw new WeftError('system', why, { cause: error });
    }
  }

  /** Notes a record. @param text its value as JSON */
  put({ key, revision, lease }: Omit<Entry, 'value'>, text: string): void {
    const end = lease === undefined ? '' : `,${JSON.stringify(lease)}`;
    this.#noted.put(key, revision, `[${JSON.stringify(key)},${revision},${text}${end}]`);
    this.#refused.delete(key);
  }

  /** Notes that this host does not accept the record that was noted last: the one before stays in force beside it. */
  refuse(key: string, revision: number): void {
    this.#refused.add(key);
    this.#noted.refuse(key, revision);
  }

  /** True if the record that was noted last is refused. */
  isRefused(key: string): boolean {
    return this.#refused.has(key);
  }

  delete(key: string): void {
    this.#refused.delete(key);
    this.#noted.delete(key, `[${JSON.stringify(key)}]`);
  }

  /**
   * Says that everything that belongs to this mark is noted, and begins to write it.
   * @param isJudged whether `refuse` was called for all of it that this host does not accept
   */
  commit(mark: Mark, isJudged = true): void {
    this.#due = { mark, isJudged };
    // Everything that a large cluster has may be in it: usually nothing waits, and nothing has to be added.
    if (this.#batch.isEmpty) this.#batch = this.#noted;
    else this.#batch.add(this.#noted);
    this.#batch.mark(isJudged);
    this.#noted = new CopyBatch();
    this.#committed++;
    this.#writing ??= this.#writeAll();
  }

  /** Tries again to write what could not be written. */
  retry(): void {
    if (this.#due) this.#writing ??= this.#writeAll();
  }

  /**
   * Resolves when all that was committed by now is written, or what will be next. If it cannot be written, that is when a later
   * attempt has been.
   */
  written(isNext = false): Promise<void> {
    const committed = this.#committed + (isNext ? 1 : 0);
    if (this.#written >= committed) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ committed, resolve }));
  }

  /** Resolves when everything that was committed is written, or cannot be. @returns false if it cannot be */
  async flushed(): Promise<boolean> {
    while (this.#writing) await this.#writing;
    return this.#batch.isEmpty;
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }

  /** Never throws. What is committed while it runs is written, too. */
  async #writeAll(): Promise<void> {
    await Promise.resolve();
    while (this.#due) if (!(await this.#writeCommitted(this.#due))) break;
    // In the same turn as the look at the mark: whoever commits from here on begins anew.
    this.#writing = undefined;
  }

  /** @returns false if it cannot be written now: `retry` and the next change try again. Until then, the copy is what was in force before */
  async #writeCommitted(due: Committed<Mark>): Promise<boolean> {
    const batch = this.#batch;
    const before = this.#lengthBytes;
    const isFirst = this.#isEmpty;
    const committed = this.#committed;
    this.#batch = new CopyBatch();
    this.#due = undefined;
    if (!batch.isEmpty) this.#isEmpty = false;
    try {
      let records: Buffer[] = [];
      for (const line of batch.lines()) {
        if (records.push(encodeJson(line)) < LINES_PER_WRITE) continue;
        await this.#append(records);
        records = [];
      }
      await this.#append([...records, ...markLines(due, batch.refused())]);
      if (!this.#isThere()) await this.#compact(due);
      this.#tell(committed);
      if (isFirst) this.#compactAtBytes = longestBytes(this.#lengthBytes);
      this.#toldWhy = undefined;
    } catch (error) {
      this.#lengthBytes = before;
      batch.add(this.#batch);
      this.#batch = batch;
      this.#due ??= due;
      batch.mark(this.#due.isJudged);
      const why = (error as Error).message;
      if (why !== this.#toldWhy) {
        this.#onWarning(`${this.#path}, the copy of the cluster’s state, cannot be written: ${why}`);
      }
      this.#toldWhy = why;
      return false;
    }
    if (this.#lengthBytes > this.#compactAtBytes) await this.#compact(due).catch((error: Error) => this.#goOn(error));
    return true;
  }

  /** False when it was deleted: then nobody would ever find what is appended to it. */
  #isThere(): boolean {
    const own = fstatSync(this.#file.fd);
    const found = statSync(this.#path, { throwIfNoEntry: false });
    return found?.dev === own.dev && found.ino === own.ino;
  }

  /** It cannot be compacted, for which there may be no room. All of it is in the file as it is, which becomes longer. */
  #goOn({ message }: Error): void {
    this.#compactAtBytes = longestBytes(this.#lengthBytes);
    this.#onWarning(`${this.#path}, the copy of the cluster’s state, stays longer than it has to be: ${message}`);
  }

  #tell(written: number): void {
    this.#written = written;
    const left = this.#waiting.findIndex(({ committed }) => committed > written);
    for (const { resolve } of this.#waiting.splice(0, left < 0 ? this.#waiting.length : left)) resolve();
  }

  async #append(records: readonly Buffer[]): Promise<void> {
    const bytes = Buffer.concat(records);
    for (let at = 0; at < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, at, bytes.length - at, this.#lengthBytes + at);
      at += bytesWritten;
    }
    this.#lengthBytes += bytes.length;
  }

  /** Leaves out what no longer counts. @param last what the last line says */
  async #compact(last: Committed<Mark>): Promise<void> {
    // Also if it has no name any more.
    const own = `/proc/self/fd/${this.#file.fd}`;
    const noted = new NotedRecords<number>();
    let at = 0;
    for await (const line of linesOf(own, this.#lengthBytes)) {
      const record = recordOf(line);
      if (record) {
        if (record.revision !== undefined) noted.put(record.key, record.revision, at);
        else noted.delete(record.key);
      } else noteMark(noted, decodeRecord(line));
      at += line.length;
    }
    const path = `${this.#path}.new`;
    const file = await open(path, 'w', 0o600);
    const next = new StateCopy<Mark>(path, this.#onWarning, file);
    try {
      let kept: Buffer[] = [encodeRecord(HEADER)];
      const refused: string[] = [];
      at = 0;
      for await (const line of linesOf(own, this.#lengthBytes)) {
        const key = recordOf(line)?.key;
        if (key !== undefined) {
          const revision = noted.refused(key);
          const isLast = noted.last(key) === at;
          const isBefore = !noted.isAccepted(key) && noted.before(key).includes(at);
          if (isLast || isBefore) kept.push(Buffer.from(line));
          if (isLast && revision !== undefined) refused.push(JSON.stringify([key, revision]));
        }
        at += line.length;
        if (kept.length < LINES_PER_WRITE) continue;
        await next.#append(kept);
        kept = [];
      }
      await next.#append([...kept, ...markLines(last, refused)]);
      await file.datasync();
      await rename(path, this.#path);
    } catch (error) {
      await file.close();
      await rm(path, { force: true }).catch(() => {});
      throw error;
    }
    await this.#file.close().catch(() => {});
    this.#file = file;
    this.#lengthBytes = next.#lengthBytes;
    this.#compactAtBytes = longestBytes(next.#lengthBytes);
  }
}

function whatIsLeft(mark: unknown): string {
  return mark === undefined
    ? 'what this host knew of the cluster is lost, and it forwards nothing until the store answers'
    : 'what is in front of that counts, and later changes are known when the store answers';
}

/** How long the file may become before it is compacted. @param lengthBytes how long it is without a line too many */
function longestBytes(lengthBytes: number): number {
  return 2 * lengthBytes + SMALLEST_COMPACTED_BYTES;
}

/** The last lines of a batch, of which each says as much as one turn of the event loop may. @param refused as JSON */
function markLines<Mark>({ mark, isJudged }: Committed<Mark>, refused: readonly string[]): Buffer[] {
  const lines: Buffer[] = [];
  for (let from = 0; from === 0 || from < refused.length; from += LINES_PER_WRITE) {
    const some = refused.slice(from, from + LINES_PER_WRITE);
    const isLast = from + LINES_PER_WRITE >= refused.length;
    const said = some.length > 0 ? `,"refused":[${some.join()}]` : '';
    const judged = isJudged && isLast ? '' : ',"judged":false';
    lines.push(encodeJson(`{"mark":${JSON.stringify(mark)}${judged}${said}}`));
  }
  return lines;
}

/** @param line one without a record */
function noteMark(noted: NotedRecords<unknown>, line: unknown): void {
  if (!('mark' in Object(line))) return;
  const { refused = [], judged = true } = line as MarkLine<unknown>;
  for (const [key, revision] of refused) noted.refuse(key, revision);
  noted.mark(judged);
}

/** What a copy says, and what is wrong with it. */
interface Read<Mark> extends Omit<Copied<Mark>, 'copy' | 'damage'> {
  readonly lengthBytes: number;
  readonly damage?: string;
}

/** Reads as far as it is whole. Another file, or one of another version, is as good as empty. */
async function read<Mark>(path: string): Promise<Read<Mark>> {
  const noted = new NotedRecords<Entry>();
  let mark: Mark | undefined;
  let damage: string | undefined;
  let [at, lengthBytes] = [0, 0];
  let since: (readonly [string, Entry | undefined])[] = [];
  for await (const line of linesOf(path, Infinity)) {
    const record = decodeRecord(line);
    if (record === undefined) {
      damage = `is damaged at byte ${at}`;
      break;
    }
    if (at === 0) {
      const { file, format } = Object(record) as Partial<typeof HEADER>;
      if (file !== HEADER.file || format !== HEADER.format) {
        damage = 'is not one that this version of weft reads';
        break;
      }
    }
    at += line.length;
    if (Array.isArray(record)) {
      const [key, revision, value, lease] = record as [string, number | undefined, unknown, string | undefined];
      const entry =
        revision === undefined ? undefined : { key, revision, value, ...(lease !== undefined && { lease }) };
      since.push([key, entry]);
      continue;
    }
    if (!('mark' in Object(record))) {
      lengthBytes = at;
      continue;
    }
    for (const [key, entry] of since) {
      if (entry) noted.put(key, entry.revision, entry);
      else noted.delete(key);
    }
    since = [];
    noteMark(noted, record);
    ({ mark } = record as MarkLine<Mark>);
    lengthBytes = at;
  }
  // A torn end behind a mark is what a crash leaves. In front of the first one, nothing counts.
  const { size } = statSync(path);
  if (!mark && size > lengthBytes) damage ??= `is cut off at byte ${size}`;
  const entries = new Map<string, Entry>();
  const before = new Map<string, readonly Entry[]>();
  const refused = new Set<string>();
  for (const key of noted.keys()) {
    entries.set(key, noted.last(key)!);
    if (noted.refused(key) !== undefined) refused.add(key);
    const others = noted.isAccepted(key) ? [] : noted.before(key);
    if (others.length > 0) before.set(key, others);
  }
  return { mark, entries, before, refused, lengthBytes, ...(damage !== undefined && { damage }) };
}

/** Whole lines, each with its line feed. A line is valid until the next one is asked for. */
async function* linesOf(path: string, lengthBytes: number): AsyncGenerator<Buffer> {
  if (lengthBytes === 0) return;
  let rest: Buffer = Buffer.alloc(0);
  const stream = createReadStream(path, {
    highWaterMark: READ_BYTES,
    ...(Number.isFinite(lengthBytes) && { end: lengthBytes - 1 }),
  });
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let from = 0;
    for (let end = bytes.indexOf(LINE_FEED); end >= 0; end = bytes.indexOf(LINE_FEED, from)) {
      yield bytes.subarray(from, end + 1);
      from = end + 1;
    }
    rest = bytes.subarray(from);
  }
}

/** The record of a line that this process has written or checked, without a revision if it was deleted; undefined if it is none. */
function recordOf(line: Buffer): { readonly key: string; readonly revision: number | undefined } | undefined {
  const read = (lengthBytes: number): RegExpExecArray | null =>
    /^[0-9a-f]{8} \[("(?:[^"\\]|\\.)*")(?:\]|,(-?\d+),)/.exec(line.toString('utf8', 0, lengthBytes));
  const [, key, revision] = read(USUAL_KEY_BYTES) ?? read(line.length) ?? [];
  if (key === undefined) return undefined;
  return { key: JSON.parse(key) as string, revision: revision === undefined ? undefined : Number(revision) };
}
