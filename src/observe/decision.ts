/** Turns decisions, flows and drops into reports (`model/report.ts`). */
import { formatActions } from '../flow/action.ts';
import { fieldList } from '../flow/fields.ts';
import { formatField, formatMegaflow, type FlowKey } from '../flow/key.ts';
import type { DecisionReport } from '../model/report.ts';
import { renderText } from '../pipeline/text.ts';
import type { Decision } from '../pipeline/decide.ts';
import { reportExcluded } from './choice.ts';
import { reportJudgement } from './judgement.ts';

/** @param portName turns port numbers into names. */
export function reportDecision(key: FlowKey, decision: Decision, portName: (port: number) => string): DecisionReport {
  const { refused } = decision;
  return {
    flow: formatKey(key, portName),
    stages: decision.stages.map(({ stage, read, because }) => ({
      stage,
      read: [...read],
      because: renderText(because),
    })),
    megaflow: formatMegaflow(key, decision.mask, portName),
    actions: formatActions(decision.actions, portName) || decision.verdict,
    verdict: decision.verdict,
    ...(decision.reason && { reason: decision.reason }),
    ...(decision.judged.length > 0 && {
      judgements: decision.judged.map(({ direction, judgement }) => reportJudgement(direction, judgement)),
    }),
    ...(refused && { refused: { ...refused, excluded: refused.excluded.map(reportExcluded) } }),
    consulted: [...decision.consulted],
  };
}

/** Shows each field that is not zero. */
export function formatKey(key: FlowKey, portName: (port: number) => string): string {
  return fieldList
    .filter(({ offset, size }) => key.subarray(offset, offset + size).some((byte) => byte !== 0))
    .map(({ name }) => formatField(name, key, portName))
    .join(',');
}
