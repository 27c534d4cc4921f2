/** Runs the changes of one host one after the other, so that each sees the results of those before it. */
import { WeftError } from '../error.ts';

export class Serial {
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  run<T>(change: () => Promise<T>): Promise<T> {
    const run = this.#last.then(() => {
      if (this.#isClosed) throw new WeftError('conflict', 'the switch is stopping');
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
