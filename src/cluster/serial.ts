/** Runs the changes of one host one after the other, so that each sees the results of those before it. */
import { WeftError } from '../error.ts';

const STOPPING = 'the switch is stopping';

export class Serial {
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  run<T>(change: () => Promise<T>): Promise<T> {
    const run = this.#last.then(() => {
      if (this.#isClosed) throw new WeftError('conflict', STOPPING);
      return change();
    });
    this.#last = run.catch(() => {});
    return run;
  }

  /** Refuses all further changes. Resolves when the running one has ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#last;
  }
}

/** Closing the switch refuses everything that was still queued. */
export function isStopping(error: unknown): boolean {
  return error instanceof WeftError && error.code === 'conflict' && error.message === STOPPING;
}
