/** Which addresses nobody on this host sends from any more, to end the connections that survived a restart. */
import { formatIp, type Vni } from '../flow/types.ts';
import type { Endpoint } from './endpoint.ts';
import type { Networks } from './networks.ts';

/**
 * @param here the endpoints of this host
 * @returns a function that tells whether no container of this host may send from a 16-byte address in a network
 */
export function goneAddresses(
  here: readonly Endpoint[],
  networks: Pick<Networks, 'find'>,
): (vni: Vni, ip: Uint8Array) => boolean {
  const known = new Set<string>();
  const withTrusted = new Set<number>();
  for (const { resource, addresses } of here) {
    const { network, allowedAddresses, trust } = resource.spec;
    const vni = networks.find(network)?.vni;
    if (vni === undefined) continue;
    for (const address of [...addresses, ...allowedAddresses]) known.add(`${vni} ${address}`);
    if (trust) withTrusted.add(vni);
  }
  return (vni, ip) => !withTrusted.has(vni) && !known.has(`${vni} ${formatIp(ip)}`);
}
