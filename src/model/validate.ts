/**
 * Validation with one line about the first thing that is wrong: where it is, which field, its
 * value, and what is accepted.
 *
 *   net.yaml:7:8: spec.vni: 99999999 is not accepted: a VNI is 1 to 16777214
 */
import type * as z from 'zod';
import { WeftError } from '../error.ts';
import { didYouMean, nearest } from './nearest.ts';
import { quote } from './value.ts';

export type FieldPath = readonly PropertyKey[];

/**
 * The text in front of the field: `net.yaml:7:8: `, or nothing. The position of the field's name if the name is
 * refused.
 */
export type Locate = (path: FieldPath, of: 'name' | 'value') => string;

export interface ValidateOptions {
  readonly locate?: Locate;
  /** Name of the whole value, such as `--peer`. */
  readonly field?: string;
}

/**
 * The library compiles a schema when it is first used. That takes milliseconds, for which a daemon that starts with a few
 * resources would forward nothing.
 */
const UNCOMPILED = 100;
let validated = 0;

/** @throws WeftError('invalid') */
export function validate<S extends z.ZodType>(schema: S, value: unknown, options: ValidateOptions = {}): z.output<S> {
  const { locate = () => '', field = '' } = options;
  const jitless = validated++ < UNCOMPILED;
  const result = schema.safeParse(value, { error: standardMessage, reportInput: true, jitless });
  if (result.success) return result.data;
  const issue = firstOf(result.error.issues);
  if (!issue) throw new WeftError('internal', 'a value was refused without a reason');
  const { path, of, text } = problemOf(issue);
  const name = fieldText([...(field === '' ? [] : [field]), ...path]);
  const separator = name === '' || of === 'name' || text.startsWith('is missing') ? ' ' : ': ';
  throw new WeftError('invalid', `${locate(path, of)}${`${name}${separator}${text}`.trimStart()}`);
}

/** The first thing that is wrong. A field that is missing is there under a name that is not known, if one is near. */
function firstOf(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue | undefined {
  const [first] = issues;
  const missing = first?.input === undefined ? first?.path.at(-1) : undefined;
  if (missing === undefined) return first;
  const parent = fieldText(first!.path.slice(0, -1));
  const misspelled = issues.find(
    (issue) =>
      issue.code === 'unrecognized_keys' &&
      fieldText(issue.path) === parent &&
      nearest(issue.keys[0] ?? '', [String(missing)]) !== undefined,
  );
  return misspelled ?? first;
}

interface Problem {
  readonly path: FieldPath;
  readonly of: 'name' | 'value';
  readonly text: string;
}

function problemOf(issue: z.core.$ZodIssue): Problem {
  const { path, message, input } = issue;
  switch (issue.code) {
    case 'unrecognized_keys':
      return { path: [...path, issue.keys[0] ?? ''], of: 'name', text: message };
    case 'invalid_key':
      return { path, of: 'name', text: `is not supported here: ${issue.issues[0]?.message ?? message}` };
    case 'invalid_union': {
      // Of several alternatives, the one whose form fits the value knows which part of it is wrong, or why.
      const issues = issue.errors.flat();
      const unknown = issues.filter((part) => part.code === 'unrecognized_keys');
      const inner =
        issues.find((part) => part.path.length > 0) ??
        (unknown.length === 1 ? unknown[0] : undefined) ??
        issues.find((part) => part.code === 'custom');
      if (!inner) return { path, of: 'value', text: valueText(input, message) };
      const problem = problemOf(inner);
      return { ...problem, path: [...path, ...problem.path] };
    }
    default:
      return { path, of: 'value', text: valueText(input, message) };
  }
}

function valueText(input: unknown, message: string): string {
  if (input === undefined) return message;
  if (typeof input === 'object' && input !== null) return message;
  const text = typeof input === 'string' ? quote(input) : JSON.stringify(input);
  return message.startsWith(text) ? message : `${text} is not accepted: ${message}`;
}

const typeNames: Readonly<Record<string, string>> = {
  string: 'text (in quotes)',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map of fields',
  record: 'a map of names to values',
};

/** For issues for which the schema has no message of its own. */
function standardMessage(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type': {
      const expected = typeNames[issue.expected] ?? issue.expected;
      return issue.input === undefined ? `is missing: ${expected} is expected` : `${expected} is expected`;
    }
    case 'invalid_value': {
      const accepted = issue.values.map((value) => (typeof value === 'string' ? quote(value) : String(value)));
      const are = `accepted ${accepted.length === 1 ? 'is' : 'are'} ${accepted.join(', ')}`;
      return issue.input === undefined ? `is missing: ${are}` : are;
    }
    case 'unrecognized_keys': {
      const known = fieldsOf(issue.inst);
      return `is not supported here${didYouMean(issue.keys[0] ?? '', known) || ':'} accepted are ${known.join(', ')}`;
    }
    default:
      return undefined;
  }
}

function fieldsOf(schema: unknown): string[] {
  const { shape } = schema as { readonly shape?: Readonly<Record<string, unknown>> };
  return Object.keys(shape ?? {});
}

/** `spec.subnets[0]` */
export function fieldText(path: FieldPath): string {
  const parts = path.map((part) => {
    if (typeof part === 'number') return `[${part}]`;
    const text = String(part);
    return /^[\w-]+$/.test(text) ? `.${text}` : `[${quote(text)}]`;
  });
  return parts.join('').replace(/^\./, '');
}
