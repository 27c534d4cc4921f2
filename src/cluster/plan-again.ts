/**
 * A change that has to be planned again: another writer has changed what it was planned on, or it needs something first
 * that takes other hosts. `Cluster.change` does that, so nobody else sees one, unless it was tried too often.
 */
import { WeftError } from '../error.ts';

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
