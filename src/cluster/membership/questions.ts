/**
 * Questions to the other hosts of a shared store.
 *
 *   asked/ID          the question, written under a lease that whoever asks has for it alone. All hosts follow these
 *   answers/ID/HOST   what a host says to it, written under the same lease. Whoever asks follows those to its own
 *
 * When all have answered, or have had the time to, the lease is given back, and with it go question and answers. They do so, too, when
 * whoever asks dies: the lease ends. Both are bounded in length. Who does not answer is named, with why if that is known.
 */
import type { WeftError } from '../../error.ts';
import { answerRecord, askedRecord } from '../../model/records.ts';
import type { Change, Store } from '../../store/store.ts';

export interface OtherHost {
  readonly name: string;
  /** Why it cannot be asked; undefined if it can be. */
  readonly why: string | undefined;
}

export interface QuestionsEnvironment {
  /** Where they are written, apart from what hosts follow otherwise. */
  readonly store: Store;
  /** The name of this host. */
  readonly host: string;
  readonly others: () => readonly OtherHost[];
  /** Why nothing may be written to the store now; undefined if it may be. */
  readonly mustWait: () => string | undefined;
  /** Returns a random text. */
  readonly newId: () => string;
  /** What this host says. It must be JSON. */
  readonly answer: (question: unknown) => Promise<object>;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
}

export interface Answers {
  /** By host. */
  readonly given: ReadonlyMap<string, unknown>;
  /** Of each host that has given none: why. */
  readonly missing: ReadonlyMap<string, string>;
}

/** What hosts of this version can do, as they register it. */
export const ANSWERS_QUESTIONS = 'questions';

const ASKED = 'asked/';
export const MOST_QUESTION_BYTES = 512 * 1024;
export const MOST_ANSWER_BYTES = 256 * 1024;
/** How long hosts have to answer. */
const PATIENCE_MS = 10_000;
const LEASE_MS = 30_000;
/** How many questions may wait here for their answer. The others get none. */
const MOST_WAITING = 16;

interface Asked {
  readonly key: string;
  readonly revision: number;
  readonly lease: string;
  readonly question: unknown;
}

export class Questions {
  readonly #environment: QuestionsEnvironment;
  #stopWatch: (() => void) | undefined;
  #beginning: Promise<void> | undefined;
  /** By key: those that wait for an answer of this host. */
  readonly #waiting = new Map<string, Asked>();
  #isAnswering = false;
  #isClosed = false;

  constructor(environment: QuestionsEnvironment) {
    this.#environment = environment;
  }

  /** Follows what is asked, if that is not done yet. Called about once a second; never throws. */
  keep(): Promise<void> {
    if (this.#stopWatch || this.#isClosed) return Promise.resolve();
    return (this.#beginning ??= this.#begin()
      .catch(() => {})
      .finally(() => (this.#beginning = undefined)));
  }

  close(): void {
    this.#isClosed = true;
    this.#stopWatch?.();
    this.#waiting.clear();
  }

  /** Asks all other hosts. Never throws: whoever cannot be asked has not answered. */
  async ask(question: object): Promise<Answers> {
    const { store, others, mustWait } = this.#environment;
    const missing = new Map<string, string>();
    const asked = new Set<string>();
    const all = others();
    for (const { name: host, why } of all) {
      if (why === undefined) asked.add(host);
      else missing.set(host, why);
    }
    const given = new Map<string, unknown>();
    const why =
      mustWait() ?? (lengthOf(question) > MOST_QUESTION_BYTES ? 'the change is too long to ask it' : undefined);
    let lease: string | undefined;
    try {
      if (asked.size > 0 && why === undefined) {
        lease = await store.grant(LEASE_MS);
        await this.#collect(question, lease, asked, given);
      }
      for (const host of asked)
        if (!given.has(host)) missing.set(host, why ?? `it did not answer within ${PATIENCE_MS / 1000} s`);
    } catch (error) {
      for (const host of asked) if (!given.has(host)) missing.set(host, (error as WeftError).message);
    } finally {
      if (lease !== undefined) await store.revoke(lease).catch(() => {});
    }
    return { given, missing };
  }

  /** Waits until all have answered that were asked, or have had the time to. */
  async #collect(
    question: object,
    lease: string,
    asked: ReadonlySet<string>,
    given: Map<string, unknown>,
  ): Promise<void> {
    const { store, host, newId, after } = this.#environment;
    const id = newId();
    const prefix = `answers/${id}/`;
    const revision = await store.transact({ put: [{ key: ASKED + id, value: { host, lease, question }, lease }] });
    await new Promise<void>((resolve) => {
      const stop = store.watch(prefix, revision + 1, (event) => {
        if (event.kind === 'compacted') return finish();
        for (const { entry } of event.changes) {
          const read = answerRecord.safeParse(entry?.value).data;
          if (read && asked.has(read.host)) given.set(read.host, read.answer);
        }
        if (given.size === asked.size) finish();
      });
      const cancel = after(PATIENCE_MS, () => finish());
      const finish = (): void => {
        cancel();
        stop();
        resolve();
      };
    });
  }

  async #begin(): Promise<void> {
    const { store } = this.#environment;
    const { entries, revision } = await store.list(ASKED);
    if (this.#isClosed) return;
    this.#see(entries.map((entry) => ({ key: entry.key, entry })));
    this.#stopWatch = store.watch(ASKED, revision + 1, (event) => {
      if (event.kind === 'changes') this.#see(event.changes);
      else this.#stopWatch = undefined;
    });
  }

  #see(changes: readonly Change[]): void {
    for (const { key, entry } of changes) {
      // Whoever has asked does not wait any more.
      this.#waiting.delete(key);
      const read = askedRecord.safeParse(entry?.value).data;
      if (!entry || !read || read.host === this.#environment.host || this.#waiting.size >= MOST_WAITING) continue;
      this.#waiting.set(key, { key, revision: entry.revision, lease: read.lease, question: read.question });
    }
    if (!this.#isAnswering) void this.#answerAll();
  }

  /** One after the other. Never throws. */
  async #answerAll(): Promise<void> {
    this.#isAnswering = true;
    for (let [next] = this.#waiting.values(); next; [next] = this.#waiting.values()) {
      this.#waiting.delete(next.key);
      await this.#answer(next).catch(() => {}); // whoever asks names who does not answer
    }
    this.#isAnswering = false;
  }

  async #answer({ key, revision, lease, question }: Asked): Promise<void> {
    const { store, host, answer: answerOf, mustWait } = this.#environment;
    if (mustWait() !== undefined) return;
    const answer = await answerOf(question);
    if (lengthOf(answer) > MOST_ANSWER_BYTES) return;
    await store.transact({
      expect: [{ key, revision }],
      put: [{ key: `answers/${key.slice(ASKED.length)}/${host}`, value: { host, answer }, lease }],
    });
  }
}

function lengthOf(value: object): number {
  return Buffer.byteLength(JSON.stringify(value));
}
