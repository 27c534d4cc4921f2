/** Makes the context in which one hook runs, and loads the hook there. */
import { compileFunction, createContext, Script } from 'node:vm';
import { allow, balance, defineHook, deny, isIn, reject } from './api.ts';
import { inside, keptGlobals, MOST_WEIGHT, type HookModule, type Inside, type LoadAnswer } from './inside.ts';

export interface ContextOptions {
  /** What the compiler has made. */
  readonly code: string;
  readonly file: string;
  readonly host: string;
}

export interface HookInContext {
  /** JSON of a `LoadAnswer`. */
  readonly loaded: string;
  readonly ask: Inside['ask'];
}

export function openContext({ code, file, host }: ContextOptions): HookInContext {
  // An object without a prototype has nothing that leads out of the context.
  const context = createContext(Object.create(null) as object, { codeGeneration: { strings: false, wasm: false } });
  const api = Object.entries({ allow, balance, defineHook, deny, isIn, reject })
    .map(([name, made]) => `${name}: ${String(made)}`)
    .join(', ');
  const given = JSON.stringify({ host, file, kept: keptGlobals, mostWeight: MOST_WEIGHT });
  // Where TypeScript is loaded as it is, functions are given their names by a function of this name.
  const text = `'use strict'; (() => { const __name = (made) => made; return (${String(inside)})({ ${api} }, ${given}); })()`;
  const { load, ask } = new Script(text, { filename: 'weft' }).runInContext(context) as Inside;
  let run: HookModule;
  try {
    run = compileFunction(code, ['module', 'exports', 'require'], {
      parsingContext: context,
      filename: file,
    }) as HookModule;
  } catch (error) {
    // Nothing of the hook has run.
    return { loaded: JSON.stringify(['failed', String(error), 0, 0] satisfies LoadAnswer), ask };
  }
  try {
    return { loaded: load(run), ask };
  } catch {
    // Not even that is text which it says of its failure.
    return { loaded: '', ask };
  }
}
