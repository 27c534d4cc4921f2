/** What is wrong with a value that a schema refused: one line that names the field, the value and what is accepted. */
import { z } from 'zod';

export type Path = readonly (string | number)[];

export interface Problem {
  readonly path: Path;
  /** `spec.vni: 0 is not accepted: a VNI is 1 to 16777215` */
  readonly text: string;
  /** The key itself is what is wrong, not the value under it. */
  readonly isKey: boolean;
}

/** The first thing wrong with `value`, which `schema` refused with `error`. */
export function problemOf(schema: z.ZodType, value: unknown, error: z.ZodError): Problem {
  const issue = error.issues[0]!;
  const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)));
  if (issue.code === 'unrecognized_keys') {
    const field = [...path, issue.keys[0]!];
    const text = `${pathText(field)} is not a field: ${wordsOf(fieldsAt(schema, path))}`;
    return { path: field, text, isKey: true };
  }
  if (issue.code === 'invalid_key') {
    const accepted = issue.issues[0]?.message ?? issue.message;
    const text = `${pathText(path.slice(0, -1))}: key ${valueText(path.at(-1))} is not accepted: ${accepted}`;
    return { path, text, isKey: true };
  }
  const given = valueAt(value, path);
  const accepted = acceptedBy(issue);
  const where = path.length > 0 ? pathText(path) : '';
  if (given === undefined) return { path, text: `${where} is missing: ${accepted}`, isKey: false };
  const aboutParts = issue.code === 'custom' && typeof given === 'object';
  const message =
    aboutParts || accepted.startsWith(valueText(given)) ? accepted : `${valueText(given)} is not accepted: ${accepted}`;
  return { path, text: where === '' ? message : `${where}: ${message}`, isKey: false };
}

/** `spec.subnets[0]` */
export function pathText(path: Path): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`))
    .join('')
    .replace(/^\./, '');
}

/** As JSON on one line, at most some 60 characters. */
export function valueText(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function acceptedBy(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_value') return wordsOf(issue.values.map(String));
  if (issue.code === 'invalid_type' && issue.message.startsWith('Invalid input')) {
    const { expected } = issue;
    return `it is ${typeWords[expected] ?? `of type ${expected}`}`;
  }
  return issue.message;
}

const typeWords: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping of fields to values',
  record: 'a mapping of text to text',
};

/** `accepted is a`, `accepted are a, b` */
function wordsOf(words: readonly string[]): string {
  return `accepted ${words.length === 1 ? 'is' : 'are'} ${words.join(', ')}`;
}

/** The fields that `schema` has at `path`. */
function fieldsAt(schema: z.ZodType, path: Path): string[] {
  let at: unknown = schema;
  for (const part of path) {
    at = bare(at);
    if (at instanceof z.ZodObject) at = at.shape[part];
    else if (at instanceof z.ZodArray) at = at.element;
  }
  at = bare(at);
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

function bare(schema: unknown): unknown {
  return schema instanceof z.ZodOptional || schema instanceof z.ZodDefault ? bare(schema.unwrap()) : schema;
}

function valueAt(value: unknown, path: Path): unknown {
  let at = value;
  for (const part of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, part)) return undefined;
    at = (at as Record<string, unknown>)[part];
  }
  return at;
}
