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

/** Nodes in the order of their first addresses, outer ones before inner ones. */
class NodeList {
  readonly nodes: readonly BlockNode[];
  readonly #index: RangeIndex | undefined;

  constructor(nodes: readonly BlockNode[]) {
    this.nodes = nodes;
    const [first] = nodes;
    if (!first) return;
    const words = first.range.first.length;
    const starts = new Int32Array(words * nodes.length);
    let at = 0;
    for (const { range } of nodes) for (const word of range.first) starts[at++] = word;
    this.#index = new RangeIndex(starts, words);
  }

  /** The last one that begins at an address, 16 bytes, or before it. */
  lastBefore(address: Uint8Array): BlockNode | undefined {
    return this.#index && this.nodes[this.#index.find(address)];
  }

  at(range: BlockRange): BlockNode | undefined {
    const node = this.nodes[this.placeOf(range)];
    return node && isAt(node, range) ? node : undefined;
  }

  /** Where a range is, or would be. @param from it is not before that */
  placeOf(range: BlockRange, from = 0): number {
    let [low, high] = [from, this.nodes.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareRanges(this.nodes[middle]!.range, range) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const noNodes = new NodeList([]);

/** Once these are more than such a part of the others, they are put among them. */
const MOST_RECENT = 1 / 8;

/** The nodes of one family. Few that come later are a list of their own, so that a change does not read all others. */
class Family {
  #settled = noNodes;
  #recent = noNodes;
  /** Nodes that no block mentions any more. They match what those around them match, and most are mentioned again soon. */
  #empty = 0;

  change(removed: readonly RuleBlock[], added: readonly RuleBlock[]): void {
    if (removed.length > 0) this.#remove(removed);
    if (added.length > 0) this.#add(added);
    if (2 * this.#empty > this.#settled.nodes.length + this.#recent.nodes.length) this.#dropEmpty();
  }

  find(address: Uint8Array): BlockNode | undefined {
    let node = later(this.#settled.lastBefore(address), this.#recent.lastBefore(address));
    while (node && isBehindWanted(node.range.end)) node = node.outer;
    return node;
  }

  #remove(blocks: readonly RuleBlock[]): void {
    const gone = new Set(blocks);
    const nodes = new Set(blocks.flatMap(({ range, except }) => [range, ...except]).map((range) => this.#at(range)!));
    for (const node of nodes) {
      node.remove(gone);
      if (node.isEmpty) this.#empty++;
    }
  }

  #add(blocks: readonly RuleBlock[]): void {
    const mentioned = blocks.flatMap(nodesOf).sort((a, b) => compareRanges(a.range, b.range));
    const added: BlockNode[] = [];
    for (const node of mentioned) {
      const last = added.at(-1);
      const same = last && isAt(last, node.range) ? last : this.#at(node.range);
      if (!same) {
        added.push(node);
        continue;
      }
      if (same.isEmpty) this.#empty--;
      same.join(node);
    }
    if (added.length > 0) this.#insert(added);
  }

  /** @param others in order */
  #insert(others: readonly BlockNode[]): void {
    const recent = merged(this.#recent.nodes, others);
    const isMany = recent.length > MOST_RECENT * this.#settled.nodes.length;
    if (isMany) this.#settled = new NodeList(merged(this.#settled.nodes, recent));
    this.#recent = isMany ? noNodes : new NodeList(recent);
    const lists = [this.#settled, this.#recent];
    const places = [0, 0];
    for (const node of others) {
      for (const [at, list] of lists.entries()) places[at] = list.placeOf(node.range, places[at]);
      let outer = later(this.#settled.nodes[places[0]! - 1], this.#recent.nodes[places[1]! - 1]);
      while (outer && !covers(outer.range, node.range)) outer = outer.outer;
      node.outer = outer;
      for (const [at, { nodes }] of lists.entries()) hang(nodes, places[at]!, node);
    }
  }

  #dropEmpty(): void {
    const nodes = merged(this.#settled.nodes, this.#recent.nodes).filter((node) => !node.isEmpty);
    this.#settled = noNodes;
    this.#recent = noNodes;
    this.#empty = 0;
    if (nodes.length > 0) this.#insert(nodes);
  }

  /** The node of a range, if there is one. */
  #at(range: BlockRange): BlockNode | undefined {
    return this.#settled.at(range) ?? this.#recent.at(range);
  }
}

/** Those behind a place within a node that were directly within what is around it are directly within the node. */
function hang(nodes: readonly BlockNode[], place: number, within: BlockNode): void {
  for (let at = place; at < nodes.length; at++) {
    const node = nodes[at]!;
    if (node === within) continue;
    if (!covers(within.range, node.range)) return;
    if (node.outer === within.outer) node.outer = within;
  }
}

function isAt(node: BlockNode, range: BlockRange): boolean {
  return compareRanges(node.range, range) === 0;
}

/** Which of two nodes comes later. */
function later(a: BlockNode | undefined, b: BlockNode | undefined): BlockNode | undefined {
  if (!a || !b) return a ?? b;
  return compareRanges(a.range, b.range) > 0 ? a : b;
}

/** Both in one order. */
function merged(some: readonly BlockNode[], others: readonly BlockNode[]): readonly BlockNode[] {
  if (some.length === 0) return others;
  const all: BlockNode[] = [];
  let at = 0;
  for (const other of others) {
    while (at < some.length && compareRanges(some[at]!.range, other.range) < 0) all.push(some[at++]!);
    all.push(other);
  }
  while (at < some.length) all.push(some[at++]!);
  return all;
}

/** One for each time that a block mentions a prefix. */
function nodesOf(block: RuleBlock): readonly BlockNode[] {
  return [
    new BlockNode(block.range, [block], none),
    ...block.except.map((range) => new BlockNode(range, none, [block])),
  ];
}
