/**
 * How many upcalls one turn of the event loop gets. Most answers send one frame, and a whole batch takes a few
 * milliseconds. The answer to a flood sends as many frames as its network has ports, so that a batch of them would hold
 * up everything else: then the turns get fewer, until the answers are short again.
 */
import { UPCALL_BATCH } from '../../flow/bounds.ts';

/** How many actions the answers of one turn should have together; takes some tens of milliseconds. */
export const TURN_ACTIONS = 4096;

/** Of each two upcalls, one is to a group if any waits. */
const LEAST = 2;

export class UpcallLimit {
  #next = UPCALL_BATCH;
  #actions = 0;

  /** Called at the beginning of a turn. Returns how many upcalls it gets at most. */
  beginTurn(): number {
    this.#actions = 0;
    return this.#next;
  }

  /** Counts the actions of an answer of this turn. */
  count(actions: number): void {
    this.#actions += actions;
  }

  /** Called at the end of a turn that had this many upcalls. One that had none says nothing about the next. */
  endTurn(upcalls: number): void {
    if (upcalls === 0) return;
    const each = this.#actions / upcalls;
    // Doubled at most, because the upcalls that follow may be floods again.
    const more = Math.min(2 * this.#next, Math.floor(TURN_ACTIONS / Math.max(each, 1)));
    this.#next = Math.min(Math.max(more, LEAST), UPCALL_BATCH);
  }
}
