/** Flow hooks without a thread, for tests of what is decided by them. */
import { openContext } from '../../src/hooks/context.ts';
import type { AskAnswer } from '../../src/hooks/inside.ts';
import { hookGroups, type FlowHook } from '../../src/table/hooks.ts';

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
  const { loaded, ask } = openContext({ code, file: `${name}.ts`, host: 'here' });
  if (!loaded.startsWith('["loaded"')) throw new Error(loaded);
  const hook: TestHook = {
    name,
    onError,
    asked: 0,
    ask: (question) => {
      hook.asked++;
      const [verdict, reason, digits] = JSON.parse(ask(question)) as AskAnswer;
      const read = digits.split('').map((digit) => hookGroups[Number.parseInt(digit, 36)]!);
      if (verdict === 'failed') return { kind: 'failed', why: reason, read };
      if (verdict === 'balance') return { kind: 'verdict', verdict, weights: JSON.parse(reason) as number[], read };
      return { kind: 'verdict', verdict, reason, read };
    },
  };
  return hook;
}
