/** What is held of a shared store (`report.ts`), and how it is said. */
import * as z from 'zod';
import { someOf } from './name.ts';

/** Where a shared store has lost or reverted what is in force here. */
export const heldRecordReport = z.object({
  /** Such as `network "blue"`. */
  name: z.string(),
  /**
   * What the store says: it has none, has another one, or has one again. Of an endpoint that this host brings along to another
   * cluster, also that it waits there.
   */
  change: z.enum(['deleted', 'changed', 'returned', 'waiting']),
  /** Why, of what this host cannot bring along, or what waits. */
  why: z.string().optional(),
});

export type HeldRecordReport = z.infer<typeof heldRecordReport>;

export function heldText(held: readonly HeldRecordReport[]): string {
  return someOf(held.map(({ name, change, why }) => `${name} (${change}${why === undefined ? '' : `: ${why}`})`));
}
