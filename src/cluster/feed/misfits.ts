/**
 * Endpoints of this host that would have to wait in the cluster that it joins, as their addresses do not fit the networks there.
 */
import { addressValue, isAddress, parseSubnet } from '../../model/address.ts';
import { networkKind, type NetworkResource } from '../../model/kinds/network.ts';
import { readIfValid } from '../../model/read-if-valid.ts';
import type { Entry } from '../../store/store.ts';
import { inTurns } from '../../turns.ts';
import { reservedText } from '../addresses/pool.ts';
import { keyOf, resourceAt } from '../keys.ts';
import { addressesOf, networkOf, type KnownRecord } from './known-records.ts';

const COMPARED_PER_TURN = 512;

/** @param entries everything that the store has @returns why an endpoint of this host, which it brings along, has to wait there */
export async function misfitsIn(
  entries: readonly Entry[],
): Promise<(known: Pick<KnownRecord, 'key' | 'value'>) => string | undefined> {
  const networks = new Map<string, NetworkResource | undefined>();
  for await (const { key, value } of inTurns(entries, COMPARED_PER_TURN)) {
    if (resourceAt(key)?.kind !== networkKind) continue;
    const { resource } = Object(value) as { readonly resource?: unknown };
    networks.set(key, readIfValid(networkKind.schema, resource) as NetworkResource | undefined);
  }
  return ({ key, value }) => {
    const network = networkOf(value);
    if (resourceAt(key)?.kind.kind !== 'Endpoint' || typeof network !== 'string') return undefined;
    const at = keyOf(networkKind, network);
    if (!networks.has(at)) return `there is no network "${network}"`;
    const subnets = networks.get(at)?.spec.subnets;
    if (!subnets) return `this host does not accept the network "${network}"`;
    return addressesOf(value)
      .map((ip) => misfitOf(ip, network, subnets))
      .find((why) => why !== undefined);
  };
}

function misfitOf(ip: string, network: string, subnets: readonly string[]): string | undefined {
  if (!isAddress(ip)) return undefined;
  const value = addressValue(ip);
  const subnet = subnets.map(parseSubnet).find(({ first, last }) => first <= value && value <= last);
  return subnet
    ? reservedText(ip, network, subnet)
    : `ip ${ip} is outside the subnets of network "${network}" (${subnets.join(', ')})`;
}
