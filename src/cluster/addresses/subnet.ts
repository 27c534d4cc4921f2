/** How the subnets of networks relate to each other. */
import { isWithin, overlaps, parseRange, parseSubnet } from '../../model/address.ts';

/** The first subnet of `ours` that shares an address with one of `theirs`, and that one. */
export function findOverlap(
  ours: readonly string[],
  theirs: readonly string[],
): readonly [ours: string, theirs: string] | undefined {
  for (const own of ours) {
    const other = theirs.find((candidate) => overlaps(parseSubnet(own), parseSubnet(candidate)));
    if (other !== undefined) return [own, other];
  }
  return undefined;
}

/** @param range FIRST-LAST */
export function rangeIsWithin(range: string, subnet: string): boolean {
  return isWithin(parseRange(range), parseSubnet(subnet));
}
