/**
 * The journal: how the embedded store's state is written.
 *
 *     CRC32 {"file":"weft journal","format":1}
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
 * Pure: bytes in, bytes out.
 */
import { crc32 } from 'node:zlib';

import type { Entry } from './store.ts';

export const FORMAT = 1;
const FILE = 'weft journal';

export interface Snapshot {
  readonly revision: number;
  readonly entries: readonly Entry[];
}

export interface JournalTransaction {
  readonly revision: number;
  readonly put: readonly { readonly key: string; readonly value: unknown }[];
  readonly delete: readonly string[];
}

export type Decoded =
  | {
      readonly kind: 'sound';
      readonly snapshot: Snapshot;
      readonly transactions: readonly JournalTransaction[];
      /** How far it is sound; what follows, if anything, is a torn batch. */
      readonly lengthBytes: number;
    }
  | { readonly kind: 'damaged'; readonly atByte: number }
  | { readonly kind: 'newer'; readonly format: number };

const LINE_FEED = 10;
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
  const damaged = (atByte: number): Decoded => ({ kind: 'damaged', atByte });
  const headerEnd = bytes.indexOf(LINE_FEED) + 1;
  const header = payload(bytes.subarray(0, headerEnd)) as { file?: unknown; format?: unknown } | undefined;
  if (header?.file !== FILE || typeof header.format !== 'number' || header.format < FORMAT) return damaged(0);
  if (header.format > FORMAT) return { kind: 'newer', format: header.format };

  const snapshotEnd = bytes.indexOf(LINE_FEED, headerEnd) + 1;
  const snapshot = payload(bytes.subarray(headerEnd, snapshotEnd)) as Snapshot | undefined;
  if (snapshot === undefined) return damaged(headerEnd);

  const transactions: JournalTransaction[] = [];
  let revision = snapshot.revision;
  let at = snapshotEnd;
  while (at < bytes.length) {
    const end = bytes.indexOf(LINE_FEED, at) + 1 || bytes.length;
    const line = bytes.subarray(at, end);
    const batch = payload(line) as readonly JournalTransaction[] | undefined;
    if (batch === undefined) {
      if (end < bytes.length || holdsRecord(line)) return damaged(at);
      break;
    }
    for (const transaction of batch) {
      if (transaction.revision !== ++revision) return damaged(at);
      transactions.push(transaction);
    }
    at = end;
  }
  return { kind: 'sound', snapshot, transactions, lengthBytes: at };
}

/** One line: a checksum, a space, the JSON. */
export function encodeRecord(value: unknown): Buffer {
  const json = Buffer.from(JSON.stringify(value));
  return Buffer.concat([Buffer.from(`${crcText(json)} `), json, Buffer.of(LINE_FEED)]);
}

/** What a record holds; undefined when it is not as it was written. */
function payload(line: Buffer): unknown {
  if (line.at(-1) !== LINE_FEED) return undefined;
  const json = line.subarray(CRC_BYTES, -1);
  return line.toString('latin1', 0, CRC_BYTES) === `${crcText(json)} ` ? JSON.parse(json.toString()) : undefined;
}

/** Does a whole record end this line? Then it is two records that lost the line feed between them, and not a torn one. */
function holdsRecord(line: Buffer): boolean {
  const text = line.toString('latin1');
  return [...text.matchAll(/[0-9a-f]{8} \[/g)].some(
    ({ index }) => index > 0 && payload(line.subarray(index)) !== undefined,
  );
}

function crcText(bytes: Buffer): string {
  return crc32(bytes).toString(16).padStart(8, '0');
}
