/**
 * A change that has to be planned again: another writer has changed what it was planned on, or it needs something first
 * that takes other hosts. `planned` does that, so nobody else sees one, unless it was tried too often.
 */
import { WeftError } from '../error.ts';

/** How often a change is planned again because others change the same. */
const MOST_ATTEMPTS = 50;

export class PlanAgain extends WeftError {
  /**
   * Resolves when planning again makes sense. It is called while other changes of this host go on.
   * @throws WeftError if it is not possible at all
   */
  readonly ready: () => Promise<void>;

  /** @param why what to report if planning again does not help */
  constructor(why: WeftError, ready: () => Promise<void>) {
    super(why.code, why.message, { cause: why });
    this.ready = ready;
  }
}

/** Plans a change and makes it, and does so again as long as others change what it is planned on. */
export async function planned<T>(change: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await change();
    } catch (error) {
      if (!(error instanceof PlanAgain) || attempt === MOST_ATTEMPTS) throw error;
      await error.ready();
    }
  }
}
