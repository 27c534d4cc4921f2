/**
 * Address blocks: which rules match an address by `ipBlock` or `networks`, found at the same cost however many blocks there
 * are.
 *
 * Prefixes either contain each other or have nothing in common, so all prefixes that blocks and their exceptions mention are
 * a tree. Their ends cut the addresses into ranges, each of which lies in one innermost prefix. So a binary search finds a
 * node, and what matches is written on the way from there to the root: blocks begin, and what an exception takes away from
 * its own block ends. The two families have a tree each: `::/0` contains no IPv4 address.
 */
import { isIp4 } from '../../flow/types.ts';
import type { Prefix } from '../routes.ts';

/** A block of a rule. */
export interface RuleBlock {
  /** The number of the rule. */
  readonly rule: number;
  readonly block: Prefix;
  readonly except: readonly Prefix[];
}

/** A prefix that some block mentions. All addresses for which it is the innermost one are matched by the same rules. */
export class BlockNode {
  readonly #outer: BlockNode | undefined;
  /** The blocks that begin here, and those to which this is an exception. */
  readonly #begins: readonly RuleBlock[];
  readonly #ends: readonly RuleBlock[];

  constructor(outer: BlockNode | undefined, begins: readonly RuleBlock[], ends: readonly RuleBlock[]) {
    this.#outer = outer;
    this.#begins = begins;
    this.#ends = ends;
  }

