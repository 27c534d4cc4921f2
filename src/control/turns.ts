/** Long work is done in turns of the event loop, so that other callers are answered in the meantime. */

/** Postpones work to a later turn, like `setImmediate`. */
export type Later = (work: () => void) => void;

/** Calls `work` until it returns false: once now, then once in each turn. Without `later`, all of it now. */
export function inTurns(later: Later | undefined, work: () => boolean): void {
  while (work()) if (later) return later(() => inTurns(later, work));
}
