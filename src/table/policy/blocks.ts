/**
 * Address blocks: which rules match an address by `ipBlock` or `networks`, found at the same cost however many blocks there
 * are.
 *
 * Prefixes either contain each other or have nothing in common, so all prefixes that blocks and their exceptions mention are
 * a tree. The last one that begins before an address (`range-index.ts`) contains it, or the innermost one that does is around that
 * one. What matches is written on the way from there to the root: blocks begin, and what an exception takes away from its own
 * block ends. The two families have a tree each: `::/0` contains no IPv4 address.
 *
 * Blocks come and go without the others being read again.
 */
import { isIp4 } from '../../flow/types.ts';
import { compareRanges, covers, type BlockRange } from './block-range.ts';
import { isBehindWanted, RangeIndex } from './range-index.ts';
import type { Rule, RuleBlock } from './rules.ts';

/** A prefix that some block mentions. All addresses for which it is the innermost one are matched by the same rules. */
export class BlockNode {
  readonly range: BlockRange;
  outer: BlockNode | undefined;
  /** The blocks that begin here, and those to which this is an exception. Most nodes have one of both. */
  #begins: RuleBlock[];
  #ends: RuleBlock[];

  constructor(range: BlockRange, begins: RuleBlock[], ends: RuleBlock[]) {
    this.range = range;
    this.#begins = begins;
    this.#ends = ends;
  }

  get isEmpty(): boolean {
    return this.#begins.length === 0 && this.#ends.length === 0;
  }

  /** Takes what another node of the same range has. */
  join(other: BlockNode): void {
    this.#begins = joined(this.#begins, other.#begins);
    this.#ends = joined(this.#ends, other.#ends);
  }

  remove(blocks: ReadonlySet<RuleBlock>): void {
    this.#begins = this.#begins.filter((block) => !blocks.has(block));
    this.#ends = this.#ends.filter((block) => !blocks.has(block));
  }

