/** Sets of L4 ports, as ranges that do not overlap, in the order of their numbers. */
export interface PortInterval {
  readonly first: number;
  readonly last: number;
}

export type PortRanges = readonly PortInterval[];

export const ALL_PORTS: PortRanges = [{ first: 0, last: 65_535 }];

export function hasPort(ranges: PortRanges, port: number): boolean {
  return ranges.some(({ first, last }) => first <= port && port <= last);
}

/** True if each port of `some` is in `ranges`. */
export function hasAllPorts(ranges: PortRanges, some: PortRanges): boolean {
  return some.every((one) => ranges.some(({ first, last }) => first <= one.first && one.last <= last));
}

/** Those that are in both. */
export function commonPorts(ranges: PortRanges, others: PortRanges): PortRanges {
  return ranges.flatMap((one) =>
    others.flatMap((other) => {
      const [first, last] = [Math.max(one.first, other.first), Math.min(one.last, other.last)];
      return first <= last ? [{ first, last }] : [];
    }),
  );
}

/** Those that are in any of these ranges, which may overlap. */
export function joinedPorts(ranges: PortRanges): PortRanges {
  const joined: PortInterval[] = [];
  for (const range of [...ranges].sort((a, b) => a.first - b.first)) {
    const before = joined.at(-1);
    if (!before || range.first > before.last + 1) joined.push(range);
    else joined[joined.length - 1] = { first: before.first, last: Math.max(before.last, range.last) };
  }
  return joined;
}
