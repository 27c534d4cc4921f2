/**
 * From the TypeScript of a hook to JavaScript that its context runs. Types are removed, and not checked: `weft hook check` does
 * that. There is no dynamic import in the result, by which a hook would get at an object of Node.
 */
import { SourceMap, type SourceMapping, type SourceMapPayload } from 'node:module';
import type { TransformFailure, TransformResult } from 'esbuild';
import { WeftError } from '../error.ts';

export interface CompiledHook {
  /** How it is called in texts: `fence.ts`. */
  readonly file: string;
  readonly code: string;
  /** `fence.ts:3:12`, for a place in the code; the file alone if that is not known. Both are counted from 1. */
  readonly placeOf: (line: number, column: number) => string;
}

/** @throws WeftError('invalid') that says where the text is wrong; `system` if there is no compiler */
export async function compileHook(source: string, file: string): Promise<CompiledHook> {
  const { code, map } = await transformed(source, file);
  const positions = new SourceMap(JSON.parse(map) as SourceMapPayload);
  const placeOf = (line: number, column: number): string => {
    const { originalLine, originalColumn }: Partial<SourceMapping> =
      line > 0 ? positions.findEntry(line - 1, column - 1) : {};
    if (originalLine === undefined || originalColumn === undefined) return file;
    return `${file}:${originalLine + 1}:${originalColumn + 1}`;
  };
  // Strict code cannot find out who has called it.
  return { file, code: `'use strict';${code}`, placeOf };
}

async function transformed(source: string, sourcefile: string): Promise<TransformResult> {
  try {
    // The compiler is another process, which has ended when this returns, and no thread here talks with it.
    process.env['ESBUILD_WORKER_THREADS'] = '0';
    const { transformSync } = await import('esbuild');
    return transformSync(source, {
      loader: 'ts',
      format: 'cjs',
      target: 'node20',
      charset: 'utf8',
      sourcefile,
      sourcemap: 'external',
      sourcesContent: false,
      supported: { 'dynamic-import': false },
      logLevel: 'silent',
    });
  } catch (error) {
    const [first] = (error as Partial<TransformFailure>).errors ?? [];
    if (!first) {
      const [why] = (error as Error).message.split('\n');
      throw new WeftError('system', `${sourcefile}: esbuild, which removes its types, cannot run: ${why}`);
    }
    const { line = 0, column = 0 } = first.location ?? {};
    const place = line === 0 ? sourcefile : `${sourcefile}:${line}:${column + 1}`;
    throw new WeftError('invalid', `${place}: ${first.text}`, { cause: error });
  }
}
