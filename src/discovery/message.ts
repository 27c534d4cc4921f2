/**
 * Messages of DNS (RFC 1035 section 4), of which dns-packet reads and writes the parts. What is around it here:
 *
 *   1. A message is looked at before it is decoded: what dns-packet takes long for, or cannot tell apart, is refused. It
 *      follows every pointer of a compressed name, so 64 KiB of pointers to pointers would take seconds; a question needs none.
 *   2. The question goes back as it came, byte by byte: resolvers check whether the case of its letters is theirs.
 *   3. An answer has each name once: later ones point there (RFC 1035 section 4.1.4).
 *   4. What does not fit is left out in whole sets of records, and the flag TC says so (RFC 2181 section 9).
 *   5. OPT is answered to those who sent one (RFC 6891).
 */
import * as packet from 'dns-packet';
import type { ResourceRecord } from './resource-record.ts';

/** The parts of dns-packet that its types leave out. */
interface Codec {
  encode(data: unknown, buffer: Buffer, offset: number): Buffer;
  encodingLength(data: unknown): number;
}
const { name: nameCodec, record: codecOf } = packet as unknown as {
  readonly name: Codec & { encode: { bytes: number } };
  readonly record: (type: string) => Codec & { encode: { bytes: number } };
};

export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
} as const;
export type Rcode = keyof typeof RCODE;

const TYPE = { A: 1, CNAME: 5, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, SRV: 33 } as const;
export const CLASS_IN = 1;

export const HEADER_BYTES = 12;
/** Of a message in a datagram, for those that do not say how much they take (RFC 1035 section 4.2.1). */
export const PLAIN_BYTES = 512;
/** Of a message in a datagram that needs no fragments on any path: what the DNS flag day of 2020 agreed on. */
export const DATAGRAM_BYTES = 1232;
export const MOST_BYTES = 65_535;
/** A question with every option that is in use is much smaller. */
export const MOST_QUESTION_BYTES = 2048;
/** Its OPT, and a signature that weft does not look at. */
const MOST_ADDITIONALS = 2;
const OPT_BYTES = 11;
const FLAG = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080, CD: 0x0010 } as const;
const OPT = 41;
const FLAG_DO = 0x8000;

export interface Question {
  readonly id: number;
  readonly flags: number;
  /** In lower case, without a dot at its end; empty for the root. */
  readonly name: string;
  /** A name such as `A`, or `UNKNOWN_65`. */
  readonly type: string;
  readonly class: number;
  /** The question as it came. */
  readonly bytes: Uint8Array;
  readonly edns: Edns | undefined;
}

export interface Edns {
  /** The largest datagram that its sender takes. */
  readonly sizeBytes: number;
  readonly version: number;
  /** DNSSEC records are wanted. */
  readonly isDnssec: boolean;
}

/** Why a message is not taken: it is answered with a code, or not at all. */
export type Refusal =
  | { readonly rcode: Rcode; readonly id: number; readonly flags: number }
  | { readonly rcode: undefined };

// 1. Questions

/** Reads a question. It does not keep `message`. */
export function readQuestion(message: Uint8Array): Question | Refusal {
  if (message.length < HEADER_BYTES) return { rcode: undefined };
  const buffer = Buffer.from(message.buffer, message.byteOffset, message.length);
  const [id, flags] = [buffer.readUInt16BE(0), buffer.readUInt16BE(2)];
  if (flags & FLAG.QR) return { rcode: undefined }; // who answers an answer has a loop
  const refused = (rcode: Rcode): Refusal => ({ rcode, id, flags });
  if ((flags >>> 11) & 0xf) return refused('NOTIMP');
  const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) => buffer.readUInt16BE(at));
  const isAsked = questions === 1 && answers === 0 && authorities === 0 && additionals! <= MOST_ADDITIONALS;
  if (!isAsked || message.length > MOST_QUESTION_BYTES) return refused('FORMERR');
  const labels = readLabels(buffer, HEADER_BYTES);
  if (!labels || labels.end + 4 > buffer.length) return refused('FORMERR');
  const { name, end } = labels;
  try {
    const { questions: [question] = [], additionals: more = [] } = packet.decode(buffer);
    const options = more.filter((one): one is packet.OptAnswer => one.type === 'OPT');
    if (options.length > 1) return refused('FORMERR');
    const bytes = Uint8Array.prototype.slice.call(buffer, HEADER_BYTES, end + 4);
    return {
      id,
      flags,
      name,
      type: question!.type,
      class: buffer.readUInt16BE(end + 2),
      bytes,
      edns: ednsOf(options[0]),
    };
  } catch {
    return refused('FORMERR');
  }
}

