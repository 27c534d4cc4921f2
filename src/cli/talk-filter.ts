/** The filters that flows, drops and the policy log have in common. */
import type { Command } from 'commander';
import type { TalkFilter } from '../model/talk-report.ts';

export interface TalkOptions extends TalkFilter {
  readonly follow?: true;
}

export function addTalkFilter(command: Command): Command {
  const end = 'NAME, NAMESPACE/NAME, an address or a prefix';
  return command
    .option('--from <end>', `only those that this one has sent (${end})`)
    .option('--to <end>', `only those to this one (${end})`)
    .option('--endpoint <end>', `only those with this one at either end (${end})`)
    .option('--network <name>', 'only those of this network')
    .option('--reason <name>', 'only those that are dropped for this reason')
    .option('--since <time>', 'only those of the last 30s, 5m or 2h');
}
