/**
 * Text: a sentence that is only put together when somebody reads it.
 *
 * Every decision says why it was made, but hardly any is ever read. So a stage writes text`…` like a
 * template, and only the template and its values are kept: names, numbers, address bytes, other texts,
 * or lists of these. Values must not change afterwards.
 */
import { formatIp, formatMac, sameBytes } from '../flow/types.ts';

export type TextValue = string | number | Uint8Array | Text | readonly TextValue[];

export interface Text {
  /** One array for each place in the program. */
  readonly parts: TemplateStringsArray;
  readonly values: readonly TextValue[];
}

export function text(parts: TemplateStringsArray, ...values: TextValue[]): Text {
  return { parts, values };
}

export function renderText({ parts, values }: Text): string {
  return parts.reduce((rendered, part, index) => rendered + renderValue(values[index - 1]!) + part);
}

/** The same text with `other` in every place where it contains exactly the object `part`. */
export function withPart(whole: Text, part: Text, other: Text): Text {
  if (whole === part) return other;
  let isChanged = false;
  const values = whole.values.map((value) => {
    if (typeof value !== 'object' || value instanceof Uint8Array || !isText(value)) return value;
    const changed = withPart(value, part, other);
    isChanged ||= changed !== value;
    return changed;
  });
  return isChanged ? { ...whole, values } : whole;
}

/** Recognizes addresses by their length: 6 bytes are a MAC address, 16 an IP address. */
function renderValue(value: TextValue): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return String(value);
  if (value instanceof Uint8Array) return value.length === 6 ? formatMac(value) : formatIp(value);
  if (isText(value)) return renderText(value);
  return value.map(renderValue).join(', ') || 'none';
}

/** `1 port`, `2 ports`. */
export function countText(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`;
}

/** True if both read the same. */
export function sameText(a: Text, b: Text): boolean {
  return a.parts === b.parts && sameValues(a.values, b.values);
}

function sameValues(a: readonly TextValue[], b: readonly TextValue[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!sameValue(a[i]!, b[i]!)) return false;
  return true;
}

function sameValue(a: TextValue, b: TextValue): boolean {
  if (typeof a !== 'object' || typeof b !== 'object') return a === b;
  if (a instanceof Uint8Array) return b instanceof Uint8Array && sameBytes(a, b);
  if (b instanceof Uint8Array) return false;
  if (isText(a)) return isText(b) && sameText(a, b);
  return !isText(b) && sameValues(a, b);
}

function isText(value: Text | readonly TextValue[]): value is Text {
  return 'parts' in value;
}
