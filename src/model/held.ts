/** What is held of a shared store, in words. */
import { someOf } from './name.ts';
import type { HeldRecordReport } from './report.ts';

export function heldText(held: readonly HeldRecordReport[]): string {
  return someOf(held.map(({ name, change, why }) => `${name} (${change}${why === undefined ? '' : `: ${why}`})`));
}
