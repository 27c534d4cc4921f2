/**
 * Blocks of networks that were deleted. A host that is cut off from the store may still give their addresses to endpoints,
 * so its blocks stay its own until it gives them up, when it knows of the deletion, or until it is removed. Meanwhile no
 * other network gets these addresses. One of the same name may: it has the same blocks.
 */
import { WeftError } from '../../error.ts';
import type { AddressRange } from '../../model/address.ts';
import { blockAt, widestBlock } from './block.ts';
import type { Holding } from './holding.ts';

export interface Left {
  readonly network: string;
  readonly host: string;
  readonly first: bigint;
}

/**
 * A block, or an address of one, that a host still has within a subnet of the new network `name`.
 * @param exists whether there is a network of this name
 */
export function leftIn(
  holdings: Iterable<Holding>,
  name: string,
  subnets: readonly AddressRange[],
  exists: (network: string) => boolean,
): Left | undefined {
  for (const { network, first, revision, content, isDamaged } of holdings) {
    if (revision === 0 || isDamaged || exists(network)) continue;
    const host = content.host ?? [...content.claimed.values()][0]?.host;
    if (host === undefined) continue;
    const block = widestBlock(first);
    const isInTheWay = subnets.some((subnet) => {
      if (block.last < subnet.first || block.first > subnet.last) return false;
      const start = block.first > subnet.first ? block.first : subnet.first;
      return network !== name || blockAt(subnet, start).first !== first;
    });
    if (isInTheWay) return { network, host, first };
  }
  return undefined;
}

export function leftError(name: string, { network, host }: Left): WeftError {
  return new WeftError(
    'conflict',
    `network "${name}": host "${host}" still has addresses of it from network "${network}", which was deleted: choose another subnet, or wait until that host is back, or remove it for good with \`weft delete host ${host}\``,
  );
}
