/**
 * What `weft network create` declares. Creating a network that exists changes only what the command
 * names: it keeps its other ranges, routes, MTU and outside.
 */
import { WeftError } from '../error.ts';
import { parseResource } from '../model/manifest.ts';
import { WEFT_V1 } from '../model/kinds/kind.ts';
import type { NetworkResource, RouteSpec } from '../model/kinds/network.ts';

export interface NetworkOptions {
  /** A new network needs at least one. Those of an existing network cannot change. */
  readonly subnets?: readonly string[];
  readonly vni?: number;
  readonly mtu?: number;
  /** FIRST-LAST: this host's own share of a subnet. */
  readonly ranges?: readonly string[];
  /** Routes to other networks. */
  readonly routes?: readonly RouteSpec[];
  /** True if its containers may reach destinations beyond weft and may publish ports. */
  readonly outside?: boolean;
}

/**
 * Builds the resource to apply from `options` and, for a network that exists, from `known`.
 * @throws WeftError `invalid`; `conflict` if `options` name other subnets than the network has
 */
export function networkDeclaration(
  name: string,
  options: NetworkOptions,
  known: NetworkResource | undefined,
): NetworkResource {
  const subnets = options.subnets ?? known?.spec.subnets;
  if (!subnets) {
    throw new WeftError('invalid', `subnets: network "${name}" does not exist yet, and a new network needs a subnet`);
  }
  const declare = (spec: object): NetworkResource =>
    parseResource({
      apiVersion: WEFT_V1,
      kind: 'Network',
      metadata: { ...known?.metadata, name },
      spec: { ...spec, subnets },
    }) as NetworkResource;
  // Checked on its own first, so that other subnets are refused as such and not because the network's ranges are
  // outside them.
  const named = declare(options);
  if (!known) return named;
  refuseOtherSubnets(known, named);
  return declare({ ...known.spec, ...options });
}

/** The subnets identify a network, so they cannot change. @throws WeftError `conflict` */
export function refuseOtherSubnets({ metadata, spec: { subnets } }: NetworkResource, given: NetworkResource): void {
  if (subnets.join() === given.spec.subnets.join()) return;
  throw new WeftError(
    'conflict',
    `network "${metadata.name}" exists with subnets ${subnets.join()}, not ${given.spec.subnets.join()}: they cannot change, remove the network first`,
  );
}
