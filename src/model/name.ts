/** Names of resources, both within a namespace and unique in the cluster. */

export const DEFAULT_NAMESPACE = 'default';

/** Identifies one resource of a kind. */
export interface ResourceName {
  readonly name: string;
  /** For a namespaced kind; `default` if it is missing. */
  readonly namespace?: string | undefined;
}

/**
 * The name that is unique in the cluster, as people and `trace` use it: `web` in the namespace `default`, `shop/web` in
 * any other, and just the name for kinds without namespaces.
 */
export function idOf({ name: own, namespace = DEFAULT_NAMESPACE }: ResourceName): string {
  return namespace === DEFAULT_NAMESPACE ? own : `${namespace}/${own}`;
}

/** The inverse of `idOf`. */
export function nameOf(id: string): Required<ResourceName> & { namespace: string } {
  const slash = id.indexOf('/');
  return { name: id.slice(slash + 1), namespace: slash === -1 ? DEFAULT_NAMESPACE : id.slice(0, slash) };
}

/** How many are named where there may be very many. */
const MOST_NAMED = 10;

/** The first of them, and how many more there are. */
export function someOf(texts: readonly string[], separator = ', '): string {
  const named = texts.slice(0, MOST_NAMED).join(separator);
  return texts.length > MOST_NAMED ? `${named} and ${texts.length - MOST_NAMED} more` : named;
}
