/**
 * Which rules of a set match a peer: by its identity (`selectors.ts`), by its address (`blocks.ts`), or whoever it is. Rules come and
 * go without the others being read again.
 */
import type { Identity } from './policy.ts';
import { RuleBlocks, type BlockNode } from './blocks.ts';
import type { Rule } from './rules.ts';
import { SelectorIndex, type WorkloadSelector } from './selectors.ts';

/** Rules with a peer that says the same of workloads. */
export interface SelectingRules {
  /** Two of a set never have the same. */
  readonly number: number;
  readonly selector: WorkloadSelector;
  readonly rules: Set<Rule>;
}

export class PeerRules {
  readonly #everybody = new Set<Rule>();
  readonly #bySelector = new Map<string, SelectingRules>();
  readonly #selectors = new SelectorIndex<SelectingRules>();
  readonly #blocks = new RuleBlocks();
  #lastNumber = 0;

  /** Takes some rules away, which are the same objects as when they were added, and adds others. */
  change(removed: readonly Rule[], added: readonly Rule[]): void {
    for (const rule of removed) this.#remove(rule);
    for (const rule of added) this.#add(rule);
    this.#blocks.change(
      removed.flatMap(({ blocks }) => blocks),
      added.flatMap(({ blocks }) => blocks),
    );
  }

  /** True if some rule selects workloads. */
  get hasSelectors(): boolean {
    return this.#bySelector.size > 0;
  }

  /** Rules that match everybody. */
  get everybody(): Iterable<Rule> {
    return this.#everybody;
  }

  /** Those that match a workload, in the order of their numbers. */
  ofWorkload(identity: Identity): readonly SelectingRules[] {
    return this.#selectors.matching(identity).sort((a, b) => a.number - b.number);
  }

  /** The innermost block that an address, 16 bytes, is in; undefined: no block matches it. */
  blockWith(address: Uint8Array): BlockNode | undefined {
    return this.#blocks.find(address);
  }

  #add(rule: Rule): void {
    if (!rule.peers) this.#everybody.add(rule);
    for (const { id, selector } of rule.selectors) {
      const known = this.#bySelector.get(id);
      if (known) {
        known.rules.add(rule);
        continue;
      }
      const selecting = { number: ++this.#lastNumber, selector, rules: new Set([rule]) };
      this.#bySelector.set(id, selecting);
      this.#selectors.add(selecting);
    }
  }

  #remove(rule: Rule): void {
    this.#everybody.delete(rule);
    for (const { id } of rule.selectors) {
      const known = this.#bySelector.get(id)!;
      known.rules.delete(rule);
      if (known.rules.size > 0) continue;
      this.#bySelector.delete(id);
      this.#selectors.delete(known);
    }
  }
}
