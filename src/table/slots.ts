/** Slots of the table of connections that are gone through at a time. */
export interface Slots {
  readonly from: number;
  /** The first one behind them. */
  readonly to: number;
}

export const allSlots: Slots = { from: 0, to: Infinity };

/** The next slot that may have what is looked for, from `from` on and below `to`; -1: none. */
export type NextSlot = (from: number, to: number) => number;