  /** The numbers of the rules, in any order, some of them possibly more than once. */
  rules(): number[] {
    const path: BlockNode[] = [this];
    for (let node = this.#outer; node; node = node.#outer) path.push(node);
    const matching = new Set<RuleBlock>();
    for (const node of path.reverse()) {
      for (const block of node.#begins) matching.add(block);
      for (const block of node.#ends) matching.delete(block);
    }
    return Array.from(matching, ({ rule }) => rule);
  }
}

export class RuleBlocks {
  readonly #ip4: Family;
  readonly #ip6: Family;

  constructor(blocks: readonly RuleBlock[]) {
    const sound = blocks.filter(({ block, except }) => !except.some((other) => contains(other, block)));
    this.#ip4 = new Family(
      sound.filter(({ block }) => isIp4(block.ip)),
      32,
    );
    this.#ip6 = new Family(
      sound.filter(({ block }) => !isIp4(block.ip)),
      128,
    );
  }

  /** The innermost prefix that contains the address, 16 bytes; undefined if no block matches it. */
  find(address: Uint8Array): BlockNode | undefined {
    return (isIp4(address) ? this.#ip4 : this.#ip6).find(address);
  }
}

/** A prefix as the first and last of its addresses. */
interface Range {
  readonly id: string;
  readonly first: bigint;
  readonly last: bigint;
}

/** The same prefix is in the blocks of many rule sets. */
const knownRanges = new WeakMap<Prefix, Range>();

/** An address while it is looked for, in words: only the first ones are used of IPv4. */
const wanted = new Uint32Array(4);

class Family {
  /** Where each range begins, some words each, in order. */
  readonly #starts: Uint32Array;
  readonly #nodes: readonly (BlockNode | undefined)[];
  readonly #words: number;

  constructor(blocks: readonly RuleBlock[], bits: number) {
    this.#words = bits / 32;
    const starts: bigint[] = [];
    const nodes: (BlockNode | undefined)[] = [];
    const begin = (start: bigint, node: BlockNode | undefined): void => {
      // A prefix that begins where another one begins or has just ended is the inner one of both, or comes after it.
      if (starts.at(-1) === start) nodes[nodes.length - 1] = node;
      else if (start < 1n << BigInt(bits)) {
        starts.push(start);
        nodes.push(node);
      }
    };
    const open: { readonly last: bigint; readonly node: BlockNode }[] = [];
    const closeBefore = (first: bigint): void => {
      for (let inner = open.at(-1); inner && inner.last < first; inner = open.at(-1)) {
        open.pop();
        begin(inner.last + 1n, open.at(-1)?.node);
      }
    };
    for (const { range, begins, ends } of prefixesOf(blocks, bits)) {
      closeBefore(range.first);
      const node = new BlockNode(open.at(-1)?.node, orNone(begins), orNone(ends));
      open.push({ last: range.last, node });
      begin(range.first, node);
    }
    closeBefore(1n << BigInt(bits));
    this.#nodes = nodes;
    this.#starts = new Uint32Array(starts.length * this.#words);
    for (const [at, start] of starts.entries()) {
      for (let word = this.#words - 1, rest = start; word >= 0; word--, rest >>= 32n) {
        this.#starts[at * this.#words + word] = Number(rest & 0xffff_ffffn);
      }
    }
  }

  find(address: Uint8Array): BlockNode | undefined {
    const words = this.#words;
    for (let word = 0, at = 16 - 4 * words; word < words; word++, at += 4) {
      wanted[word] = (address[at]! << 24) | (address[at + 1]! << 16) | (address[at + 2]! << 8) | address[at + 3]!;
    }
    const behind = words === 1 ? this.#firstBehind(wanted[0]!) : this.#firstBehindWords();
    return behind === 0 ? undefined : this.#nodes[behind - 1];
  }

  /** The first range that begins behind an IPv4 address. */
  #firstBehind(address: number): number {
    const starts = this.#starts;
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (starts[middle]! > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The first range that begins behind the address in `wanted`. */
  #firstBehindWords(): number {
    let low = 0;
    let high = this.#nodes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#isBehind(middle)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** True if that range begins behind the address in `wanted`. */
  #isBehind(range: number): boolean {
    const words = this.#words;
    for (let word = 0, at = range * words; word < words; word++, at++) {
      const start = this.#starts[at]!;
      const here = wanted[word]!;
      if (start !== here) return start > here;
    }
    return false;
  }
}

/** Most prefixes have one of both lists, and there may be very many. */
function orNone(blocks: readonly RuleBlock[]): readonly RuleBlock[] {
  return blocks.length === 0 ? none : blocks;
}

const none: readonly RuleBlock[] = [];

interface MentionedPrefix {
  readonly range: Range;
  readonly begins: RuleBlock[];
  readonly ends: RuleBlock[];
}

/** Each prefix that is mentioned, once; outer ones before inner ones. */
function prefixesOf(blocks: readonly RuleBlock[], bits: number): readonly MentionedPrefix[] {
  const mentioned = new Map<string, MentionedPrefix>();
  const mention = (prefix: Prefix): MentionedPrefix => {
    const range = rangeOf(prefix, bits);
    let known = mentioned.get(range.id);
    if (!known) mentioned.set(range.id, (known = { range, begins: [], ends: [] }));
    return known;
  };
  for (const block of blocks) {
    mention(block.block).begins.push(block);
    for (const except of block.except) if (contains(block.block, except)) mention(except).ends.push(block);
  }
  return [...mentioned.values()].sort(
    ({ range: a }, { range: b }) => compare(a.first, b.first) || compare(b.last, a.last),
  );
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function rangeOf(prefix: Prefix, bits: number): Range {
  let range = knownRanges.get(prefix);
  if (!range) knownRanges.set(prefix, (range = findRange(prefix, bits)));
  return range;
}

function findRange({ ip, length }: Prefix, bits: number): Range {
  let address = 0n;
  for (let at = 16 - bits / 8; at < 16; at++) address = (address << 8n) | BigInt(ip[at]!);
  const size = 1n << BigInt(bits - length);
  const first = address - (address % size);
  return { id: `${first}/${length}`, first, last: first + size - 1n };
}

/** True if all addresses of `inner` are in `outer`. */
function contains(outer: Prefix, inner: Prefix): boolean {
  if (isIp4(outer.ip) !== isIp4(inner.ip) || outer.length > inner.length) return false;
  const bits = isIp4(outer.ip) ? 32 : 128;
  const [a, b] = [rangeOf(outer, bits), rangeOf(inner, bits)];
  return a.first <= b.first && b.last <= a.last;
}
