/** All policies, and which of them select a workload, found without looking at all of them: there may be 10,000. */
import type { Identity, Policy } from '../../table/policy/policy.ts';
import { SelectorIndex } from '../../table/policy/selectors.ts';
import type { SelectingPolicy } from './policy-value.ts';

export class PolicyIndex {
  readonly #byId = new Map<string, SelectingPolicy>();
  readonly #bySelector = new SelectorIndex<SelectingPolicy>();

  get size(): number {
    return this.#byId.size;
  }

  all(): readonly SelectingPolicy[] {
    return [...this.#byId.values()];
  }

  /** @param after undefined: there is none any more @returns the one that had this id */
  set(id: string, after: SelectingPolicy | undefined): SelectingPolicy | undefined {
    const before = this.#byId.get(id);
    if (before) {
      this.#byId.delete(id);
      this.#bySelector.delete(before);
    }
    if (!after) return before;
    this.#byId.set(id, after);
    this.#bySelector.add(after);
    return before;
  }

  selecting(identity: Identity): Policy[] {
    if (this.size === 0) return [];
    return this.#bySelector.matching(identity).map(({ policy }) => policy);
  }
}
