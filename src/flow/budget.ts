/**
 * The numbers of the tables (fields, opcodes, drop reasons) are packed into a fixed number of bits
 * in several places. Each table says which places those are, and checks at start-up that all of its
 * numbers fit: one that does not would silently mean something else. Where only the addon packs
 * them, `native/` has a `static_assert`.
 */
import { WeftError } from '../error.ts';

export interface Budget {
  /** What is counted, in the plural. */
  readonly what: string;
  readonly needed: number;
  /** The most that the bits can hold. */
  readonly most: number;
  /** The places to widen if there are more. */
  readonly widen: string;
}

/** Checks each budget. @throws WeftError('internal') that says what to widen, for the first one that is exceeded */
export function checkBudgets(budgets: readonly Budget[]): void {
  for (const { what, needed, most, widen } of budgets) {
    if (needed > most) {
      throw new WeftError('internal', `${needed} ${what} do not fit: there is room for ${most}; widen ${widen}`);
    }
  }
}
