/** YAML and JSON text as values that know their position in it. */
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseAllDocuments, type Document, type YAMLError } from 'yaml';
import { WeftError } from '../error.ts';
import type { FieldPath, Locate } from './validate.ts';

export interface TextDocument {
  readonly value: unknown;
  /** `SOURCE:LINE:COLUMN: ` of a field, or of the innermost map around it that exists. */
  readonly locate: Locate;
  /** The line of a field, or of the innermost map around it that exists. */
  readonly lineOf: (path: FieldPath) => number;
}

/** The largest text in bytes. */
export const LARGEST_TEXT_BYTES = 1 << 20;
/** How often the content of an anchor may be repeated: aliases of aliases could grow without limit. */
const MOST_ALIASES = 100;
const NESTED_TOO_DEEP = 'nested too deep';
/** How much of a key is read to name it. */
const LONGEST_KEY = 256;

/**
 * The documents of a text, without empty ones. JSON is read as the subset of YAML 1.2 that it
 * is.
 * @param source the name of the text in messages
 * @throws WeftError('invalid') with source, line and column
 */
export function parseDocuments(text: string, source: string): TextDocument[] {
  const sizeBytes = Buffer.byteLength(text);
  if (sizeBytes > LARGEST_TEXT_BYTES) {
    throw new WeftError(
      'invalid',
      `${source}: ${sizeBytes} bytes are too many: at most ${LARGEST_TEXT_BYTES} are accepted`,
    );
  }
  const lines = new LineCounter();
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${source}:${Math.max(line, 1)}:${Math.max(col, 1)}: `;
  };
  const options = {
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    version: '1.2',
  } as const;
  // A text that is not a document at all gives an empty list.
  const documents = guarded(at, 0, () => [...parseAllDocuments(text, options)]);
  return documents
    .map((document) => {
      const problem = document.errors[0] ?? document.warnings[0];
      if (problem) {
        // If a value continues as if it were a name, the line where it does so is the one to look
        // at.
        const runaway = document.errors.find(({ code }) => code === 'MULTILINE_IMPLICIT_KEY');
        throw new WeftError('invalid', `${at(runaway?.pos[1] ?? problem.pos[0])}${problemText(text, problem)}`);
      }
      const start = document.contents?.range?.[0] ?? document.range[0];
      const value: unknown = guarded(at, start, () => document.toJS({ maxAliasCount: MOST_ALIASES }));
      return {
        value,
        locate: (path: FieldPath, of: 'name' | 'value') => at(offsetOf(document, path, of) ?? start),
        lineOf: (path: FieldPath) => Math.max(lines.linePos(offsetOf(document, path, 'value') ?? start).line, 1),
      };
    })
    .filter(({ value }) => value !== null);
}

/** What the library says, with the key that it is about where it does not name that. */
function problemText(text: string, { code, message, pos: [offset] }: YAMLError): string {
  if (message.startsWith('Maximum call stack')) return NESTED_TOO_DEEP;
  const key = code === 'DUPLICATE_KEY' ? keyAt(text, offset) : keyBefore(text, offset);
  if (key !== undefined && code === 'DUPLICATE_KEY') return `${key} is given twice: a map has each key once`;
  if (key !== undefined && message.startsWith('Nested mappings'))
    return `${key}: text with ": " in it needs quotes, and a map begins on a line of its own`;
  return message;
}

function keyAt(text: string, offset: number): string | undefined {
  return /^["']?([^\s:"',{}[\]]+)/.exec(text.slice(offset, offset + LONGEST_KEY))?.[1];
}

/** That of the value which begins there. */
function keyBefore(text: string, offset: number): string | undefined {
  return /([^\s:"',{}[\]]+)["']?\s*:\s*$/.exec(text.slice(Math.max(0, offset - LONGEST_KEY), offset))?.[1];
}

/** The library throws if something is nested too deep or repeated too often. */
function guarded<T>(at: (offset: number) => string, offset: number, step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (error instanceof RangeError) throw new WeftError('invalid', `${at(offset)}${NESTED_TOO_DEEP}`);
    if (error instanceof ReferenceError) throw new WeftError('invalid', `${at(offset)}${error.message}`);
    throw error;
  }
}

function offsetOf(document: Document.Parsed, path: FieldPath, of: 'name' | 'value'): number | undefined {
  let node: unknown = document.contents;
  let offset = document.contents?.range?.[0];
  for (const [index, part] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    let next: unknown;
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part));
      if (of === 'name' && index === path.length - 1) return startOf(pair?.key) ?? offset;
      // A field without a value (`vni:`) has the position of its name.
      next = isScalar(pair?.value) && pair.value.source === '' ? pair.key : pair?.value;
    } else if (isSeq(node)) {
      next = node.items[Number(part)];
    }
    const start = startOf(next);
    if (start === undefined) return offset;
    node = next;
    offset = start;
  }
  return offset;
}

function startOf(node: unknown): number | undefined {
  return (node as { readonly range?: readonly number[] | null } | null | undefined)?.range?.[0];
}
