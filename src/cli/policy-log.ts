/** `weft policy log`: what policies have denied and ended. */
import type { Command } from 'commander';
import type { PolicyEventReport } from '../model/talk-report.ts';
import { follow } from './follow.ts';
import { print, table } from './print.ts';
import { addTalkFilter, type TalkOptions } from './talk-filter.ts';
import { judgementText, talkText } from './talk-text.ts';
import { clientOf, globals, verb } from './verb.ts';

export function policyLog(parent: Command): void {
  const log = verb(parent, 'log', {
    summary:
      'list the latest packets that policies have denied, and the connections that they have ended, with what decides it',
    examples: [
      'weft policy log',
      'weft policy log --follow --since 5m',
      'weft policy log --to shop/db --reason policy_ingress -o json',
      'weft policy log --from 10.0.0.0/24 --network blue',
    ],
  });
  addTalkFilter(log)
    .option('--follow', 'print each event from now on, and with --since those before')
    .action(async ({ follow: isFollowing, ...of }: TalkOptions, command: Command) => {
      const client = clientOf(command);
      const { output } = globals(command);
      if (isFollowing) return follow(output, (signal) => client.followPolicyLog(signal, of), lineOf);
      const report = await client.policyLog(of);
      await print(output, report, () =>
        table(
          ['TIME', 'EVENT', 'ID', 'CONNECTIONS', 'NETWORK', 'WHO', 'WHY'],
          report.map((event) => [
            event.at,
            event.event,
            event.id ?? '',
            event.connections ?? '',
            event.network ?? '',
            talkText(event),
            whyText(event),
          ]),
          'Nothing was denied.',
        ),
      );
    });
}

function lineOf(event: PolicyEventReport): string {
  const { at, event: what, id, connections, network } = event;
  const count = connections === undefined ? (id ?? '-') : `${connections} open`;
  return `${at}  ${what.padEnd(6)}  ${count.padEnd(8)}  ${network ?? '-'}  ${talkText(event)}: ${whyText(event)}`;
}

function whyText(event: PolicyEventReport): string {
  const { leftOut = 0 } = event;
  const before = leftOut === 0 ? '' : ` (${leftOut} more before it from this port were left out)`;
  return `${judgementText(event)}${before}`;
}
