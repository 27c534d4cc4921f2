/** `weft why`: the decision behind a live flow or a drop. */
import type { Command } from 'commander';
import type { WhyReport } from '../model/report.ts';
import { decisionText } from './decision.ts';
import { durationText, numberText, print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function why(program: Command): void {
  verb(program, 'why <flow|drop>', {
    summary: 'show why a flow goes where it goes, or why it was dropped',
    examples: ['weft why 42     # a flow of `weft flows`', 'weft why d7     # a drop of `weft drops`'],
  }).action(async (id: string, _, command: Command) => {
    const report = await clientOf(command).why(id);
    await print(globals(command).output, report, () => whyText(report));
  });
}

function whyText({ decidedAt, packets, bytes, idleMs, decision }: WhyReport): string {
  const use = [
    ...(packets === undefined ? [] : [`${numberText(packets)} packets`]),
    ...(bytes === undefined ? [] : [`${numberText(bytes)} bytes`]),
    ...(idleMs === undefined ? [] : [`last used ${durationText(idleMs)} ago`]),
  ].join(', ');
  return `decided at ${decidedAt}${use && `  (${use})`}\n${decisionText(decision)}`;
}
