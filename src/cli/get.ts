/** `weft get KIND [NAME]`: resources as they were declared; YAML and JSON can be applied again. */
import type { Command } from 'commander';
import type { Kind, Resource } from '../model/resource.ts';
import { parseKind } from './kind.ts';
import { pairsText, print, table, write, type Cell } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function get(program: Command): void {
  verb(program, 'get <kind> [name]', {
    summary: 'show resources: network, endpoint or host',
    examples: ['weft get network', 'weft get endpoint web -o yaml'],
  }).action(async (kindText: string, name: string | undefined, _, command: Command) => {
    const kind = parseKind(kindText, command);
    const resources = await clientOf(command).get(kind, name);
    const { output } = globals(command);
    if (output === 'yaml') {
      const { stringify } = await import('./yaml.ts');
      await write(resources.map((resource) => stringify(resource)).join('---\n'));
    } else {
      await print(output, name === undefined ? resources : resources[0], () => resourceTable(kind, resources));
    }
  });
}

function resourceTable(kind: Kind, resources: readonly Resource[]): Promise<string> {
  return table(['NAME', ...headsOf[kind], 'LABELS'], resources.map(row), `No ${kind.toLowerCase()}s.`);
}

const headsOf = {
  Network: ['SUBNETS', 'VNI', 'MTU'],
  Host: ['UNDERLAY'],
  Endpoint: ['NAMESPACE', 'NETWORK', 'ADDRESSES', 'PLACE'],
} as const satisfies Record<Kind, readonly string[]>;

function row(resource: Resource): Cell[] {
  const { name, labels } = resource.metadata;
  return [name, ...specCells(resource), pairsText(labels)];
}

function specCells(resource: Resource): Cell[] {
  switch (resource.kind) {
    case 'Network':
      return [resource.spec.subnets.join(','), resource.spec.vni ?? '', resource.spec.mtu ?? ''];
    case 'Host':
      return [resource.spec.underlay];
    case 'Endpoint': {
      const { network, addresses, netns, pid, host } = resource.spec;
      const place = netns !== undefined ? `netns ${netns}` : pid !== undefined ? `pid ${pid}` : `host ${host}`;
      return [resource.metadata.namespace, network, addresses.join(','), place];
    }
    default:
      return resource satisfies never;
  }
}
