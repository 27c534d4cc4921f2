/** The `weft demo` command. The demonstration itself is in demo.ts. */
import { Option, type Command } from 'commander';
import { FEWEST_HOSTS, MOST_HOSTS, scenarioNames, type Plan, type ScenarioName } from './demo/plan.ts';
import { count, verb } from './verb.ts';

interface Options {
  readonly hosts?: number;
  readonly store?: Plan['store'];
  readonly scenario: ScenarioName;
  readonly keep?: boolean;
}

const HOSTS_TO_FAIL = 3;
/** The hosts of its manifests. */
const HOSTS_OF_BOOKINFO = 2;

export function demoVerb(program: Command): void {
  verb(program, 'demo', {
    summary: 'join containers on several hosts of this machine, measure them, and clean up',
    examples: [
      'weft demo',
      'weft demo --hosts 3 --store etcd',
      'weft demo --scenario failover',
      'weft demo --scenario bookinfo --keep',
    ],
  })
    .option(
      '--hosts <n>',
      `how many hosts, ${FEWEST_HOSTS} to ${MOST_HOSTS} (default: 2, and ${HOSTS_TO_FAIL} for failover)`,
      count(FEWEST_HOSTS, MOST_HOSTS),
    )
    .addOption(
      new Option(
        '--store <where>',
        'embedded: each host by itself; etcd: all share one, which is started (default: embedded for basic, etcd for the others)',
      ).choices(['embedded', 'etcd'] satisfies Plan['store'][]),
    )
    .addOption(
      new Option(
        '--scenario <name>',
        'basic: pings, throughput and a trace; failover: a host loses its power; bookinfo: services whose backends drain, fail and come back',
      )
        .choices(scenarioNames)
        .default('basic'),
    )
    .option('--keep', 'leave it running and print the commands to explore it')
    .action(async ({ scenario, keep = false, ...given }: Options, command: Command) => {
      const needsStore = scenario !== 'basic';
      const isFailover = scenario === 'failover';
      const { hosts = isFailover ? HOSTS_TO_FAIL : FEWEST_HOSTS, store = needsStore ? 'etcd' : 'embedded' } = given;
      if (needsStore && store === 'embedded')
        command.error(`error: --scenario ${scenario} needs --store etcd: hosts with static peers share no endpoints`);
      if (isFailover && hosts < HOSTS_TO_FAIL)
        command.error(`error: --scenario failover needs --hosts ${HOSTS_TO_FAIL} or more: two have to be left`);
      if (scenario === 'bookinfo' && hosts !== HOSTS_OF_BOOKINFO)
        command.error(`error: --scenario bookinfo needs --hosts ${HOSTS_OF_BOOKINFO}: its manifests are for two`);
      const { demo } = await import('./demo.ts');
      await demo({ hosts, store, scenario, keep });
    });
}
