/** Answers of other name servers, as long as they say that they may be kept. Those that were used long ago make room. */
import type { ForeignAnswer } from './foreign-answer.ts';

/** With the largest ones that are kept, this is 8 MiB. */
const MOST_ANSWERS = 2048;
const MOST_ANSWER_BYTES = 4096;

export class AnswerCache {
  readonly #clock: () => number;
  /** The one that was used last is the last. */
  readonly #answers = new Map<string, ForeignAnswer>();

  /** @param clock milliseconds */
  constructor(clock: () => number) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#answers.size;
  }

  find(key: string): ForeignAnswer | undefined {
    const answer = this.#answers.get(key);
    if (!answer) return undefined;
    this.#answers.delete(key);
    if (this.#clock() >= answer.atMs + answer.lifeMs) return undefined;
    this.#answers.set(key, answer);
    return answer;
  }

  add(key: string, answer: ForeignAnswer): void {
    if (answer.lifeMs === 0 || answer.bytes.length > MOST_ANSWER_BYTES) return;
    this.#answers.delete(key);
    if (this.#answers.size >= MOST_ANSWERS) this.#answers.delete(this.#answers.keys().next().value!);
    this.#answers.set(key, answer);
  }
}
