/** `weft flows`: the cached flows; with --follow, each flow that is decided from now on. */
import type { Command } from 'commander';
import { follow } from './follow.ts';
import { ageText, durationText, numberText, print, table } from './print.ts';
import { addTalkFilter, type TalkOptions } from './talk-filter.ts';
import { talkText } from './talk-text.ts';
import { clientOf, globals, verb } from './verb.ts';

export function flows(program: Command): void {
  const command = verb(program, 'flows', {
    summary: 'list the cached flows',
    examples: ['weft flows', 'weft flows --follow --from shop/web', 'weft flows --follow -o json | jq .megaflow'],
  });
  addTalkFilter(command)
    .option('--follow', 'print each flow that is decided from now on')
    .action(async ({ follow: isFollowing, ...of }: TalkOptions) => {
      const client = clientOf(command);
      const { output } = globals(command);
      if (isFollowing) {
        await follow(
          output,
          (signal) => client.followFlows(signal, of),
          ({ id, decidedAt, megaflow, actions, packet }) =>
            `${decidedAt}  ${String(id).padEnd(6)}  ${talkText(packet)}  ${megaflow}  ->  ${actions}`,
        );
        return;
      }
      const report = await client.flows(of);
      await print(output, report, () =>
        table(
          ['ID', 'PACKETS', 'BYTES', 'AGE', 'IDLE', 'MEGAFLOW', 'ACTIONS'],
          report.map(({ id, packets, bytes, decidedAt, idleMs, megaflow, actions }) => [
            id,
            numberText(packets),
            numberText(bytes),
            ageText(decidedAt),
            durationText(idleMs),
            megaflow,
            actions,
          ]),
          'No flows.',
        ),
      );
    });
}
