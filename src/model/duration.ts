/** Times as Go and Istio write them: `1h30m`, `10s`, `1.5s`, `100ms`. */
import * as z from 'zod';
import { quote } from './value.ts';

const UNITS_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
const PART = /(\d{1,9}(?:\.\d{1,3})?)(h|ms|m|s)/g;
const WHOLE = new RegExp(`^(?:${PART.source})+$`);

/** Milliseconds of a validated duration; undefined for a text that is none. */
function parse(text: string): number | undefined {
  if (!WHOLE.test(text)) return undefined;
  // Decimals are digits of a whole number, so 1.1s is exactly 1100.
  const thousandths = [...text.matchAll(PART)].map(([, digits, unit = '']) =>
    Math.round(Math.round(Number(digits) * 1000) * UNITS_MS[unit]!),
  );
  return thousandths.reduce((sum, part) => sum + part, 0) / 1000;
}

/** Milliseconds of a validated duration. */
export function durationMs(text: string): number {
  return parse(text)!;
}

/** @param leastMs the shortest that is accepted. @param is what it is, for the message: `a timeout` */
export function duration(is: string, { leastMs, mostMs }: { readonly leastMs: number; readonly mostMs: number }) {
  return z.string().superRefine((text, context) => {
    const ms = parse(text);
    if (ms !== undefined && Number.isInteger(ms) && ms >= leastMs && ms <= mostMs) return;
    const what = ms === undefined || !Number.isInteger(ms) ? 'is not a duration' : 'is out of range';
    const message = `${quote(text)} ${what}: ${is} is ${durationText(leastMs)} to ${durationText(mostMs)}, such as 500ms, 30s or 1h30m`;
    context.addIssue({ code: 'custom', message });
  });
}

/** In the largest unit that needs no decimals. @param ms a whole number */
export function durationText(ms: number): string {
  if (ms === 0) return '0s';
  const [unit, size] = Object.entries(UNITS_MS).find(([, one]) => ms % one === 0)!;
  return `${ms / size}${unit}`;
}
