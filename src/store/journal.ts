/**
 * The journal: how the embedded store's state is written.
 *
 *     CRC32 {"file":"weft journal","format":2}
 *     CRC32 {"revision":7,"entries":[{"key":…,"value":…,"revision":…},…]}
 *     CRC32 [{"revision":8,"put":[{"key":…,"value":…},…],"delete":[KEY,…]},…]
 *     CRC32 [{"revision":9,…},{"revision":10,…}]
 *
 * Lines of text, so that it can be read where all else failed. After the header,
 * which stays as it is in every format to come, there is a snapshot; each further
 * record is a batch of transactions that was written, and so became durable, at
 * once. Revisions have no gaps.
 *
 * Header and snapshot are put in place as a whole (by rename), and a batch is
 * begun only after the one before it is durable. So only the last batch can be
 * torn by a crash, and nobody was told that it is kept. Whatever else is not as
 * it was written is damage. As the ends of records are found by the line feed
 * and not by a length, a damaged record never hides those after it.
 *
 * A torn batch has no line feed, because that is written last, or it has blocks
 * that were never written. Those read as zeros, which JSON never contains. A last
 * batch with all its bytes but a wrong checksum is damaged: it may have been
 * durable, and somebody relies on it.
 *
 * Format 1 is the same without leases, and its records of endpoints also held what
 * only concerns the host (`cluster/migration.ts`). It is read, and rewritten.
 *
 * Pure: bytes in, bytes out.
 */
import { crc32 } from 'node:zlib';

import type { Entry, Put } from './store.ts';

export const FORMAT = 2;
const OLDEST_FORMAT = 1;
const FILE = 'weft journal';

export interface Snapshot {
  readonly revision: number;
  readonly entries: readonly Entry[];
}

export interface JournalTransaction {
  readonly revision: number;
  readonly put: readonly Put[];
  readonly delete: readonly string[];
}

export type Decoded =
  | {
      readonly kind: 'sound';
      readonly format: number;
      readonly snapshot: Snapshot;
      readonly transactions: readonly JournalTransaction[];
      /** How far it is sound; anything behind that is a torn batch. */
      readonly lengthBytes: number;
    }
  /** `isLast`: no record follows the one at that byte. */
  | { readonly kind: 'damaged'; readonly atByte: number; readonly isLast: boolean }
  | { readonly kind: 'newer'; readonly format: number };

const LINE_FEED = 10;
/** The smallest unit that a disk writes. */
const BLOCK_BYTES = 512;
/** `89abcdef `: 8 lower-case hexadecimal digits, a space. */
const CRC_BYTES = 9;

/** A whole journal: what a fresh or compacted one begins with. */
export function encodeSnapshot(snapshot: Snapshot): Buffer {
  return Buffer.concat([encodeRecord({ file: FILE, format: FORMAT }), encodeRecord(snapshot)]);
}

/** To be appended to a journal. */
export function encodeBatch(transactions: readonly JournalTransaction[]): Buffer {
  return encodeRecord(transactions);
}