  /** In any order, some of them possibly more than once. */
  rules(): Rule[] {
    const path: BlockNode[] = [this];
    for (let node = this.outer; node; node = node.outer) path.push(node);
    const matching = new Set<RuleBlock>();
    for (const node of path.reverse()) {
      for (const block of node.#begins) matching.add(block);
      for (const block of node.#ends) matching.delete(block);
    }
    return Array.from(matching, ({ rule }) => rule);
  }
}

const none: RuleBlock[] = [];

function joined(blocks: RuleBlock[], others: readonly RuleBlock[]): RuleBlock[] {
  if (others.length === 0) return blocks;
  if (blocks === none) return [...others];
  for (const other of others) blocks.push(other);
  return blocks;
}

export class RuleBlocks {
  readonly #ip4 = new Family();
  readonly #ip6 = new Family();

  /** Takes some blocks away, which are the same objects as when they were added, and adds others. */
  change(removed: readonly RuleBlock[], added: readonly RuleBlock[]): void {
    this.#ip4.change(removed.filter(isOfIp4), added.filter(isOfIp4));
    this.#ip6.change(removed.filter(isOfIp6), added.filter(isOfIp6));
  }

  /** The innermost prefix that contains the address, 16 bytes; undefined if no block matches it. */
  find(address: Uint8Array): BlockNode | undefined {
    return (isIp4(address) ? this.#ip4 : this.#ip6).find(address);
  }
}

function isOfIp4({ range }: RuleBlock): boolean {
  return range.first.length === 1;
}

function isOfIp6(block: RuleBlock): boolean {
  return !isOfIp4(block);
}

class Family {
  /** In the order of their first addresses, outer ones before inner ones. */
  #nodes: readonly BlockNode[] = [];
  /** Their first addresses. */
  #starts = new Int32Array();
  #index: RangeIndex | undefined;
  /** Nodes that no block mentions any more. They match what those around them match, and most are mentioned again soon. */
  #empty = 0;

  change(removed: readonly RuleBlock[], added: readonly RuleBlock[]): void {
    if (removed.length > 0) this.#remove(removed);
    if (added.length > 0) this.#add(added);
    if (2 * this.#empty > this.#nodes.length) this.#dropEmpty();
  }

  find(address: Uint8Array): BlockNode | undefined {
    const at = this.#index ? this.#index.find(address) : -1;
    let node = at < 0 ? undefined : this.#nodes[at]!;
    while (node && isBehindWanted(node.range.end)) node = node.outer;
    return node;
  }

  #remove(blocks: readonly RuleBlock[]): void {
    const gone = new Set(blocks);
    const places = new Set(
      blocks.flatMap(({ range, except }) => [range, ...except]).map((range) => this.#placeOf(range)),
    );
    for (const place of places) {
      const node = this.#nodes[place]!;
      node.remove(gone);
      if (node.isEmpty) this.#empty++;
    }
  }

  #add(blocks: readonly RuleBlock[]): void {
    const mentioned = blocks.flatMap(nodesOf).sort((a, b) => compareRanges(a.range, b.range));
    const [added, places]: [BlockNode[], number[]] = [[], []];
    for (const node of mentioned) {
      const place = this.#placeOf(node.range);
      const same = [added.at(-1), this.#nodes[place]].find(
        (other) => other && compareRanges(other.range, node.range) === 0,
      );
      if (same) {
        if (same.isEmpty) this.#empty--;
        same.join(node);
      } else {
        added.push(node);
        places.push(place);
      }
    }
    if (added.length > 0) this.#insert(added, places);
  }

  /** @param places before which of the nodes that are there each of the others comes, in order */
  #insert(others: readonly BlockNode[], places: readonly number[]): void {
    const [before, starts, nodes] = [this.#nodes, this.#starts, [] as BlockNode[]];
    const words = others[0]!.range.first.length;
    const all = new Int32Array(words * (before.length + others.length));
    let from = 0;
    for (const [at, node] of others.entries()) {
      const place = places[at]!;
      all.set(starts.subarray(from * words, place * words), (from + at) * words);
      all.set(node.range.first, (place + at) * words);
      for (; from < place; from++) nodes.push(before[from]!);
      nodes.push(node);
    }
    all.set(starts.subarray(from * words), (from + others.length) * words);
    for (; from < before.length; from++) nodes.push(before[from]!);
    this.#nodes = nodes;
    this.#starts = all;
    this.#index = new RangeIndex(all, words);
    for (const [at, node] of others.entries()) {
      const place = places[at]! + at;
      let outer = nodes[place - 1];
      while (outer && !covers(outer.range, node.range)) outer = outer.outer;
      node.outer = outer;
      this.#hang(place, outer, node);
    }
  }

  #dropEmpty(): void {
    const nodes = this.#nodes.filter((node) => !node.isEmpty);
    this.#nodes = [];
    this.#starts = new Int32Array();
    this.#index = undefined;
    this.#empty = 0;
    const places = nodes.map(() => 0);
    if (nodes.length > 0) this.#insert(nodes, places);
  }

  /** Those within the node at a place that were directly within one are directly within another one. */
  #hang(place: number, before: BlockNode | undefined, after: BlockNode | undefined): void {
    const { range } = this.#nodes[place]!;
    for (let at = place + 1; at < this.#nodes.length; at++) {
      const node = this.#nodes[at]!;
      if (!covers(range, node.range)) break;
      if (node.outer === before) node.outer = after;
    }
  }

  /** Where a range is, or would be. */
  #placeOf(range: BlockRange): number {
    let [low, high] = [0, this.#nodes.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareRanges(this.#nodes[middle]!.range, range) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** One for each time that a block mentions a prefix. */
function nodesOf(block: RuleBlock): readonly BlockNode[] {
  return [
    new BlockNode(block.range, [block], none),
    ...block.except.map((range) => new BlockNode(range, none, [block])),
  ];
}
