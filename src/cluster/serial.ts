/** Changes of one host run one after the other: each sees what those before it did. */
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

  /** What comes from now on is refused. Resolves when what runs has ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#last;
  }
}
