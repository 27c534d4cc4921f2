/** YAML (and so JSON) text as values that know their positions in it. */
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
} from 'yaml';
import { WeftError } from '../error.ts';
import type { Path } from './problem.ts';

/** A file with manifests is far below it. */
const LARGEST_BYTES = 1 << 20;

export interface SourceDocument {
  readonly value: unknown;
  /** `SOURCE:LINE:COLUMN` of the value at `path`, of its key, or of what it is missing from. */
  position(path: Path, isKey: boolean): string;
}

/**
 * The documents in `text`; those that are empty are left out.
 * @throws WeftError `invalid` with `source:line:column:` before what is wrong.
 */
export function parseDocuments(text: string, source: string): SourceDocument[] {
  const lengthBytes = Buffer.byteLength(text);
  if (lengthBytes > LARGEST_BYTES) {
    throw new WeftError('invalid', `${source}: it has ${lengthBytes} bytes, accepted are ${LARGEST_BYTES}`);
  }
  const lines = new LineCounter();
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${source}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  };
  try {
    const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, stringKeys: true });
    return [...documents].flatMap((document) => {
      const [error] = document.errors;
      if (error) throw new WeftError('invalid', `${at(error.pos[0])}: ${firstLine(error.message)}`, { cause: error });
      const value = valueOf(document, at);
      if (value === null || value === undefined) return [];
      return [{ value, position: (path: Path, isKey: boolean) => at(offsetOf(document, path, isKey)) }];
    });
  } catch (error) {
    // The stack, in text like [[[[[[…
    if (error instanceof RangeError)
      throw new WeftError('invalid', `${source}: it is nested too deeply`, { cause: error });
    throw error;
  }
}

function valueOf(document: Document.Parsed, at: (offset: number) => string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    // Aliases that refer to nothing, or that expand to more than anybody needs.
    if (!(error instanceof ReferenceError)) throw error;
    throw new WeftError('invalid', `${at(document.range[0])}: ${firstLine(error.message)}`, { cause: error });
  }
}

/** As near to the value as the document goes. */
function offsetOf(document: Document.Parsed, path: Path, isKey: boolean): number {
  let node: Node | undefined = document.contents ?? undefined;
  let offset = node?.range?.[0] ?? document.range[0];
  for (const [depth, part] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    let next: unknown;
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part));
      const wantsKey = isKey && depth === path.length - 1;
      // A key without value has no node of its own.
      next = wantsKey || !isNode(pair?.value) ? pair?.key : pair.value;
    } else if (isSeq(node)) {
      next = node.items[Number(part)];
    }
    if (!isNode(next)) return offset;
    node = next;
    offset = node.range?.[0] ?? offset;
  }
  return offset;
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0]!;
}
