/**
 * What `weft network create` declares. Creating a network that exists changes what
 * is named and nothing else: it keeps the ranges, routes, MTU and outside that it has.
 */
import { WeftError } from '../error.ts';
import { parseResource } from '../model/manifest.ts';
import { WEFT_V1 } from '../model/kinds/kind.ts';
import type { NetworkResource, RouteSpec } from '../model/kinds/network.ts';

export interface NetworkOptions {
  /** Of a new network there is at least one; those of a network that exists cannot change. */
  readonly subnets?: readonly string[];
  readonly vni?: number;
  readonly mtu?: number;
  /** FIRST-LAST: this host's own share of a subnet. */
  readonly ranges?: readonly string[];
  /** Ways to other networks. */
  readonly routes?: readonly RouteSpec[];
  /** Do its containers reach what is beyond weft, and may their ports be published? */
  readonly outside?: boolean;
}

/**
 * The resource that `options` make of the network `known`, or a new one.
 * @throws WeftError `invalid`; `conflict` where they name other subnets than the network has
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
  // First by itself: other subnets are refused as such, not because the network's ranges are outside them.
  const named = declare(options);
  if (!known) return named;
  refuseOtherSubnets(known, named);
  return declare({ ...known.spec, ...options });
}

/** Subnets are what makes a network that network. @throws WeftError `conflict` */
export function refuseOtherSubnets({ metadata, spec: { subnets } }: NetworkResource, given: NetworkResource): void {
  if (subnets.join() === given.spec.subnets.join()) return;
  throw new WeftError(
    'conflict',
    `network "${metadata.name}" exists with subnets ${subnets.join()}, not ${given.spec.subnets.join()}: they cannot change, remove the network first`,
  );
}
