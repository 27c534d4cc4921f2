/**
 * How the switch and the thread of a hook talk: one question at a time, in memory that both share, while the switch waits. It waits
 * no longer than the hook may take, whatever the hook does.
 *
 *   idle ──switch──► asked ──thread──► at work ──thread──► answered
 *
 * A thread that waits for the processor is not to blame for that. So what counts is the time that it has run, and only if it does
 * not run either, there is another limit.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';

/** For a question or an answer, in bytes of UTF-8. */
const TEXT_BYTES = 256 * 1024;
/** The state, the length of the text, and the kernel's number of the thread. */
const STATE = 0;
const LENGTH = 1;
const THREAD = 2;
const HEAD_BYTES = 16;

/** 0 is idle. */
const ASKED = 1;
const AT_WORK = 2;
const ANSWERED = 3;

/** Of a hook that keeps its context from making text of what it says, or says too much. */
const NO_ANSWER = '';
/** How long a hook may run for one flow. The switch decides nothing else in the meantime. */
export const BUDGET_MS = 50;
const SLICE_MS = BUDGET_MS / 2;
/** The part of a slice that a thread has to run to have used it. */
const USED = 0.8;
/** How long the switch waits, although the thread does not run. */
const MOST_MS = 500;

export type ExchangeOutcome =
  | { readonly kind: 'answered'; readonly text: string }
  | { readonly kind: 'too_long' | 'too_slow' | 'not_begun' };

export class Exchange {
  readonly memory: SharedArrayBuffer;
  readonly #head: Int32Array;
  readonly #text: Buffer;

  constructor(memory = new SharedArrayBuffer(HEAD_BYTES + TEXT_BYTES)) {
    this.memory = memory;
    this.#head = new Int32Array(memory, 0, HEAD_BYTES / 4);
    this.#text = Buffer.from(memory, HEAD_BYTES);
  }

  /** For the switch. If there is no answer, nothing may be asked any more. */
  ask(question: string): ExchangeOutcome {
    if (!this.#write(question)) return { kind: 'too_long' };
    Atomics.store(this.#head, STATE, ASKED);
    Atomics.notify(this.#head, STATE);
    let ranMs: number | undefined;
    let state = ASKED;
    for (let waitedMs = 0; waitedMs < MOST_MS; waitedMs += SLICE_MS) {
      Atomics.wait(this.#head, STATE, state, SLICE_MS);
      state = Atomics.load(this.#head, STATE);
      if (state === ANSWERED) return { kind: 'answered', text: this.#read() };
      if (state === ASKED) continue;
      const nowMs = this.#ranMs();
      ranMs ??= nowMs;
      if (nowMs === undefined || nowMs - ranMs! >= USED * SLICE_MS) break;
    }
    return { kind: state === ASKED ? 'not_begun' : 'too_slow' };
  }

  /** For the thread: answers for as long as the thread lives. */
  answer(ask: (question: string) => string): never {
    Atomics.store(this.#head, THREAD, Number(basename(readlinkSync('/proc/thread-self'))));
    for (;;) {
      const state = Atomics.load(this.#head, STATE);
      if (state !== ASKED) {
        Atomics.wait(this.#head, STATE, state);
        continue;
      }
      // The switch sleeps until there is an answer.
      Atomics.store(this.#head, STATE, AT_WORK);
      if (!this.#write(answerOf(ask, this.#read()))) this.#write(NO_ANSWER);
      Atomics.store(this.#head, STATE, ANSWERED);
      Atomics.notify(this.#head, STATE);
    }
  }

  /** How long the thread has run; undefined if it has ended. */
  #ranMs(): number | undefined {
    try {
      const [nanoseconds] = readFileSync(`/proc/self/task/${this.#head[THREAD]}/schedstat`, 'utf8').split(' ');
      return Number(nanoseconds) / 1e6;
    } catch {
      return undefined;
    }
  }

  #write(text: string): boolean {
    if (Buffer.byteLength(text) > TEXT_BYTES) return false;
    Atomics.store(this.#head, LENGTH, this.#text.write(text));
    return true;
  }

  #read(): string {
    return this.#text.toString('utf8', 0, Atomics.load(this.#head, LENGTH));
  }
}

function answerOf(ask: (question: string) => string, question: string): string {
  try {
    return String(ask(question));
  } catch {
    return NO_ANSWER;
  }
}
