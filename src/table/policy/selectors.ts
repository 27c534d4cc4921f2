/**
 * Which selectors match a workload, found without looking at all of them: there may be 10,000.
 *
 * Each selector is listed under something that it demands: one of its labels if it names one, or the namespace. So a workload
 * has to be compared only with those that are listed under what it has, and with the few that demand nothing of that kind.
 */
import { matchesLabels, type LabelSelector } from '../../labels.ts';
import type { Identity, PolicyLabels } from './policy.ts';

/** Workloads of these namespaces, as `PolicyPeer` has them. */
export interface WorkloadSelector {
  readonly namespaces: string | LabelSelector;
  readonly pods: LabelSelector;
}

export class SelectorIndex<T extends { readonly selector: WorkloadSelector }> {
  /** In the order in which they came. */
  readonly #listed = new Map<string, Set<T>>();

  get isEmpty(): boolean {
    return this.#listed.size === 0;
  }

  add(item: T): void {
    for (const place of listedAt(item)) {
      const there = this.#listed.get(place);
      if (there) there.add(item);
      else this.#listed.set(place, new Set([item]));
    }
  }

  delete(item: T): void {
    for (const place of listedAt(item)) {
      const there = this.#listed.get(place)!;
      there.delete(item);
      if (there.size === 0) this.#listed.delete(place);
    }
  }

  /** Those whose selectors match, each once. */
  matching(identity: Identity): T[] {
    const { namespace, labels, namespaceLabels } = identity;
    const found: T[] = [];
    this.#lookUnderLabels('pod', labels, identity, found);
    this.#lookUnderLabels('namespaces', namespaceLabels, identity, found);
    this.#look(`namespace ${namespace}`, identity, found);
    this.#look(ANYWHERE, identity, found);
    return found;
  }

  /** Each is at most at one of all these places. */
  #lookUnderLabels(kind: string, labels: PolicyLabels, identity: Identity, found: T[]): void {
    for (const key of Object.keys(labels)) {
      this.#look(`${kind} ${key}`, identity, found);
      this.#look(`${kind} ${key}=${labels[key]!}`, identity, found);
    }
  }

  #look(place: string, identity: Identity, found: T[]): void {
    const there = this.#listed.get(place);
    if (!there) return;
    for (const item of there) if (selects(item.selector, identity)) found.push(item);
  }
}

/** Where those are listed that demand nothing by which they could be found. */
const ANYWHERE = '';

function listedAt({ selector }: { readonly selector: WorkloadSelector }): readonly string[] {
  const places = placesOf(selector);
  return places.length > 0 ? places : [ANYWHERE];
}

/** The same selector is in the indexes of many rule sets. */
const knownPlaces = new WeakMap<WorkloadSelector, readonly string[]>();

function placesOf(selector: WorkloadSelector): readonly string[] {
  let places = knownPlaces.get(selector);
  if (!places) knownPlaces.set(selector, (places = findPlaces(selector)));
  return places;
}

/** What a workload must have one of for the selector to match; nothing if there is no such thing. */
function findPlaces({ namespaces, pods }: WorkloadSelector): readonly string[] {
  const ofPods = labelPlaces('pod', pods);
  if (ofPods) return ofPods;
  return typeof namespaces === 'string' ? [`namespace ${namespaces}`] : (labelPlaces('namespaces', namespaces) ?? []);
}

function labelPlaces(kind: string, selector: LabelSelector): readonly string[] | undefined {
  const one = selector.find(({ operator }) => operator === 'in');
  if (one) return [...new Set(one.values)].map((value) => `${kind} ${one.key}=${value}`);
  const present = selector.find(({ operator }) => operator === 'exists');
  return present && [`${kind} ${present.key}`];
}

export function selects({ namespaces, pods }: WorkloadSelector, identity: Identity): boolean {
  const isInNamespace =
    typeof namespaces === 'string'
      ? namespaces === identity.namespace
      : matchesLabels(namespaces, identity.namespaceLabels);
  return isInNamespace && matchesLabels(pods, identity.labels);
}