function ednsOf(option: packet.OptAnswer | undefined): Edns | undefined {
  if (!option) return undefined;
  const { udpPayloadSize, ednsVersion, flag_do: isDnssec } = option;
  return { sizeBytes: Math.max(PLAIN_BYTES, udpPayloadSize), version: ednsVersion, isDnssec };
}

/**
 * The name at `offset`, which is not compressed. Bytes that cannot be in a name of weft's are written so that none of them
 * is taken for a dot or for another one. @returns undefined if it is broken off or too long
 */
export function readLabels(
  buffer: Buffer,
  offset: number,
): { readonly name: string; readonly end: number } | undefined {
  const labels: string[] = [];
  let at = offset;
  for (;;) {
    const length = buffer[at];
    if (length === undefined || length > 63 || at + length >= buffer.length || at + length - offset > 254)
      return undefined;
    if (length === 0) return { name: labels.join('.'), end: at + 1 };
    labels.push(labelText(buffer, at + 1, at + 1 + length));
    at += 1 + length;
  }
}

function labelText(buffer: Buffer, start: number, end: number): string {
  const text = buffer.toString('latin1', start, end);
  if (/^[\w-]+$/.test(text)) return text.toLowerCase();
  return text
    .replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase())
    .replaceAll(/[^a-z0-9_*-]/g, (byte) => `\\${byte.charCodeAt(0).toString().padStart(3, '0')}`);
}

/** How many bytes an answer in a datagram may have. */
export function datagramLimit(edns: Edns | undefined): number {
  return edns ? Math.min(edns.sizeBytes, DATAGRAM_BYTES) : PLAIN_BYTES;
}

// 2. – 5. Answers

export interface Response {
  readonly rcode: Rcode;
  /** False if somebody else answers for the name. */
  readonly isAuthoritative: boolean;
  /** Names that are not weft's can be asked for here. */
  readonly isRecursive: boolean;
  readonly answers?: readonly ResourceRecord[];
  readonly authorities?: readonly ResourceRecord[];
  /** Left out without a word if they do not fit. */
  readonly additionals?: Iterable<ResourceRecord>;
}

/** Where answers are written before their length is known. */
const space = Buffer.alloc(MOST_BYTES);

/** @param ttlS of records that have none of their own @param limitBytes of the whole message. Returns bytes of its own. */
export function writeResponse(question: Question, response: Response, limitBytes: number, ttlS: number): Uint8Array {
  const code = RCODE[response.rcode];
  const limit = limitBytes - (question.edns ? OPT_BYTES : 0);
  space.set(question.bytes, HEADER_BYTES);
  const names = new Map([[question.name, HEADER_BYTES]]);
  const writer = { at: HEADER_BYTES + question.bytes.length, limit, names, ttlS };
  const answers = writeAll(writer, response.answers ?? []);
  const isWhole = answers === (response.answers?.length ?? 0);
  const authorities = isWhole ? writeAll(writer, response.authorities ?? []) : 0;
  const isTruncated = !isWhole || authorities < (response.authorities?.length ?? 0);
  const additionals = isTruncated ? 0 : writeAll(writer, [...(response.additionals ?? [])]);
  const flags =
    FLAG.QR |
    (question.flags & (FLAG.RD | FLAG.CD)) |
    (response.isAuthoritative ? FLAG.AA : 0) |
    (isTruncated ? FLAG.TC : 0) |
    (response.isRecursive ? FLAG.RA : 0) |
    (code & 0xf);
  const counts = [question.id, flags, 1, answers, authorities, additionals + (question.edns ? 1 : 0)];
  for (const [i, count] of counts.entries()) space.writeUInt16BE(count, 2 * i);
  if (question.edns) writer.at += optOf(code, question.edns).copy(space, writer.at);
  return Uint8Array.prototype.slice.call(space, 0, writer.at);
}