/** @param bytes the whole journal; not kept, not changed. */
export function decode(bytes: Buffer): Decoded {
  const damaged = (atByte: number, isLast = false): Decoded => ({ kind: 'damaged', atByte, isLast });
  const headerEnd = bytes.indexOf(LINE_FEED) + 1;
  const header = decodeRecord(bytes.subarray(0, headerEnd)) as { file?: unknown; format?: unknown } | undefined;
  if (header?.file !== FILE || typeof header.format !== 'number' || header.format < OLDEST_FORMAT) return damaged(0);
  if (header.format > FORMAT) return { kind: 'newer', format: header.format };

  const snapshotEnd = bytes.indexOf(LINE_FEED, headerEnd) + 1;
  const snapshot = decodeRecord(bytes.subarray(headerEnd, snapshotEnd)) as Snapshot | undefined;
  if (snapshot === undefined) return damaged(headerEnd);

  const transactions: JournalTransaction[] = [];
  let revision = snapshot.revision;
  let at = snapshotEnd;
  while (at < bytes.length) {
    const end = bytes.indexOf(LINE_FEED, at) + 1 || bytes.length;
    const line = bytes.subarray(at, end);
    const batch = decodeRecord(line) as readonly JournalTransaction[] | undefined;
    if (batch === undefined) {
      const isLast = end === bytes.length;
      if (isLast && isTorn(line, at)) break;
      return damaged(at, isLast && !holdsRecord(line));
    }
    // A sound record that is no batch: parts of two journals.
    if (!Array.isArray(batch)) return damaged(at);
    for (const transaction of batch) {
      if (transaction.revision !== ++revision) return damaged(at);
      transactions.push(transaction);
    }
    at = end;
  }
  return { kind: 'sound', format: header.format, snapshot, transactions, lengthBytes: at };
}

/** One line: a checksum, a space, the JSON. */
export function encodeRecord(value: unknown): Buffer {
  return encodeJson(JSON.stringify(value));
}

/** The same of what is JSON already. */
export function encodeJson(text: string): Buffer {
  const json = Buffer.from(text);
  return Buffer.concat([Buffer.from(`${crcText(json)} `), json, Buffer.of(LINE_FEED)]);
}

/** The contents of a record, line feed included; undefined if it is damaged. */
export function decodeRecord(line: Buffer): unknown {
  if (line.at(-1) !== LINE_FEED) return undefined;
  const json = line.subarray(CRC_BYTES, -1);
  return line.toString('latin1', 0, CRC_BYTES) === `${crcText(json)} ` ? JSON.parse(json.toString()) : undefined;
}

/**
 * The keys that a record changes, as far as it can be read; its text may be incomplete.
 */
export function keysIn(record: Buffer): string[] {
  const text = record.toString('utf8').replaceAll('\0', '');
  const put = [...text.matchAll(/"key":("(?:[^"\\]|\\.)*")/g)].map(([, key]) => key);
  const deleted = [...text.matchAll(/"delete":\[((?:"(?:[^"\\]|\\.)*",?)*)/g)].flatMap(
    ([, list = '']) => list.match(/"(?:[^"\\]|\\.)*"/g) ?? [],
  );
  return [...new Set([...put, ...deleted])].flatMap((key) => {
    try {
      return [JSON.parse(key ?? '') as string];
    } catch {
      return [];
    }
  });
}

/** Was the last line, which begins at that byte of the file, written incompletely? */
function isTorn(line: Buffer, atByte: number): boolean {
  if (line.at(-1) === LINE_FEED) return hasHole(line, atByte);
  if (holdsRecord(line)) return false;
  // One whose line feed became another byte is complete.
  return decodeRecord(Buffer.concat([line.subarray(0, -1), Buffer.of(LINE_FEED)])) === undefined;
}

/** Are there blocks that were never written? They begin and end at block boundaries, or where the line does. */
function hasHole(line: Buffer, atByte: number): boolean {
  for (let from = line.indexOf(0); from >= 0; ) {
    let to = from;
    while (line[to] === 0) to++;
    const begins = from === 0 || (atByte + from) % BLOCK_BYTES === 0;
    const ends = to === line.length || (atByte + to) % BLOCK_BYTES === 0;
    if (begins && ends) return true;
    from = line.indexOf(0, to);
  }
  return false;
}

/**
 * Does a complete record end this line? Then it is two records that lost the line feed between them, not a torn one.
 */
function holdsRecord(line: Buffer): boolean {
  const text = line.toString('latin1');
  return [...text.matchAll(/[0-9a-f]{8} \[/g)].some(
    ({ index }) => index > 0 && decodeRecord(line.subarray(index)) !== undefined,
  );
}

function crcText(bytes: Buffer): string {
  return crc32(bytes).toString(16).padStart(8, '0');
}
