/**
 * All rule sets that are in force. Workloads for which the same is in force share one, and what is the same is found by what
 * policies say in that direction: so a policy that is replaced by one with other rules for egress leaves the sets for ingress
 * as they are.
 *
 * A policy that says something else now, about the same workloads, is replaced within the sets that have it (`replace`): however many
 * workloads these are of, nothing is made for each of them.
 */
import { bytesId } from '../../flow/key.ts';
import {
  policyDirections,
  type Identity,
  type OnDeny,
  type Policy,
  type PolicyDirection,
  type PolicyName,
} from './policy.ts';
import { counts, policiesInOrder, RuleSet, RuleSetMemory, type RuleSetOptions } from './rule-set.ts';
import { namesPorts } from './rules.ts';
import { tiesOf, type PolicyTie } from './ties.ts';

export interface SharedRuleSet {
  readonly id: string;
  readonly direction: PolicyDirection;
  /** Compiled when it is first asked. */
  readonly rules: RuleSet;
}

/**
 * What a policy says about one direction, by its text: a number stands for it in the ids of rule sets. Of that direction no other one
 * says the same, so sets with the same id say the same.
 */
interface Content {
  text: string;
  readonly number: number;
  uses: number;
}

class Shared implements SharedRuleSet {
  readonly id: string;
  readonly contents: readonly Content[];
  readonly #options: SharedOptions;
  #rules: RuleSet | undefined;
  /** What was compiled before one of the policies was replaced. */
  #replaced: RuleSet | undefined;
  /** The one that has been asked last of those that were in force before. */
  #before: Shared | undefined;
  uses = 0;

  /** @param before what the workload had before */
  constructor(id: string, contents: readonly Content[], options: SharedOptions, before: Shared | undefined) {
    this.id = id;
    this.contents = contents;
    this.#options = options;
    this.#before = before && (before.#compiled ? before : before.#before);
  }

  get direction(): PolicyDirection {
    return this.#options.direction;
  }

  get rules(): RuleSet {
    if (!this.#rules) {
      this.#rules = new RuleSet(
        this.#options,
        this.#options.memory,
        this.#replaced ?? (this.#before && this.#before.#giveUp()),
      );
      this.#before = undefined;
      this.#replaced = undefined;
    }
    return this.#rules;
  }

  ties(): readonly PolicyTie[] {
    return tiesOf(this.#options.policies, this.#options.direction);
  }

  /** Has another policy in place of one, and is compiled when it is asked again. @param content what stands for both */
  replace(content: Content, after: Policy): void {
    this.#options.policies[this.contents.indexOf(content)] = after;
    this.release();
    this.#replaced = this.#compiled;
    this.#rules = undefined;
  }

  /** Nobody has it any more: what it has found out is of no use, but which rules match whom is, to the one that takes its place. */
  release(): void {
    this.#rules?.forget();
  }

  /** What was compiled last. */
  get #compiled(): RuleSet | undefined {
    return this.#rules ?? this.#replaced;
  }

  /** Its rules, for the one that takes its place; undefined if it is in force. If it is asked again, it is compiled again. */
  #giveUp(): RuleSet | undefined {
    if (this.uses > 0) return undefined;
    const rules = this.#compiled;
    this.#rules = undefined;
    this.#replaced = undefined;
    return rules;
  }
}

interface SharedOptions extends RuleSetOptions {
  readonly policies: Policy[];
  readonly memory: RuleSetMemory;
}

export class RuleSets {
  readonly #memory = new RuleSetMemory();
  readonly #sets = new Map<string, Shared>();
  /** Of each direction those that some set has, by their texts. */
  readonly #contents: Readonly<Record<PolicyDirection, Map<string, Content>>> = {
    ingress: new Map(),
    egress: new Map(),
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
      const options = { direction, policies: inOrder, ports, onDeny: asNamespace, memory: this.#memory };
      shared = new Shared(id, contents, options, before && this.#sets.get(before.id));
      this.#sets.set(id, shared);
    }
    shared.uses++;
    return shared;
  }

  /**
   * Replaces a policy in all sets that have it. Whoever has one of these has the other policy from now on.
   * @returns those that say something else now; undefined: nothing is done, because with the other policy the sets would not be the same
   * ones, or some set has it already
   */
  replace(before: Policy, after: Policy): ReadonlySet<SharedRuleSet> | undefined {
    if (!isAlike(before, after)) return undefined;
    const replaced = policyDirections.filter((direction) => {
      const text = textOf(before, direction);
      return text !== textOf(after, direction) && this.#contents[direction].has(text);
    });
    if (replaced.some((direction) => this.#contents[direction].has(textOf(after, direction)))) return undefined;
    const changed = new Set<SharedRuleSet>();
    for (const direction of replaced) {
      const content = this.#retext(direction, textOf(before, direction), textOf(after, direction));
      for (const shared of this.#sets.values()) {
        if (!shared.contents.includes(content)) continue;
        shared.replace(content, after);
        changed.add(shared);
      }
    }
    return changed;
  }

  /** Gives a content another text, which no other one of the direction has. */
  #retext(direction: PolicyDirection, before: string, after: string): Content {
    const contents = this.#contents[direction];
    const content = contents.get(before)!;
    contents.delete(before);
    content.text = after;
    contents.set(after, content);
    return content;
  }

  release({ id, direction }: SharedRuleSet): void {
    const shared = this.#sets.get(id)!;
    if (--shared.uses > 0) return;
    this.#sets.delete(id);
    shared.release();
    for (const content of shared.contents) if (--content.uses === 0) this.#contents[direction].delete(content.text);
  }

  /** Each once. */
  ties(): readonly PolicyTie[] {
    const found = new Map<string, PolicyTie>();
    for (const shared of this.#sets.values()) for (const tie of shared.ties()) found.set(JSON.stringify(tie), tie);
    return [...found.values()];
  }

  #contentOf(policy: Policy, direction: PolicyDirection): Content {
    const text = textOf(policy, direction);
    let content = this.#contents[direction].get(text);
    if (!content) this.#contents[direction].set(text, (content = { text, number: ++this.#lastNumber, uses: 0 }));
    return content;
  }
}

/** True if one takes the place of the other in the order of policies, and if what the ids of sets have besides contents is the same with both. */
function isAlike(a: Policy, b: Policy): boolean {
  return (
    isSameName(a.name, b.name) &&
    a.tier === b.tier &&
    a.priority === b.priority &&
    (a.onDeny === undefined) === (b.onDeny === undefined) &&
    namesPorts(a) === namesPorts(b) &&
    policyDirections.every((direction) => counts(a, direction) === counts(b, direction))
  );
}

function isSameName(a: PolicyName, b: PolicyName): boolean {
  return a.kind === b.kind && a.name === b.name;
}

const texts: Readonly<Record<PolicyDirection, WeakMap<Policy, string>>> = {
  ingress: new WeakMap(),
  egress: new WeakMap(),
};

/** All that counts of a policy, and what is told of it. */
function textOf(policy: Policy, direction: PolicyDirection): string {
  let text = texts[direction].get(policy);
  if (text === undefined) texts[direction].set(policy, (text = makeText(policy, direction)));
  return text;
}

function makeText(policy: Policy, direction: PolicyDirection): string {
  const { name, tier, priority, onDeny, isStaged } = policy;
  const rules = policy[direction];
  return JSON.stringify([name, tier, priority, onDeny, isStaged, rules], (_, value: unknown) =>
    value instanceof Uint8Array ? bytesId(value) : value,
  );
}
