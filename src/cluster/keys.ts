/** The store keys of resources: `networks/blue`, `endpoints/shop/web`; and what records are called in messages. */
import { addressText } from '../model/address.ts';
import { kinds } from '../model/kinds/registry.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import { idOf, nameOf } from '../model/resource.ts';
import { blockOfKey } from './addresses/block.ts';

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

/** `network "blue"`, `address block 10.0.0.16 of network "blue"`; for anything else, its key. */
export function nameOfKey(key: string): string {
  const at = resourceAt(key);
  if (at) return `${at.kind.kind.toLowerCase()} "${at.name}"`;
  const block = blockOfKey(key);
  return block ? `address block ${addressText(block.first)} of network "${block.network}"` : `record "${key}"`;
}
