/**
 * All rule sets that are in force. Workloads for which the same is in force share one, and what is the same is found by what
 * policies say in that direction: so a policy that is replaced by one with other rules for egress leaves the sets for ingress
 * as they are.
 */
import { bytesId } from '../../flow/key.ts';
import type { Identity, OnDeny, Policy, PolicyDirection } from './policy.ts';
import { policiesInOrder, RuleSet, RuleSetMemory, type RuleSetOptions } from './rule-set.ts';
import { namesPorts } from './rules.ts';
import { tiesOf, type PolicyTie } from './ties.ts';

export interface SharedRuleSet {
  readonly id: string;
  /** Compiled when it is first asked. */
  readonly rules: RuleSet;
}

/** What policies say, by its text: a number stands for it in the ids of rule sets. */
interface Content {
  readonly text: string;
  readonly number: number;
  uses: number;
}

class Shared implements SharedRuleSet {
  readonly id: string;
  readonly contents: readonly Content[];
  readonly ties: readonly PolicyTie[];
  readonly #options: RuleSetOptions;
  readonly #memory: RuleSetMemory;
  #rules: RuleSet | undefined;
  /** The one that has been asked last of those that were in force before. */
  #before: Shared | undefined;
  uses = 0;

  constructor(id: string, contents: readonly Content[], { options, memory, before }: SharedOptions) {
    this.id = id;
    this.contents = contents;
    this.ties = tiesOf(options.policies, options.direction);
    this.#options = options;
    this.#memory = memory;
    this.#before = before && (before.#rules ? before : before.#before);
  }

  get rules(): RuleSet {
    if (!this.#rules) {
      this.#rules = new RuleSet(this.#options, this.#memory, this.#before && this.#before.#giveUp());
      this.#before = undefined;
    }
    return this.#rules;
  }

  /** Nobody has it any more: what it has found out is of no use, but which rules match whom is, to the one that takes its place. */
  release(): void {
    this.#rules?.forget();
  }

  /** Its rules, for the one that takes its place; undefined if it is in force. If it is asked again, it is compiled again. */
  #giveUp(): RuleSet | undefined {
    if (this.uses > 0) return undefined;
    const rules = this.#rules;
    this.#rules = undefined;
    return rules;
  }
}

interface SharedOptions {
  readonly options: RuleSetOptions;
  readonly memory: RuleSetMemory;
  /** What the workload had before. */
  readonly before: Shared | undefined;
}

export class RuleSets {
  readonly #memory = new RuleSetMemory();
  readonly #sets = new Map<string, Shared>();
  readonly #contents = new Map<string, Content>();
  /** Those that policies had last. */
  readonly #known: Readonly<Record<PolicyDirection, WeakMap<Policy, Content>>> = {
    ingress: new WeakMap(),
    egress: new WeakMap(),
  };
  #lastNumber = 0;

  /** True if there are any: some of them may ask for the identities of peers. */
  get askIdentities(): boolean {
    return this.#sets.size > 0;
  }

  /**
   * The set for a workload; undefined if nothing is said about that direction. Whoever takes one releases it later.
   * @param before the one that the workload had until now
   */
  take(
    direction: PolicyDirection,
    { policies, identity, onDeny }: { policies: readonly Policy[]; identity: Identity; onDeny: OnDeny },
    before?: SharedRuleSet,
  ): SharedRuleSet | undefined {
    const inOrder = policiesInOrder(policies, direction);
    if (inOrder.length === 0) return undefined;
    // What does not matter to the rules is left out, so that more workloads have the same set.
    const ports = direction === 'ingress' && inOrder.some(namesPorts) ? identity.ports : [];
    const asNamespace = inOrder.some((policy) => policy.onDeny === undefined) ? onDeny : 'drop';
    const contents = inOrder.map((policy) => this.#contentOf(policy, direction));
    const numbers = contents.map(({ number }) => number);
    const id = `${direction} ${asNamespace} ${numbers.join()} ${ports.length > 0 ? JSON.stringify(ports) : ''}`;
    let shared = this.#sets.get(id);
    if (!shared) {
      for (const content of contents) content.uses++;
      const options = { direction, policies: inOrder, ports, onDeny: asNamespace };
      shared = new Shared(id, contents, {
        ...{ options, memory: this.#memory },
        before: before && this.#sets.get(before.id),
      });
      this.#sets.set(id, shared);
    }
    shared.uses++;
    return shared;
  }

  release({ id }: SharedRuleSet): void {
    const shared = this.#sets.get(id)!;
    if (--shared.uses > 0) return;
    this.#sets.delete(id);
    shared.release();
    for (const content of shared.contents) if (--content.uses === 0) this.#contents.delete(content.text);
  }

  /** Each once. */
  ties(): readonly PolicyTie[] {
    const found = new Map<string, PolicyTie>();
    for (const { ties } of this.#sets.values()) for (const tie of ties) found.set(JSON.stringify(tie), tie);
    return [...found.values()];
  }

  #contentOf(policy: Policy, direction: PolicyDirection): Content {
    const known = this.#known[direction].get(policy);
    // What nobody uses is in no id, and another one may have its text by now.
    if (known && known.uses > 0) return known;
    const text = known?.text ?? textOf(policy, direction);
    let content = this.#contents.get(text);
    if (!content) this.#contents.set(text, (content = { text, number: ++this.#lastNumber, uses: 0 }));
    this.#known[direction].set(policy, content);
    return content;
  }
}

/** All that counts of a policy, and what is told of it. */
function textOf(policy: Policy, direction: PolicyDirection): string {
  const { name, tier, priority, onDeny, isStaged } = policy;
  const rules = policy[direction];
  return JSON.stringify([name, tier, priority, onDeny, isStaged, rules], (_, value: unknown) =>
    value instanceof Uint8Array ? bytesId(value) : value,
  );
}
