/**
 * Who has which labels, so that a selector finds its endpoints, and an endpoint the selectors that match it, without looking at all
 * of them: there may be 100,000 of the ones and 30,000 of the others.
 *
 * A selector is a set of labels, all of which an endpoint of the same namespace must have.
 */

export type Labels = Readonly<Record<string, string>>;

/** Endpoints by each of their labels. */
export class LabelledEndpoints {
  readonly #byLabel = new Map<string, Set<string>>();

  add(name: string, namespace: string, labels: Labels): void {
    for (const key of keysOf(namespace, labels)) {
      const others = this.#byLabel.get(key);
      if (others) others.add(name);
      else this.#byLabel.set(key, new Set([name]));
    }
  }

  remove(name: string, namespace: string, labels: Labels): void {
    for (const key of keysOf(namespace, labels)) {
      const others = this.#byLabel.get(key);
      others?.delete(name);
      if (others?.size === 0) this.#byLabel.delete(key);
    }
  }

  /** The names of those that a selector with at least one label matches, unsorted. */
  matching(namespace: string, selector: Labels): string[] {
    const sets: ReadonlySet<string>[] = [];
    for (const key of keysOf(namespace, selector)) {
      const set = this.#byLabel.get(key);
      if (!set) return [];
      sets.push(set);
    }
    const [fewest, ...others] = sets.sort((a, b) => a.size - b.size);
    return [...(fewest ?? [])].filter((name) => others.every((set) => set.has(name)));
  }
}

/** Services by one label of their selectors: the one that the fewest others are found by. */
export class Selectors {
  readonly #byLabel = new Map<string, Map<string, Labels>>();
  readonly #labelOf = new Map<string, string>();

  /** @param selector with at least one label */
  add(service: string, namespace: string, selector: Labels): void {
    const [best = ''] = keysOf(namespace, selector).sort(
      (a, b) => (this.#byLabel.get(a)?.size ?? 0) - (this.#byLabel.get(b)?.size ?? 0),
    );
    this.#labelOf.set(service, best);
    const others = this.#byLabel.get(best);
    if (others) others.set(service, selector);
    else this.#byLabel.set(best, new Map([[service, selector]]));
  }

  remove(service: string): void {
    const label = this.#labelOf.get(service);
    if (label === undefined) return;
    this.#labelOf.delete(service);
    const others = this.#byLabel.get(label)!;
    others.delete(service);
    if (others.size === 0) this.#byLabel.delete(label);
  }

  /** The services whose selectors match an endpoint with these labels. */
  *matching(namespace: string, labels: Labels): Generator<string> {
    for (const key of keysOf(namespace, labels)) {
      for (const [service, selector] of this.#byLabel.get(key) ?? []) {
        if (matches(selector, labels)) yield service;
      }
    }
  }
}

export function matches(selector: Labels, labels: Labels): boolean {
  for (const key in selector) if (!Object.hasOwn(labels, key) || labels[key] !== selector[key]) return false;
  return true;
}

function keysOf(namespace: string, labels: Labels): string[] {
  return Object.entries(labels).map(([key, value]) => `${namespace}/${key}=${value}`);
}
