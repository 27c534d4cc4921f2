/** `weft network create|ls|rm` */
import type { Command } from 'commander';
import type { ApplyReport, NetworkReport } from '../model/report.ts';
import { applyText } from './apply-text.ts';
import { throwAll, tryEach } from './failures.ts';
import { namingOptions, type NamedOption } from './naming-options.ts';
import { pairsText, print, table } from './print.ts';
import { clientOf, collect, count, globals, note, verb } from './verb.ts';
import { addWait, waitIfAsked, type WaitOptions } from './wait.ts';

interface CreateOptions extends WaitOptions {
  readonly subnet?: string[];
  readonly vni?: number;
  readonly mtu?: number;
  readonly range?: string[];
  readonly outside?: boolean;
}

/** Names each option by the field of the request that it sets. */
const optionOf = {
  name: ['NAME'],
  subnets: ['--subnet'],
  vni: ['--vni'],
  mtu: ['--mtu'],
  ranges: ['--range'],
} as const satisfies Record<string, NamedOption>;

const OUTSIDE_ON_HOST =
  'for the outside this host has an interface weft0 (169.254.77.1/30, fd77:6566:7430::1/126), an nftables table `inet weft`, and IPv4 and IPv6 forwarding switched on between all its interfaces; interface and table go with the last network that has an outside, forwarding stays on';

export function network(program: Command): void {
  const parent = verb(program, 'network', {
    summary: 'create, list and remove virtual networks',
    examples: ['weft network create blue --subnet 10.0.0.0/24', 'weft network ls', 'weft network rm blue'],
  });

  const create = verb(parent, 'create <name>', {
    summary: 'create a network, or change its ranges, MTU or outside',
    examples: [
      'weft network create blue --subnet 10.0.0.0/24',
      'weft network create blue --subnet 10.0.0.0/24 --subnet fd00::/64 --vni 100 --mtu 1450',
      'weft network create blue --subnet 10.0.0.0/24 --vni 100 --range 10.0.0.10-10.0.0.99',
      'weft network create blue --subnet 10.0.0.0/24 --outside',
      'weft network create blue --range 10.0.0.10-10.0.0.199 --mtu 1400',
    ],
  });
  addWait(create)
    .option('--subnet <cidr>', 'IPv4 or IPv6 subnet; one of each at most; a new network needs one', collect)
    .option('--vni <n>', 'VXLAN network identifier, 1 to 16777214 (default: chosen by weft)', count(0))
    .option('--mtu <n>', 'MTU of the containers, 576 to 9000 (default: what the underlay carries)', count(0))
    .option(
      '--range <first-last>',
      "this host's own share of a subnet: addresses are given from there; an IPv6 subnet without one has the share at the same places as the IPv4 range",
      collect,
    )
    .option('--outside', 'let its containers reach what is beyond weft, and publish their ports (default: neither)')
    .option('--no-outside', 'take that away again, once no port is published')
    .addHelpText(
      'after',
      `\nCreating a network that exists changes what the options name, and nothing else of it. Its subnets and VNI cannot change. A range and an MTU stay until others are given; --no-outside takes the outside away.\nWith --outside: ${OUTSIDE_ON_HOST}.`,
    )
    .action(async (name: string, options: CreateOptions, command: Command) => {
      const report = await namingOptions(optionOf, () =>
        clientOf(command).createNetwork(name, {
          ...(options.subnet !== undefined && { subnets: options.subnet }),
          ...(options.vni !== undefined && { vni: options.vni }),
          ...(options.mtu !== undefined && { mtu: options.mtu }),
          ...(options.range !== undefined && { ranges: options.range }),
          ...(options.outside !== undefined && { outside: options.outside }),
        }),
      );
      await print(globals(command).output, report, () => networkTable([report]));
      if (options.outside) note(OUTSIDE_ON_HOST);
      await waitIfAsked(options, command);
    });

  verb(parent, 'ls', { summary: 'list the networks', examples: ['weft network ls', 'weft network ls -o json'] }).action(
    async (_, command: Command) => {
      const report = await clientOf(command).networks();
      await print(globals(command).output, report, () => networkTable(report));
    },
  );

  verb(parent, 'rm <name...>', {
    summary: 'remove networks without endpoints',
    examples: ['weft network rm blue', 'weft network rm blue green'],
  }).action(async (names: string[], _, command: Command) => {
    const { done, failures } = await tryEach(names, async (name): Promise<ApplyReport> => {
      await clientOf(command).removeNetwork(name);
      return { kind: 'Network', name, action: 'deleted', dryRun: false };
    });
    await print(globals(command).output, names.length === 1 ? (done[0] ?? []) : done, () =>
      done.map(applyText).join(''),
    );
    throwAll(failures);
  });
}

function networkTable(networks: readonly NetworkReport[]): Promise<string> {
  return table(
    ['NAME', 'VNI', 'SUBNETS', 'GATEWAYS', 'MTU', 'OUTSIDE', 'ENDPOINTS', 'FREE'],
    networks.map(({ name, vni, subnets, gateways, mtu, outside, endpoints, free }) => [
      name,
      vni,
      subnets.join(','),
      gateways.join(','),
      mtu,
      outside ? 'yes' : 'no',
      endpoints,
      pairsText(free),
    ]),
    'No networks: create one with `weft network create NAME --subnet CIDR`.',
  );
}
