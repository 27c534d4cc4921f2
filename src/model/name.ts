/** Names of resources: within their namespace, and as they are unique in the cluster. */

export const DEFAULT_NAMESPACE = 'default';

/** Which one of a kind. */
export interface ResourceName {
  readonly name: string;
  /** Of a namespaced kind; by default the namespace `default`. */
  readonly namespace?: string | undefined;
}

/**
 * A name that is unique in the cluster, as people and `trace` use it: `web` in the namespace `default`, `shop/web` in
 * any other, and the name alone where names are the cluster's.
 */
export function idOf({ name: own, namespace = DEFAULT_NAMESPACE }: ResourceName): string {
  return namespace === DEFAULT_NAMESPACE ? own : `${namespace}/${own}`;
}

/** The opposite of `idOf`. */
export function nameOf(id: string): Required<ResourceName> & { namespace: string } {
  const [name, namespace = DEFAULT_NAMESPACE] = id.split('/').reverse() as [string, string?];
  return { name, namespace };
}
