/** What is held of a shared store, in words. */
import type { HeldRecordReport } from './report.ts';

/** How many are named. */
const MOST_NAMED = 10;

export function heldText(held: readonly HeldRecordReport[]): string {
  const named = held.slice(0, MOST_NAMED).map(({ name, change }) => `${name} (${change})`);
  const more = held.length > named.length ? ` and ${held.length - named.length} more` : '';
  return `${named.join(', ')}${more}`;
}
