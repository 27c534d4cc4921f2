/** Medians with their spread, and ratios of values from the same round. */

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** At least one value. With an even number the median is the mean of the two in the middle. */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0) throw new RangeError('a summary of nothing');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle]!;
  return {
    median: sorted.length % 2 === 1 ? upper : (sorted[middle - 1]! + upper) / 2,
    min: sorted[0]!,
    max: sorted.at(-1)!,
  };
}

/**
 * The ratio of each round in which both were measured. Whatever slows the whole machine down for
 * a while slows down both, so ratios vary less than the values that they are made of. A round
 * whose divisor is 0 has no ratio.
 * @param values one for each round; null if the measurement failed
 */
export function pairedRatios(values: readonly (number | null)[], against: readonly (number | null)[]): number[] {
  return values.flatMap((value, round) => {
    const divisor = against[round] ?? null;
    return value === null || divisor === null || divisor === 0 ? [] : [value / divisor];
  });
}
