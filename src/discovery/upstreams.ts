/**
 * Asks other name servers.
 *
 *   1. over UDP, from a socket of its own with a port that the kernel chooses, with a random number; connected, so that only
 *      that server is heard (RFC 5452)
 *   2. an answer counts if it has the number and the question; one that is truncated is asked for again over TCP
 *   3. a server that refuses or fails is not asked again, and the next one is at once; one that is silent gets company after
 *      a while
 *   4. after four seconds, nobody has answered
 */
import { createSocket, type Socket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import { HEADER_BYTES, RCODE, writeForeignQuestion } from './message.ts';
import type { ToUpstreams } from './upstream-messages.ts';

const DNS_L4_PORT = 53;
export const DEADLINE_MS = 4000;
/** How long a silent server is waited for alone. */
const PATIENCE_MS = 1200;
const MOST_TRIES = 3;
/** The flag QR, and the operation QUERY. */
const ANSWER = 0x10;
const FLAG_TC = 0x0200;
/** Of the length before a message over TCP. */
const LENGTH_BYTES = 2;

export interface UpstreamSurroundings {
  readonly after: (delayMs: number, work: () => void) => () => void;
  readonly randomBelow: (limit: number) => number;
}

/** @returns the answer, whatever it says; undefined if there is none in time */
export function askUpstreams(asked: ToUpstreams, surroundings: UpstreamSurroundings): Promise<Uint8Array | undefined> {
  return new Promise((resolve) => {
    new Asking(asked, surroundings, resolve).begin();
  });
}

class Asking {
  readonly #asked: ToUpstreams;
  readonly #surroundings: UpstreamSurroundings;
  readonly #resolve: (message: Uint8Array | undefined) => void;
  readonly #closers: (() => void)[] = [];
  /** Servers that do not answer this question. */
  readonly #failed = new Set<string>();
  readonly #overTcp = new Set<string>();
  /** What one of them said. */
  #refusal: Uint8Array | undefined;
  #tries = 0;
  #isDone = false;

  constructor(
    asked: ToUpstreams,
    surroundings: UpstreamSurroundings,
    resolve: (message: Uint8Array | undefined) => void,
  ) {
    this.#asked = asked;
    this.#surroundings = surroundings;
    this.#resolve = resolve;
  }

  begin(): void {
    this.#closers.push(this.#surroundings.after(DEADLINE_MS, () => this.#end(this.#refusal)));
    this.#tryNext();
  }

  #tryNext(): void {
    const { servers } = this.#asked;
    const left = servers.filter((server) => !this.#failed.has(server));
    if (this.#isDone) return;
    if (left.length === 0) return this.#end(this.#refusal);
    if (this.#tries >= MOST_TRIES) return;
    const server = left[this.#tries++ % left.length]!;
    this.#closers.push(this.#surroundings.after(PATIENCE_MS, () => this.#tryNext()));
    this.#askOverUdp(server);
  }

  #askOverUdp(server: string): void {
    const query = this.#query();
    const socket: Socket = createSocket(isIPv6(server) ? 'udp6' : 'udp4');
    this.#closers.push(() => socket.close());
    socket.on('error', () => this.#fail(server));
    socket.on('message', (message) => {
      if (!isAnswerTo(query, message)) return;
      if (message.readUInt16BE(2) & FLAG_TC) this.#askOverTcp(server);
      else this.#take(server, message);
    });
    // A callback of `connect` would be called when there is no route to it, too.
    socket.on('connect', () => {
      if (!this.#isDone) socket.send(query);
    });
    socket.connect(DNS_L4_PORT, server);
  }

  /** However often it says that its answer is truncated, it is asked once. */
  #askOverTcp(server: string): void {
    if (this.#isDone || this.#overTcp.has(server)) return;
    this.#overTcp.add(server);
    const query = this.#query();
    const socket = connect({ host: server, port: DNS_L4_PORT });
    const pieces: Buffer[] = [];
    let receivedBytes = 0;
    let wholeBytes = LENGTH_BYTES;
    const failed = (): void => {
      socket.destroy();
      this.#fail(server);
    };
    this.#closers.push(() => socket.destroy());
    socket.on('error', failed);
    socket.on('end', failed);
    socket.on('data', (bytes: Buffer) => {
      pieces.push(bytes);
      receivedBytes += bytes.length;
      if (receivedBytes < wholeBytes) return;
      const received = Buffer.concat(pieces.splice(0));
      wholeBytes = LENGTH_BYTES + received.readUInt16BE();
      if (receivedBytes < wholeBytes) return void pieces.push(received);
      const message = received.subarray(LENGTH_BYTES, wholeBytes);
      if (!isAnswerTo(query, message)) return failed();
      this.#take(server, message);
      socket.destroy();
    });
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeUInt16BE(query.length);
    socket.write(Buffer.concat([length, query]));
  }

  #query(): Buffer {
    return writeForeignQuestion(this.#surroundings.randomBelow(0x10000), this.#asked);
  }

  #take(server: string, message: Buffer): void {
    const code = message.readUInt16BE(2) & 0xf;
    if (code !== RCODE.SERVFAIL && code !== RCODE.REFUSED) return this.#end(message);
    this.#refusal = Uint8Array.from(message);
    this.#fail(server);
  }

  #fail(server: string): void {
    if (this.#isDone || this.#failed.has(server)) return;
    this.#failed.add(server);
    this.#tryNext();
  }

  #end(message: Uint8Array | undefined): void {
    if (this.#isDone) return;
    this.#isDone = true;
    for (const close of this.#closers) close();
    this.#resolve(message && Uint8Array.from(message));
  }
}

/** True if a message is an answer with the number and the question of the query. Letters may have another case. */
function isAnswerTo(query: Buffer, message: Buffer): boolean {
  if (message.length < HEADER_BYTES || message.readUInt16BE(0) !== query.readUInt16BE(0)) return false;
  if (message[2]! >>> 3 !== ANSWER || message.readUInt16BE(4) !== 1) return false;
  const end = endOfQuestion(query);
  if (message.length < end) return false;
  const text = (of: Buffer): string => of.toString('latin1', HEADER_BYTES, end).replaceAll(/[A-Z]/g, lower);
  return text(message) === text(query);
}

function lower(letter: string): string {
  return letter.toLowerCase();
}

function endOfQuestion(query: Buffer): number {
  let at = HEADER_BYTES;
  while (query[at] !== 0) at += 1 + query[at]!;
  return at + 5;
}
