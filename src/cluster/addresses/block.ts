/**
 * Blocks: the parts of a subnet that hosts claim, 16 addresses each; a smaller subnet is one block. Which addresses belong
 * together follows from their numbers alone, so all hosts agree on it.
 */
import { addressText, addressValue, isIp4, type AddressRange } from '../../model/address.ts';

export const BLOCKS = 'blocks/';

/** How long an address rests before another endpoint gets it. */
export const REST_MS = 60_000;

const ADDRESSES = 16n;

/** The block that an address of the subnet is in. */
export function blockAt(subnet: AddressRange, value: bigint): AddressRange {
  const first = value - (value % ADDRESSES);
  const last = first + ADDRESSES - 1n;
  return { first: first > subnet.first ? first : subnet.first, last: last < subnet.last ? last : subnet.last };
}

/** The most that a block which begins there can have. */
export function widestBlock(first: bigint): AddressRange {
  return { first, last: first - (first % ADDRESSES) + ADDRESSES - 1n };
}

/** The blocks of a subnet, in ascending order. There may be very many. */
export function* blocksOf(subnet: AddressRange): Iterable<AddressRange> {
  for (let next = subnet.first; next <= subnet.last; ) {
    const block = blockAt(subnet, next);
    yield block;
    next = block.last + 1n;
  }
}

export function blockKey(network: string, first: bigint): string {
  return `${BLOCKS}${network}/${isIp4(first) ? 4 : 6}-${addressText(first)}`;
}

/** Undefined for a key that `blockKey` does not make. */
export function blockOfKey(key: string): { readonly network: string; readonly first: bigint } | undefined {
  const [, network, family, text] = /^blocks\/([^/]+)\/([46])-([0-9a-f:.]+)$/.exec(key) ?? [];
  if (network === undefined || text === undefined) return undefined;
  try {
    const first = addressValue(text);
    return isIp4(first) === (family === '4') && key === blockKey(network, first) ? { network, first } : undefined;
  } catch {
    return undefined;
  }
}
