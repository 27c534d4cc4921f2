/**
 * Addresses that are held for endpoints to come. An endpoint that is in no namespace has such an address, so that nobody else
 * gets it, whatever restarts. It goes when one is attached with its name or an address of it, or when it is detached.
 */
import { WeftError } from '../error.ts';
import { addressValue } from '../model/address.ts';
import { HELD } from '../model/endpoint-annotations.ts';
import { endpointKind, type EndpointResource } from '../model/kinds/endpoint.ts';
import { idOf, nameOf } from '../model/name.ts';
import type { EndpointReport } from '../model/report.ts';
import { attachment, type AttachOptions } from './attachment.ts';
import type { Cluster } from './cluster.ts';
import { isHere, isHolder, type Endpoint } from './endpoint.ts';
import type { Endpoints } from './endpoints.ts';
import type { Networks } from './networks.ts';

export interface HeldAddressesEnvironment {
  readonly cluster: Cluster;
  readonly endpoints: Endpoints;
  readonly networks: Networks;
}

export type HoldOptions = Pick<AttachOptions, 'network' | 'namespace' | 'ip'> & { readonly name?: string | undefined };

const LONGEST_NAME = 63;
/** Where holders are that are in no namespace. */
const NOWHERE = '/run/netns';

/**
 * Holds the addresses that `ip` names; without any, one of the network's first subnet.
 * @param options.name by default a new one @throws WeftError
 */
export function hold(
  { cluster, endpoints, networks }: HeldAddressesEnvironment,
  { network: name, namespace, ip, ...given }: HoldOptions,
): Promise<EndpointReport> {
  return cluster.change(async () => {
    const network = networks.get(name);
    const known = given.name === undefined ? undefined : endpoints.find(idOf({ name: given.name, namespace }));
    if (known)
      throw new WeftError('conflict', `endpoint "${known.name}" exists already: hold an address with another name`);
    const options = { name: given.name ?? freeName(endpoints, namespace), network: name, ...(ip && { ip }) };
    const resource = holder({ ...options, ...(namespace !== undefined && { namespace }) }, network.pools[0]!.subnet);
    await cluster.applyOrTakeBack(resource);
    return endpoints.report(endpoints.get(idOf(resource.metadata)));
  });
}

/**
 * Runs `attach` when those are gone that hold its name or addresses of it for it. Call within `change`.
 * @throws what `attach` throws; they are there again then, or it says which are not
 */
export async function withoutHolders(
  { cluster, endpoints, networks }: HeldAddressesEnvironment,
  { metadata, spec }: EndpointResource,
  attach: () => Promise<void>,
): Promise<void> {
  const { pools } = networks.get(spec.network);
  const owners = spec.addresses.map((address) =>
    pools.find((pool) => pool.contains(address))?.ownerOf(addressValue(address)),
  );
  const names = new Set([idOf(metadata), ...owners.filter((owner) => owner !== undefined)]);
  const holders = [...names]
    .flatMap((name) => endpoints.find(name) ?? [])
    .filter((one) => isHere(one) && isHolder(one.resource));
  try {
    for (const { name } of holders) await cluster.deleteNow(endpointKind, nameOf(name));
    await attach();
  } catch (error) {
    const lost: string[] = [];
    for (const one of holders.filter(({ name }) => !endpoints.find(name))) {
      await cluster.applyOrTakeBack(holderAgain(one)).catch((why: unknown) => {
        lost.push(`${one.addresses.join(', ')}: held no more, since ${(why as Error).message}`);
      });
    }
    if (lost.length === 0 || !(error instanceof WeftError)) throw error;
    throw new WeftError(error.code, `${error.message}; ${lost.join('; ')}`, { cause: error });
  }
}

function holder(options: Omit<AttachOptions, 'netns'>, subnet: string): EndpointResource {
  return attachment({ ...options, netns: NOWHERE, annotations: { [HELD]: subnet } }, undefined);
}

function holderAgain({ resource: { metadata, spec }, addresses }: Endpoint): EndpointResource {
  const { name, namespace } = metadata;
  return holder({ name, namespace, network: spec.network, ip: addresses }, metadata.annotations![HELD]!);
}

/** With the name of this host: others may choose one meanwhile that it does not hear of before it has the store again. */
function freeName(endpoints: Endpoints, namespace: string | undefined): string {
  for (let number = 1; ; number++) {
    const name = `held-${number}-${endpoints.hostName}`.slice(0, LONGEST_NAME).replace(/-$/, '');
    if (!endpoints.find(idOf({ name, namespace }))) return name;
  }
}
