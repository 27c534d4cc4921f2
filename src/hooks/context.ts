/** Makes the context in which one hook runs, and loads the hook there. */
import { compileFunction, createContext, Script } from 'node:vm';
import { allow, balance, defineHook, deny, isIn, reject } from './api.ts';
import { treatmentLimits } from '../table/hooks.ts';
import type { CompiledHook } from './compile.ts';
import { inside, keptGlobals, MOST_WEIGHT, type HookModule, type Inside } from './inside.ts';

export interface ContextOptions extends CompiledHook {
  readonly host: string;
}

/** What comes out of the context is text, and nobody knows yet whether it is an answer (`answers.ts`). */
export interface HookInContext {
  /** JSON of a `LoadAnswer`. */
  readonly loaded: string;
  /** @param question JSON: the values of all groups, in their order @returns JSON of an `AskAnswer` */
  readonly ask: (question: string) => string;
}

/** Of a hook that keeps its context from making text of what it says, or says too much. */
export const NO_ANSWER = 'null';

export function openContext({ code, file, host, placeOf }: ContextOptions): HookInContext {
  // An object without a prototype has nothing that leads out of the context.
  const context = createContext(Object.create(null) as object, { codeGeneration: { strings: false, wasm: false } });
  const api = Object.entries({ allow, balance, defineHook, deny, isIn, reject })
    .map(([name, made]) => `${name}: ${String(made)}`)
    .join(', ');
  const given = JSON.stringify({ host, file, kept: keptGlobals, mostWeight: MOST_WEIGHT, limits: treatmentLimits });
  // Where TypeScript is loaded as it is, functions are given their names by a function of this name.
  const text = `'use strict'; (() => { const __name = (made) => made; return (${String(inside)})({ ${api} }, ${given}); })()`;
  const { load, ask } = new Script(text, { filename: 'weft' }).runInContext(context) as Inside;
  return {
    loaded: textOf(() => {
      let run: HookModule;
      try {
        run = compileFunction(code, ['module', 'exports', 'require'], {
          parsingContext: context,
          filename: file,
        }) as HookModule;
      } catch (error) {
        // Nothing of the hook has run.
        return JSON.stringify(['failed', `${file}: ${String(error)}`, 'invalid']);
      }
      return load(run);
    }),
    ask: (question) => textOf(() => ask(question)),
  };

  /** What it says, and of a failure where it is. */
  function textOf(say: () => unknown): string {
    try {
      const said = say();
      if (typeof said !== 'string') return NO_ANSWER;
      return said.startsWith('["failed",[') ? placed(said) : said;
    } catch {
      return NO_ANSWER;
    }
  }

  /** The place of a failure, which `inside` gives as line and column, becomes part of its text. */
  function placed(said: string): string {
    const [kind, [why, line, column], ...more] = JSON.parse(said) as [unknown, unknown[], ...unknown[]];
    const place =
      Number.isSafeInteger(line) && Number.isSafeInteger(column) ? placeOf(Number(line), Number(column)) : file;
    return JSON.stringify([kind, `${place}: ${String(why)}`, ...more]);
  }
}
