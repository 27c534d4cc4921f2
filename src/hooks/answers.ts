/**
 * Reads what comes from the process of a hook. A hook can change how its context makes text of values (`toJSON`), so nothing of
 * that is taken for granted: what is no answer is a defect of the hook, and not of the switch.
 */
import {
  hookGroups,
  MOST_BACKENDS,
  treatmentLimits,
  type HookAnswer,
  type HookGroup,
  type WantedTreatment,
} from '../table/hooks.ts';
import { MOST_WEIGHT } from './inside.ts';

/** Longer than a reason (200 characters) with the name of a file and a place in it, and the longest name of who shares a rate. */
const [MOST_TEXT, MOST_BY] = [500, 200];

/** The name of the hook; or why it cannot be loaded. */
export type LoadAnswer = readonly ['loaded', string] | readonly ['failed', string, 'invalid' | 'system'];

/** @param message JSON of a `LoadAnswer` @returns undefined if it is none */
export function loadAnswerOf(message: string): LoadAnswer | undefined {
  const [kind, text, code] = valuesOf(message);
  if (typeof text !== 'string') return undefined;
  if (kind === 'loaded') return [kind, printable(text)];
  return kind === 'failed' && (code === 'invalid' || code === 'system') ? [kind, printable(text), code] : undefined;
}

/** @param message JSON of an `AskAnswer`; if it is none, the hook is unavailable */
export function hookAnswerOf(message: string): HookAnswer {
  const [verdict, reason, digits, set] = valuesOf(message);
  const read = groupsOf(digits);
  const treatment = treatmentOf(set);
  if (typeof reason === 'string' && read) {
    if (verdict === 'deny' || verdict === 'reject')
      return { kind: 'verdict', verdict, reason: printable(reason), read };
    if (verdict === 'allow' && treatment) return { kind: 'verdict', verdict, reason: '', read, ...treatment };
    const weights = verdict === 'balance' && treatment ? weightsOf(reason) : undefined;
    if (weights) return { kind: 'verdict', verdict: 'balance', weights, read, ...treatment };
    if (verdict === 'failed') return { kind: 'failed', why: printable(reason), read };
  }
  return { kind: 'unavailable', why: 'what it says is no answer' };
}

function valuesOf(message: string): readonly unknown[] {
  try {
    const values: unknown = JSON.parse(message);
    return Array.isArray(values) ? values : [];
  } catch {
    return [];
  }
}

/** Without what a terminal obeys, or shows as something else. What is longer than any text of the context is cut, since it is remembered. */
function printable(text: string): string {
  return text.slice(0, MOST_TEXT).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ');
}

/** @param digits the number of each group with the base 36 */
function groupsOf(digits: unknown): readonly HookGroup[] | undefined {
  if (typeof digits !== 'string' || digits.length > hookGroups.length) return undefined;
  const groups = digits.split('').flatMap((digit) => hookGroups[Number.parseInt(digit, 36)] ?? []);
  return groups.length === digits.length ? groups : undefined;
}

/** @param set an `InsideTreatment`; undefined if it sets nothing @returns undefined if it is none */
function treatmentOf(set: unknown): { readonly treatment?: WantedTreatment } | undefined {
  if (set === undefined) return {};
  const [mark, dscp, kbits, packets, by] = Array.isArray(set) ? (set as readonly unknown[]) : [];
  const isWithin = (value: unknown, least: number, most: number): value is number =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;
  if (!isWithin(mark, 0, treatmentLimits.mark[1]) || !isWithin(dscp, -1, treatmentLimits.dscp[1])) return undefined;
  if (!isWithin(kbits, 0, treatmentLimits.bitsPerSecond[1] / 1000)) return undefined;
  if (!isWithin(packets, 0, treatmentLimits.packetsPerSecond[1]) || typeof by !== 'string' || by.length > MOST_BY)
    return undefined;
  const isLimited = kbits > 0 || packets > 0;
  return { treatment: { mark, ...(dscp >= 0 && { dscp }), ...(isLimited && { rate: { kbits, packets, by } }) } };
}

function weightsOf(text: string): readonly number[] | undefined {
  const weights = valuesOf(text);
  if (weights.length > MOST_BACKENDS) return undefined;
  const isWeight = (weight: unknown): weight is number =>
    typeof weight === 'number' && weight >= 0 && weight <= MOST_WEIGHT;
  return weights.every(isWeight) && weights.some((weight) => weight > 0) ? weights : undefined;
}
