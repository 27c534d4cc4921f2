/**
 * Ranges: the parts of a network's subnets from which this host chooses addresses.
 *
 * An IPv6 subnet without a range of its own gets the range at the same offsets as the IPv4 range:
 * with 10.0.0.10-10.0.0.99, it is fd00::a-fd00::63. So if the IPv4 ranges of the hosts do not
 * overlap, neither do the IPv6 ranges.
 */
import { WeftError } from '../error.ts';
import { addressText, addressValue, isIp4, parseRange, parseSubnet, usableRange } from '../model/address.ts';
import type { NetworkResource } from '../model/kinds/network.ts';
import { byName } from './endpoint-index.ts';
import { isLocal, type Endpoint } from './endpoint.ts';
import type { Network } from './network.ts';
import { rangeIsWithin } from './addresses/subnet.ts';

type Shares = Pick<NetworkResource['spec'], 'subnets' | 'ranges'>;

/** The range of one subnet as text; undefined if there is none, which means the whole subnet. */
export function rangeOf({ subnets, ranges }: Shares, subnet: string): string | undefined {
  const declared = ranges.find((range) => rangeIsWithin(range, subnet));
  if (declared !== undefined) return declared;
  const here = parseSubnet(subnet);
  const of = subnets.find((other) => isIp4(parseSubnet(other).first));
  const range = of === undefined ? undefined : ranges.find((candidate) => rangeIsWithin(candidate, of));
  if (isIp4(here.first) || of === undefined || range === undefined) return undefined;
  const { first, last } = parseRange(range);
  const offset = here.first - parseSubnet(of).first;
  const usable = usableRange(here, { first: first + offset, last: last + offset });
  // A subnet that is too small for it has no range: its addresses must be asked for explicitly.
  if (last + offset > here.last || usable.first > usable.last) return undefined;
  return `${addressText(first + offset)}-${addressText(last + offset)}`;
}

/**
 * A changed range must still contain the addresses that local endpoints got from the old one. Addresses outside the old
 * range, which were asked for explicitly, do not matter.
 * @throws WeftError('conflict')
 */
export function refuseOutOfRange(known: Network, { spec }: NetworkResource, endpoints: Iterable<Endpoint>): void {
  if (spec.ranges.length === 0) return;
  const local = byName([...endpoints].filter(isLocal));
  for (const { subnet, range: before } of known.pools) {
    const after = rangeOf(spec, subnet);
    if (after === before || after === undefined) continue;
    const was = before === undefined ? parseSubnet(subnet) : parseRange(before);
    const will = parseRange(after);
    const isIn = (value: bigint, { first, last }: typeof will): boolean => first <= value && value <= last;
    for (const { name, addresses } of local) {
      const stray = addresses.find((ip) => isIn(addressValue(ip), was) && !isIn(addressValue(ip), will));
      if (stray === undefined) continue;
      throw new WeftError(
        'conflict',
        `network "${known.name}": range ${after} leaves out ${stray} of endpoint "${name}" of this host: detach it first, or give a range that has it`,
      );
    }
  }
}