/** An answer to a message whose question could not be read. */
export function writeRefusal({ id, flags, rcode }: { id: number; flags: number; rcode: Rcode }): Uint8Array {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(FLAG.QR | (flags & (0x7800 | FLAG.RD)) | RCODE[rcode], 2);
  return new Uint8Array(header);
}

interface Writer {
  at: number;
  readonly limit: number;
  /** Where the names that were written are. */
  readonly names: Map<string, number>;
  readonly ttlS: number;
}

/** Writes records, in whole sets, as many as fit. @returns how many */
function writeAll(writer: Writer, records: readonly ResourceRecord[]): number {
  let written = 0;
  while (written < records.length) {
    const { name, type } = records[written]!;
    const start = writer.at;
    let next = written;
    while (next < records.length && records[next]!.name === name && records[next]!.type === type) {
      if (!writeRecord(writer, records[next++]!)) {
        writer.at = start;
        for (const [known, at] of writer.names) if (at >= start) writer.names.delete(known);
        return written;
      }
    }
    written = next;
  }
  return written;
}

function writeRecord(writer: Writer, { name, type, data, ttl }: ResourceRecord): boolean {
  const codec = codecOf(type);
  const known = writer.names.get(name);
  const lengthBytes = (known === undefined ? nameCodec.encodingLength(name) : 2) + 8 + codec.encodingLength(data);
  if (writer.at + lengthBytes > writer.limit) return false;
  if (known === undefined) {
    note(writer, name, writer.at);
    nameCodec.encode(name, space, writer.at);
    writer.at += nameCodec.encode.bytes;
  } else writer.at = space.writeUInt16BE(0xc000 | known, writer.at);
  space.writeUInt16BE(TYPE[type], writer.at);
  space.writeUInt16BE(CLASS_IN, writer.at + 2);
  space.writeUInt32BE(ttl ?? writer.ttlS, writer.at + 4);
  // The names in these are not compressed, and others may point there.
  if (type === 'CNAME') note(writer, data as string, writer.at + 10);
  if (type === 'SRV') note(writer, (data as { target: string }).target, writer.at + 16);
  codec.encode(data, space, writer.at + 8);
  writer.at += 8 + codec.encode.bytes;
  return true;
}

function note({ names }: Writer, name: string, at: number): void {
  if (at < 0x4000 && !names.has(name)) names.set(name, at);
}

/** The OPT of an answer. */
export function optOf(code: number, { isDnssec }: Edns, sizeBytes = DATAGRAM_BYTES): Buffer {
  const record = Buffer.alloc(OPT_BYTES);
  record.writeUInt16BE(OPT, 1);
  record.writeUInt16BE(sizeBytes, 3);
  record.writeUInt8(code >>> 4, 5);
  record.writeUInt16BE(isDnssec ? FLAG_DO : 0, 7);
  return record;
}

/** The question for another name, of the same type. */
export function writeQuestion(question: Question, name: string): Question {
  const bytes = Buffer.concat([Buffer.alloc(nameCodec.encodingLength(name)), question.bytes.subarray(-4)]);
  nameCodec.encode(name, bytes, 0);
  return { ...question, name, bytes };
}

/** A question to another name server, with the sizes and flags of the client who asks. */
export function writeForeignQuestion(
  id: number,
  { question, flags, edns }: { readonly question: Uint8Array; readonly flags: number; readonly edns: Edns | undefined },
): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  const counts = [id, FLAG.RD | (flags & FLAG.CD), 1, 0, 0, edns ? 1 : 0];
  for (const [i, count] of counts.entries()) header.writeUInt16BE(count, 2 * i);
  const opt = edns ? [optOf(0, edns, Math.min(edns.sizeBytes, DATAGRAM_BYTES))] : [];
  return Buffer.concat([header, question, ...opt]);
}
