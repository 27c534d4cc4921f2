/** `weft drops`: what was dropped, by port and reason; with --follow, each decision to drop from now on. */
import type { Command } from 'commander';
import { follow } from './follow.ts';
import { ageText, numberText, print, table } from './print.ts';
import { addTalkFilter, type TalkOptions } from './talk-filter.ts';
import { talkText } from './talk-text.ts';
import { clientOf, globals, verb } from './verb.ts';

export function drops(program: Command): void {
  const command = verb(program, 'drops', {
    summary: 'list what was dropped and why',
    examples: [
      'weft drops',
      'weft drops --follow',
      'weft drops --follow --to shop/db --reason policy_ingress',
      'weft drops -o json',
    ],
  });
  addTalkFilter(command)
    .option('--follow', 'print each decision to drop from now on, and with --since those before')
    .action(async ({ follow: isFollowing, ...of }: TalkOptions) => {
      const client = clientOf(command);
      const { output } = globals(command);
      if (isFollowing) {
        await follow(
          output,
          (signal) => client.followDrops(signal, of),
          ({ id = '-', port, reason, lastAt = '-', packet, because = '' }) =>
            `${lastAt}  ${id.padEnd(6)}  ${port.padEnd(15)}  ${reason.padEnd(24)}  ${packet ? talkText(packet) : ''}: ${because}`,
        );
        return;
      }
      const report = await client.drops(of);
      await print(output, report, () =>
        table(
          ['ID', 'PORT', 'REASON', 'COUNT', 'LAST', 'MEANING', 'FLOW'],
          report.map(({ id = '', port, reason, count, lastAt, text, flow = '' }) => [
            id,
            port,
            reason,
            numberText(count),
            lastAt === undefined ? '' : ageText(lastAt),
            text,
            flow,
          ]),
          'No drops.',
        ),
      );
    });
}
