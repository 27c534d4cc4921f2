/** `weft why`: the decision behind a live flow, a drop or a connection, and how the backend of the connection was chosen. */
import type { Command } from 'commander';
import type { CountedDropReport, WhyReport } from '../model/report.ts';
import { endsText } from './connections.ts';
import { choiceText, decisionText } from './decision.ts';
import { durationText, numberText, print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function why(program: Command): void {
  verb(program, 'why <flow|connection|drop>', {
    summary: 'show why a flow goes where it goes, why a connection has its backend, or why a frame was dropped',
    examples: [
      'weft why 42     # a flow of `weft flows`',
      'weft why c3     # a connection of `weft connections`',
      'weft why d7     # a drop of `weft drops`',
      'weft why rate_limit_egress@shop/web    # one without a decision',
    ],
  }).action(async (id: string, _, command: Command) => {
    const report = await clientOf(command).why(id);
    await print(globals(command).output, report, () => whyText(report));
  });
}

function whyText({ decidedAt, packets, bytes, idleMs, decision, connection, choice, drop }: WhyReport): string {
  const use = [
    ...(packets === undefined ? [] : [`${numberText(packets)} packets`]),
    ...(bytes === undefined ? [] : [`${numberText(bytes)} bytes`]),
    ...(idleMs === undefined ? [] : [`last used ${durationText(idleMs)} ago`]),
  ].join(', ');
  const decided = decision && `decided at ${decidedAt}${use && `  (${use})`}\n${decisionText(decision)}`;
  const chosen = choice ? choiceText(choice) : 'How its backend was chosen is not known any more.\n';
  return [
    ...(connection ? [endsText(connection)] : []),
    ...(connection?.service ? [chosen] : []),
    ...(decided === undefined ? [] : [decided]),
    ...(drop ? [dropText(drop)] : []),
  ].join('\n');
}

function dropText({ port, reason, text, count, facts }: CountedDropReport): string {
  return [`${numberText(count)} frames of port ${port} were dropped as ${reason}: ${text}`, ...facts, ''].join('\n');
}
