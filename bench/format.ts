/** Numbers and names for people; the same in the tables and in the report. */
import type { FigureResult, Results, SystemResult } from './results.ts';
import { doubtOf } from './doubt.ts';
import type { Summary } from './statistics.ts';

/** Three significant digits, and never fewer than there are before the point. */
export function number(value: number): string {
  const magnitude = Math.abs(value);
  if (magnitude >= 1000) return Math.round(value).toLocaleString('en');
  return value.toFixed(magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : magnitude >= 0.0995 || magnitude === 0 ? 2 : 3);
}

/** `0.95 (0.82–1.11)` */
export function spread(summary: Summary | null | undefined): string {
  if (!summary) return '–';
  return `${number(summary.median)} (${number(summary.min)}–${number(summary.max)})`;
}

export function titleOf(results: Pick<Results, 'systems'>, system: string | null): string {
  return results.systems.find(({ name }) => name === system)?.title ?? system ?? '';
}

/** `≥ 0.7` or `≤ 0.1` */
export function bound(better: FigureResult['better'], value: number | null): string {
  return value === null ? '–' : `${better === 'higher' ? '≥' : '≤'} ${value}`;
}

/** Notes that a reader of the figure needs. */
export function notes({ details, failures }: SystemResult): string {
  const reordered = details['reorderedFrames']?.max ?? 0;
  const doubt = doubtOf(details);
  const failed = details['failedConnections']?.max ?? 0;
  const [first, ...more] = failures;
  return [
    ...(reordered > 0 ? [`up to ${reordered} frames out of order`] : []),
    ...(failed > 0 ? [`up to ${failed} connections failed`] : []),
    ...(doubt === null ? [] : [doubt]),
    ...(first === undefined ? [] : [`failed: ${first.split('\n', 1)[0] ?? ''}`]),
    ...(more.length === 0 ? [] : [`${more.length} more failed`]),
  ].join('; ');
}

export const reachedText: Readonly<Record<FigureResult['reached'], string>> = {
  aim: 'aim reached',
  must: 'reached',
  no: 'not reached',
  undecided: 'undecided',
};
