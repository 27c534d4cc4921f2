/** Where the workloads of simulated truth tables are: the namespace `default` on the network blue, the others on red, each routed to the other. */
import { formatMac, parseMac, type Vni } from '../../../src/flow/types.ts';
import { gatewayMac } from '../../../src/table/topology.ts';
import { endpointName } from './tables.ts';
import type { Pod } from './world.ts';

export const NETWORKS = {
  blue: { vni: 100 as Vni, subnets: ['10.0.0.0/23', 'fd00::/63'] },
  red: { vni: 200 as Vni, subnets: ['10.0.2.0/23', 'fd00:0:0:2::/63'] },
};

export function networkOf({ namespace }: Pick<Pod, 'namespace'>): keyof typeof NETWORKS {
  return namespace === 'default' ? 'blue' : 'red';
}

export function gatewayOf(pod: Pod): string {
  return formatMac(gatewayMac(NETWORKS[networkOf(pod)].vni));
}

/** Made of its address. */
export function macOf({ addresses }: Pick<Pod, 'addresses'>): string {
  const [, , c, d] = addresses[0]!.split('.').map((part) => Number(part).toString(16).padStart(2, '0'));
  return formatMac(parseMac(`02:00:00:00:${c}:${d}`));
}

/** One of each network on each host may have others behind it. */
export function isTrusted(pod: Pod): boolean {
  return ['a', 'b', 'c/a', 'c/b'].includes(endpointName(pod));
}
