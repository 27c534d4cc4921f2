/**
 * Writes of this host to the store, as changes of what is in force: one is done when the feed has reported it, and it is in
 * force here.
 */
import { WeftError } from '../error.ts';
import type { Transaction } from '../store/store.ts';
import type { Enforcement } from './enforcement.ts';
import type { Feed } from './feed/feed.ts';
import { PlanAgain } from './plan-again.ts';

export interface WritesEnvironment {
  readonly feed: Feed;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
}

/** How long a change that was refused waits for the feed to say why, at most. */
const MOST_WAITED_MS = 1000;

export class Writes {
  readonly #environment: WritesEnvironment;
  readonly #enforcement: Enforcement;

  constructor(environment: WritesEnvironment, enforcement: Enforcement) {
    this.#environment = environment;
    this.#enforcement = enforcement;
  }

  /**
   * Resolves when the change is in force, with its revision, which is negative if the store does not have it yet. @param onStored called as soon as the store has it, with its revision
   * @throws PlanAgain if others have changed what it was planned on
   */
  async write(transaction: Transaction, onStored: (revision: number) => void = () => {}): Promise<number> {
    const { feed } = this.#environment;
    const plannedOn = this.#enforcement.revision;
    let revision: number;
    try {
      revision = await feed.transact(transaction);
    } catch (error) {
      if (!(error instanceof WeftError) || error.code !== 'conflict') throw error;
      throw new PlanAgain(error, () => this.#untilAfter(plannedOn));
    }
    onStored(revision);
    await feed.caughtUp(revision);
    await this.#enforcement.follow();
    return revision;
  }

  /** Resolves when the feed has something newer than that revision, or after a time. */
  async #untilAfter(revision: number): Promise<void> {
    const { feed, after } = this.#environment;
    let cancel = (): void => {};
    const isOver = new Promise<void>((resolve) => (cancel = after(MOST_WAITED_MS, resolve)));
    await Promise.race([feed.caughtUp(revision + 1), isOver]);
    cancel();
  }
}
