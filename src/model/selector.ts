/**
 * Label selectors as Kubernetes writes them: `app=web,tier!=cache,zone in (a,b),env notin (test),team,!old`. All
 * requirements have to be met. `!=` and `notin` also match what does not have the key.
 */
import { WeftError } from '../error.ts';
import type { LabelRequirement, LabelSelector } from '../labels.ts';
import { label, labelKey, quote } from './value.ts';

/** @throws WeftError('invalid') that says which part is not accepted, and what is */
export function parseSelector(text: string): LabelSelector {
  return text.trim() === '' ? [] : split(text).map(parseRequirement);
}

/** At commas that are not between parentheses. */
function split(text: string): string[] {
  return text.split(/,(?![^(]*\))/).map((part) => part.trim());
}

function parseRequirement(text: string): LabelRequirement {
  const fail = (why: string): never => {
    throw new WeftError('invalid', `${quote(text)} ${why}`);
  };
  const checked = (schema: typeof label, value: string): string => {
    const result = schema.safeParse(value);
    return result.success ? result.data : fail(`is not accepted: ${result.error.issues[0]!.message}`);
  };
  const [, missing, key = '', operator, value = ''] =
    /^(!\s*)?([^\s!=()]+)\s*(?:(==?|!=)\s*(\S*))?$/.exec(text) ??
    /^()(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(text) ??
    fail('is not a selector: KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or !KEY');
  if (missing && operator !== undefined) fail('is not a selector: behind "!" only a key can follow');
  checked(labelKey, key);
  if (operator === undefined) return { key, operator: missing ? 'missing' : 'exists', values: [] };
  const isSet = operator === 'in' || operator === 'notin';
  const values = (isSet ? value.split(',').map((one) => one.trim()) : [value]).map((one) => checked(label, one));
  return { key, operator: operator === '!=' || operator === 'notin' ? 'notin' : 'in', values };
}
