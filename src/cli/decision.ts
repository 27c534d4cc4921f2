/** A decision as text, after `ofproto/trace`: one line for each stage, with the fields that it read. */
import type { DecisionReport } from '../model/report.ts';

/** Columns for the name of a stage: the same in every decision, so that two of them can be compared line by line. */
const STAGE_COLUMNS = 10;

export function decisionText({ flow, resolved, stages, megaflow, actions, beyond = [] }: DecisionReport): string {
  const lines = stages.map(
    ({ stage, because, read }) => `${stage.padEnd(STAGE_COLUMNS)}  ${because}  (read: ${read.join(', ') || 'nothing'})`,
  );
  const head = [`Flow: ${flow}`, ...(resolved === undefined ? [] : [`Next hop: ${resolved}`])];
  const tail = [`Megaflow: ${megaflow}`, `Actions: ${actions}`, ...beyond.map((line) => `Then: ${line}`)];
  return `${head.join('\n')}\n\n${lines.join('\n')}\n\n${tail.join('\n')}\n`;
}
