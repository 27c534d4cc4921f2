/** Resources as people see them: rows of a table, and names. */
import type { KindDefinition } from '../model/kinds/kind.ts';
import { idOf } from '../model/name.ts';
import type { Resource } from '../model/resource.ts';
import type { NamespaceOptions } from './kind.ts';
import { pairsText, table, type Cell } from './print.ts';

export function resourceTable(
  kind: KindDefinition,
  resources: readonly Resource[],
  { namespace }: NamespaceOptions = {},
): Promise<string> {
  return table(
    resourceHeads(kind),
    resources.map((resource) => resourceRow(kind, resource)),
    `No ${kind.plural}${kind.isNamespaced && namespace !== undefined ? ` in namespace "${namespace}"` : ''}.`,
  );
}

export function resourceHeads({ isNamespaced, columns }: KindDefinition): string[] {
  return ['NAME', ...(isNamespaced ? ['NAMESPACE'] : []), ...columns.heads, 'LABELS'];
}

export function resourceRow({ isNamespaced, columns }: KindDefinition, resource: Resource): Cell[] {
  const { name, namespace = '', labels } = resource.metadata;
  return [name, ...(isNamespaced ? [namespace] : []), ...columns.cells(resource), pairsText(labels)];
}

/** `endpoint/web`, or `endpoint/shop/web` of another namespace than `default`. */
export function nameText({ kind, metadata }: Resource): string {
  return `${kind.toLowerCase()}/${idOf(metadata)}`;
}
