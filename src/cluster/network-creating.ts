/** What `weft network create` does. */
import { networkKind } from '../model/kinds/network.ts';
import type { NetworkReport } from '../model/report.ts';
import type { Cluster } from './cluster.ts';
import { networkDeclaration, type NetworkOptions } from './network-declaration.ts';
import type { Networks } from './networks.ts';

export interface NetworkCreatingEnvironment {
  readonly cluster: Cluster;
  readonly networks: Networks;
}

/**
 * Creates a network, or changes what `options` name of an existing one.
 * @throws WeftError also if the store has one of that name that is not in force here because this host does not accept it
 */
export function createNetwork(
  { cluster, networks }: NetworkCreatingEnvironment,
  name: string,
  options: NetworkOptions,
): Promise<NetworkReport> {
  return cluster.change(async () => {
    // With nothing of it in force here, what the options leave out would be lost to the other hosts, which may have it.
    const refusal = networks.find(name) ? undefined : cluster.refused.failure(networkKind, name);
    if (refusal) throw refusal;
    await cluster.applyNow([networkDeclaration(name, options, networks.find(name)?.resource)]);
    return networks.report(networks.get(name));
  });
}
