/**
 * Names that are not weft's, for networks with an outside: answered from memory as long as the answer lives, otherwise by the
 * host's name servers (`upstreams.ts`). Those are asked by a thread of its own, because this one is in the namespace of
 * weft's own sockets, where nothing outside is reached.
 *
 * What clients can take here is bounded: so many questions of one client and of all may wait, equal ones are asked once, and
 * so many answers are remembered. Whoever has too many questions is told SERVFAIL at once.
 */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { ServerSurroundings } from '../internal/server.ts';
import { parseIp } from '../flow/types.ts';
import { packageRoot } from '../package.ts';
import { AnswerCache } from './answer-cache.ts';
import { CLASS_IN, writeQuestion, type Question } from './message.ts';
import { readAnswer, readTarget, relay, type ForeignAnswer, type TargetAnswer } from './foreign-answer.ts';
import type { FromUpstreams, ToUpstreams } from './upstream-messages.ts';

/** How many questions may wait for their answers. */
export const MOST_WAITING = { ofAll: 1024, ofClient: 64 };
/** No client may have more waiting than this part of what is left, so that there always is room for one that has none. */
const MOST_SHARE = 8;

/** Whether one more question of a client may wait, of which `own` do, and `all` of all clients. */
export function mayWait(own: number, all: number): boolean {
  return own < Math.min(MOST_WAITING.ofClient, Math.ceil((MOST_WAITING.ofAll - all) / MOST_SHARE));
}

/** The code of the thread that asks. */
const CODE = import.meta.url.endsWith('.ts')
  ? new URL('worker.ts', import.meta.url)
  : join(packageRoot, 'dist/discovery/worker.js');
/** Of its heap, in MiB. */
const HEAP_LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 };

export class ForeignNames {
  readonly #surroundings: ServerSurroundings;
  readonly #worker: Worker;
  readonly #cache: AnswerCache;
  /** Questions that wait, by what is asked, and by their number. */
  readonly #asked = new Map<string, Promise<ForeignAnswer | undefined>>();
  readonly #waiting = new Map<number, (message: Uint8Array | undefined) => void>();
  readonly #ofClients = new Map<number, number>();
  #count = 0;
  #last = 0;
  #servers: readonly string[] = [];
  #isOurs: (ip: Uint8Array) => boolean = () => false;

  constructor(surroundings: ServerSurroundings) {
    this.#surroundings = surroundings;
    this.#cache = new AnswerCache(surroundings.clock);
    this.#worker = new Worker(CODE, { resourceLimits: HEAP_LIMITS });
    this.#worker.on('message', (message: FromUpstreams) => {
      if (message.kind === 'servers') this.#servers = message.addresses;
      else this.#waiting.get(message.id)?.(message.message);
    });
    // Without it, this thread ends as well, and both are started again.
    this.#worker.on('error', (error) => {
      throw error;
    });
  }

  /** Says which addresses are weft's own, so that no question goes in a circle. */
  avoid(isOurs: (ip: Uint8Array) => boolean): void {
    this.#isOurs = isOurs;
  }

  /** Asks for a name. @returns the whole answer for the client, at most `limitBytes` long; undefined if nobody has one */
  async forward(question: Question, client: number, limitBytes: number): Promise<Uint8Array | undefined> {
    const answer = await this.#ask(question, client);
    return answer && relay(answer, question, limitBytes, this.#surroundings.clock());
  }

  /** Asks what an alias leads to. @returns undefined if nobody knows */
  async follow(question: Question, target: string, client: number): Promise<TargetAnswer | undefined> {
    const answer = await this.#ask({ ...writeQuestion(question, target), edns: undefined }, client);
    return answer && readTarget(answer.bytes, target);
  }

  async #ask(question: Question, client: number): Promise<ForeignAnswer | undefined> {
    const key = keyOf(question);
    const known = this.#cache.find(key);
    if (known) return known;
    const own = this.#ofClients.get(client) ?? 0;
    if (!mayWait(own, this.#count)) return undefined;
    this.#ofClients.set(client, own + 1);
    this.#count++;
    const asked = this.#asked.get(key) ?? this.#askUpstreams(key, question);
    try {
      return await asked;
    } finally {
      this.#count--;
      const still = this.#ofClients.get(client)! - 1;
      if (still > 0) this.#ofClients.set(client, still);
      else this.#ofClients.delete(client);
    }
  }

  /** A message that cannot be read is a defect in weft, and must cost its question only. */
  #read(message: Uint8Array): ForeignAnswer | undefined {
    const { clock, onFailed } = this.#surroundings;
    try {
      return readAnswer(message, clock());
    } catch (error) {
      onFailed(error);
      return undefined;
    }
  }

  #askUpstreams(key: string, question: Question): Promise<ForeignAnswer | undefined> {
    const servers = this.#servers.filter((address) => !this.#isOurs(parseIp(address.replace(/%.*/, ''))));
    if (servers.length === 0) return Promise.resolve(undefined);
    const id = (this.#last = (this.#last + 1) >>> 0);
    const asked = new Promise<ForeignAnswer | undefined>((resolve) => {
      this.#waiting.set(id, (message) => {
        this.#waiting.delete(id);
        this.#asked.delete(key);
        const answer = message && this.#read(message);
        if (answer) this.#cache.add(key, answer);
        resolve(answer);
      });
    });
    this.#asked.set(key, asked);
    const { bytes, flags, edns } = question;
    this.#worker.postMessage({ kind: 'ask', id, question: bytes, flags, edns, servers } satisfies ToUpstreams);
    return asked;
  }
}

/** What makes the answer to a question another one. */
function keyOf({ name, type, class: of, flags, edns }: Question): string {
  const isUnchecked = (flags & 0x10) !== 0;
  return `${name} ${type} ${of === CLASS_IN ? '' : of} ${isUnchecked} ${edns ? edns.isDnssec : ''}`;
}
