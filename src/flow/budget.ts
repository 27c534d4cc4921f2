/**
 * Numbers of the tables (fields, opcodes, drop reasons) are packed into a fixed number of bits in
 * several places. Each table says which places those are, and checks at start-up that all of its
 * numbers fit: a number that does not would silently mean another one. Where only the addon packs
 * them, `native/` has a `static_assert`.
 */
import { WeftError } from '../error.ts';

export interface Budget {
  /** What is counted, in the plural. */
  readonly what: string;
  readonly needed: number;
  /** What the bits have room for. */
  readonly most: number;
  /** The places that have to be widened for more. */
  readonly widen: string;
}

/** @throws WeftError('internal') that says what to widen, for the first budget that is exceeded */
export function checkBudgets(budgets: readonly Budget[]): void {
  for (const { what, needed, most, widen } of budgets) {
    if (needed > most) {
      throw new WeftError('internal', `${needed} ${what} do not fit: there is room for ${most}; widen ${widen}`);
    }
  }
}
