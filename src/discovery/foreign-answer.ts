/**
 * Answers of other name servers. They go to the client as they came, byte by byte, but for what concerns only the message:
 * its number, the letters of the question, the lifetimes by now, and OPT. So no kind of record has to be known here.
 */
import { decode } from 'dns-packet';
import { HEADER_BYTES, optOf, RCODE, readLabels, type Question } from './message.ts';
import type { ResourceRecord } from './resource-record.ts';

export interface ForeignAnswer {
  /** Without OPT. */
  readonly bytes: Buffer;
  /** When it came, in milliseconds. */
  readonly atMs: number;
  /** How long it may be kept; 0: not at all. */
  readonly lifeMs: number;
  /** Where in `bytes` the lifetimes of its records are. */
  readonly ttls: readonly number[];
  /** Where the name of the question is written again. */
  readonly names: readonly number[];
}

/** dns-packet follows pointers to pointers: 64 KiB of them would take seconds. This is more than 500 addresses. */
const MOST_READ_BYTES = 8192;
/** How many aliases may follow each other. */
const MOST_ALIASES = 16;
/** dns-packet turns other bytes into characters that it would write in another way. */
const HOST = /^[\w*-]+(?:\.[\w*-]+)*$/;
/** The longest lifetimes that are believed, of answers and of negative ones, in seconds. */
const MOST_LIFE_S = 3600;
const MOST_NEGATIVE_LIFE_S = 60;

const FLAG = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080 } as const;
const OPT = 41;
const SOA = 6;

/** @param bytes of the caller, which it may use again. @returns undefined if it is no answer */
export function readAnswer(bytes: Uint8Array, atMs: number): ForeignAnswer | undefined {
  const message = Buffer.from(bytes);
  const question = message.length < HEADER_BYTES ? undefined : readLabels(message, HEADER_BYTES);
  if (!question) return undefined;
  const [answers, authorities, additionals] = [6, 8, 10].map((at) => message.readUInt16BE(at)) as [
    number,
    number,
    number,
  ];
  const count = answers + authorities + additionals;
  const ttls: number[] = [];
  const names: number[] = [];
  let lifeS = MOST_LIFE_S;
  let negativeLifeS = 0;
  let at = question.end + 4;
  for (let i = 0; i < count; i++) {
    const start = at;
    const fields = afterName(message, at);
    if (fields === undefined || fields + 10 > message.length) return undefined;
    const type = message.readUInt16BE(fields);
    at = fields + 10 + message.readUInt16BE(fields + 8);
    if (at > message.length) return undefined;
    if (type === OPT) {
      // What follows it may have pointers to what follows it, so it is left out, too. Name servers put little there.
      const before = i - answers - authorities;
      if (before < 0) return undefined;
      message.writeUInt16BE(before, 10);
      at = start;
      break;
    }
    const isWritten = fields - start === question.end - HEADER_BYTES;
    if (isWritten && readLabels(message, start)?.name === question.name) names.push(start);
    const ttlS = message.readUInt32BE(fields + 4);
    ttls.push(fields + 4);
    lifeS = Math.min(lifeS, ttlS);
    if (type === SOA && at - fields >= 14)
      negativeLifeS = Math.min(MOST_NEGATIVE_LIFE_S, ttlS, message.readUInt32BE(at - 4));
  }
  const flags = message.readUInt16BE(2);
  const code = flags & 0xf;
  const isKept = (code === RCODE.NOERROR || code === RCODE.NXDOMAIN) && (flags & FLAG.TC) === 0;
  const isPositive = answers > 0 && code === RCODE.NOERROR;
  const keptS = isPositive ? lifeS : negativeLifeS;
  return { bytes: message.subarray(0, at), atMs, lifeMs: isKept ? keptS * 1000 : 0, ttls, names };
}

/** @returns a whole message for the client */
export function relay(answer: ForeignAnswer, question: Question, limitBytes: number, nowMs: number): Uint8Array {
  const opt = question.edns ? optOf(0, question.edns) : Buffer.alloc(0);
  const isWhole = answer.bytes.length + opt.length <= limitBytes;
  const length = isWhole ? answer.bytes.length : HEADER_BYTES + question.bytes.length;
  const message = Buffer.concat([answer.bytes.subarray(0, length), opt]);
  const flags = message.readUInt16BE(2) & ~(FLAG.AA | FLAG.TC | FLAG.RD);
  message.writeUInt16BE(question.id, 0);
  message.writeUInt16BE(flags | FLAG.QR | FLAG.RA | (question.flags & FLAG.RD) | (isWhole ? 0 : FLAG.TC), 2);
  message.set(question.bytes, HEADER_BYTES);
  if (isWhole) for (const at of answer.names) message.set(question.bytes.subarray(0, -4), at);
  const ageS = Math.floor((nowMs - answer.atMs) / 1000);
  if (isWhole) for (const at of answer.ttls) message.writeUInt32BE(Math.max(0, message.readUInt32BE(at) - ageS), at);
  else for (const at of [6, 8, 10]) message.writeUInt16BE(0, at);
  if (question.edns) message.writeUInt16BE(message.readUInt16BE(10) + 1, 10);
  return message;
}

/** What other name servers say of a name that one of weft's is an alias for. */
export interface TargetAnswer {
  readonly rcode: 'NOERROR' | 'NXDOMAIN';
  readonly records: readonly ResourceRecord[];
}

/** @param target in lower case @returns undefined if they do not know whether it exists, or if their answer cannot be used */
export function readTarget(bytes: Buffer, target: string): TargetAnswer | undefined {
  const code = bytes.readUInt16BE(2) & 0xf;
  if (code !== RCODE.NOERROR && code !== RCODE.NXDOMAIN) return undefined;
  const records = recordsOf(bytes, target);
  return records && { rcode: code === RCODE.NOERROR ? 'NOERROR' : 'NXDOMAIN', records };
}

/**
 * The addresses that a name has, and the aliases on the way to them, in the order of that way. Whatever else the answer has is left
 * out, since it would be said in weft's name (RFC 5452 section 6).
 *
 * @param target in lower case @returns undefined if the answer cannot be read, is too long, or leads to a name that is none of a host
 */
export function recordsOf(bytes: Buffer, target: string): readonly ResourceRecord[] | undefined {
  if (bytes.length > MOST_READ_BYTES) return undefined;
  const all = addressesAndAliases(bytes);
  const way: ResourceRecord[] = [];
  let next = target;
  for (let aliases = 0; all && aliases <= MOST_ALIASES; aliases++) {
    const own = all.filter(({ name }) => name === next);
    const alias = own.find(({ type }) => type === 'CNAME');
    if (!alias) return [...way, ...own];
    way.push(alias);
    next = alias.data as string;
    if (!HOST.test(next)) return undefined;
  }
  return undefined;
}

function addressesAndAliases(bytes: Buffer): readonly ResourceRecord[] | undefined {
  try {
    const { answers = [] } = decode(bytes);
    return answers.flatMap((record): ResourceRecord[] => {
      const { name, type } = record;
      if (type !== 'A' && type !== 'AAAA' && type !== 'CNAME') return [];
      return [{ name: name.toLowerCase(), type, data: record.data.toLowerCase(), ttl: record.ttl ?? 0 }];
    });
  } catch {
    return undefined;
  }
}

/** Where the name at `at` ends, which may end with a pointer. */
function afterName(message: Buffer, at: number): number | undefined {
  for (;;) {
    const length = message[at];
    if (length === undefined) return undefined;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2;
    if (length > 63) return undefined;
    at += 1 + length;
  }
}
