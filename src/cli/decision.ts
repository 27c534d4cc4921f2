/** A decision as text, after `ofproto/trace`: one line a stage with the fields that it read. */
import type { DecisionReport } from '../model/report.ts';

export function decisionText({ flow, stages, megaflow, actions }: DecisionReport): string {
  const nameWidth = Math.max(...stages.map(({ stage }) => stage.length));
  const lines = stages.map(
    ({ stage, because, read }) => `${stage.padEnd(nameWidth)}  ${because}  (read: ${read.join(', ') || 'nothing'})`,
  );
  return `Flow: ${flow}\n\n${lines.join('\n')}\n\nMegaflow: ${megaflow}\nActions: ${actions}\n`;
}
