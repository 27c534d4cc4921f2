/** The store keys of resources: `networks/blue`, `endpoints/shop/web`. */
import { kinds } from '../model/kinds/registry.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import { idOf, nameOf } from '../model/resource.ts';

/** All that there are. What this host writes while they are asked for may already be among them, or not any more. */
export type Keys = Pick<ReadonlySet<string>, 'has' | 'keys'>;

export function keyOf({ plural, isNamespaced }: KindDefinition, name: string): string {
  if (!isNamespaced) return `${plural}/${name}`;
  const { namespace, name: own } = nameOf(name);
  return `${plural}/${namespace}/${own}`;
}

/** Undefined if the key is not that of a resource. */
export function resourceAt(key: string): { readonly kind: KindDefinition; readonly name: string } | undefined {
  const [plural, ...rest] = key.split('/');
  const kind = kinds.find((known) => known.plural === plural);
  if (!kind || rest.length !== (kind.isNamespaced ? 2 : 1)) return undefined;
  const [namespace, name = ''] = kind.isNamespaced ? rest : [undefined, ...rest];
  return { kind, name: idOf({ name, namespace }) };
}

/** `network "blue"`; for what is no resource, its key. */
export function nameOfKey(key: string): string {
  const at = resourceAt(key);
  return at ? `${at.kind.kind.toLowerCase()} "${at.name}"` : `record "${key}"`;
}
