/** Times as options take them: `500ms`, `30s`, `2m`, `1h`; without a unit, seconds. */
import { InvalidArgumentError } from 'commander';
import { durationText } from '../model/duration.ts';

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Returns a function that reads milliseconds. */
export function timeIn({ leastMs, mostMs }: { readonly leastMs: number; readonly mostMs: number }) {
  return (text: string): number => {
    const [, digits, unit = 's'] = /^(\d+)(ms|s|m|h)?$/.exec(text) ?? [];
    const milliseconds = Number(digits) * UNITS_MS[unit]!;
    if (milliseconds >= leastMs && milliseconds <= mostMs) return milliseconds;
    const range = `${durationText(leastMs)} to ${durationText(mostMs)}`;
    throw new InvalidArgumentError(`a time such as 30s or 2m is expected, ${range}.`);
  };
}
