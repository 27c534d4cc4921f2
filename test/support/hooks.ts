/** Flow hooks without a process, for tests of what is decided by them. */
import { openContext } from '../../src/hooks/context.ts';
import { hookAnswerOf } from '../../src/hooks/answers.ts';
import type { FlowHook } from '../../src/table/hooks.ts';

export interface TestHook extends FlowHook {
  /** How often it was asked. */
  asked: number;
}

/** @param body JavaScript: what its function of `flow`, of its parts `source` and `destination`, and `ctx` does */
export function hookOf(name: string, body: string, onError: FlowHook['onError'] = 'deny'): TestHook {
  const code = `'use strict';
    const { allow, balance, deny, reject, isIn } = require('weft');
    const onFlow = (flow, ctx) => { const { source, destination } = flow; ${body} };
    exports.default = { name: ${JSON.stringify(name)}, onFlow };`;
  const file = `${name}.ts`;
  const placeOf = (line: number, column: number): string => `${file}:${line}:${column}`;
  const { loaded, ask } = openContext({ code, file, host: 'here', placeOf });
  if (!loaded.startsWith('["loaded"')) throw new Error(loaded);
  const hook: TestHook = {
    name,
    onError,
    asked: 0,
    ask: (question) => {
      hook.asked++;
      return hookAnswerOf(ask(question));
    },
  };
  return hook;
}
