/** A decision as text, after `ofproto/trace`: one line a stage with the fields that it read. */
import type { DecisionReport } from '../model/report.ts';

export function decisionText({ flow, resolved, stages, megaflow, actions, beyond = [] }: DecisionReport): string {
  const nameWidth = Math.max(...stages.map(({ stage }) => stage.length));
  const lines = stages.map(
    ({ stage, because, read }) => `${stage.padEnd(nameWidth)}  ${because}  (read: ${read.join(', ') || 'nothing'})`,
  );
  const head = [`Flow: ${flow}`, ...(resolved === undefined ? [] : [`Next hop: ${resolved}`])];
  const tail = [`Megaflow: ${megaflow}`, `Actions: ${actions}`, ...beyond.map((line) => `Then: ${line}`)];
  return `${head.join('\n')}\n\n${lines.join('\n')}\n\n${tail.join('\n')}\n`;
}
