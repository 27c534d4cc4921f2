/** All policies, and which of them select a workload, found without looking at all of them: there may be 10,000. */
import type { Identity, Policy } from '../../table/policy/policy.ts';
import { placesOf, placesWith, selects } from '../../table/policy/selectors.ts';
import type { SelectingPolicy } from './policy-value.ts';

/** Where those are listed that demand nothing by which they could be found. */
const ANYWHERE = '';

export class PolicyIndex {
  readonly #byId = new Map<string, SelectingPolicy>();
  readonly #byPlace = new Map<string, Set<SelectingPolicy>>();

  get size(): number {
    return this.#byId.size;
  }

  all(): readonly SelectingPolicy[] {
    return [...this.#byId.values()];
  }

  /** @param after undefined: there is none any more @returns the one that had this id */
  set(id: string, after: SelectingPolicy | undefined): SelectingPolicy | undefined {
    const before = this.#byId.get(id);
    if (before) this.#remove(id, before);
    if (!after) return before;
    this.#byId.set(id, after);
    for (const place of listedAt(after)) {
      const others = this.#byPlace.get(place);
      if (others) others.add(after);
      else this.#byPlace.set(place, new Set([after]));
    }
    return before;
  }

  selecting(identity: Identity): readonly Policy[] {
    const found: Policy[] = [];
    if (this.size === 0) return found;
    const look = (place: string): void => {
      for (const { selector, policy } of this.#byPlace.get(place) ?? [])
        if (selects(selector, identity)) found.push(policy);
    };
    for (const place of placesWith(identity)) look(place);
    look(ANYWHERE);
    return found;
  }

  #remove(id: string, policy: SelectingPolicy): void {
    this.#byId.delete(id);
    for (const place of listedAt(policy)) {
      const others = this.#byPlace.get(place);
      others?.delete(policy);
      if (others?.size === 0) this.#byPlace.delete(place);
    }
  }
}

function listedAt({ selector }: SelectingPolicy): readonly string[] {
  const places = placesOf(selector);
  return places.length > 0 ? places : [ANYWHERE];
}
