/** What `weft network create` does. */
import type { NetworkReport } from '../model/report.ts';
import type { Cluster } from './cluster.ts';
import { networkDeclaration, type NetworkOptions } from './network-declaration.ts';
import type { Networks } from './networks.ts';

export interface NetworkCreatingEnvironment {
  readonly cluster: Cluster;
  readonly networks: Networks;
}

/** Creates a network, or changes what `options` name of an existing one. */
export function createNetwork(
  { cluster, networks }: NetworkCreatingEnvironment,
  name: string,
  options: NetworkOptions,
): Promise<NetworkReport> {
  return cluster.change(async () => {
    await cluster.applyNow([networkDeclaration(name, options, networks.find(name)?.resource)]);
    return networks.report(networks.get(name));
  });
}
