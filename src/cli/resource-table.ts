/** Resources as people see them: rows of a table, and names. */
import type { KindDefinition } from '../model/kinds/kind.ts';
import { idOf } from '../model/name.ts';
import type { Resource } from '../model/resource.ts';
import type { NamespaceOptions } from './kind.ts';
import { pairsText, table, type Cell } from './print.ts';

interface TableOptions extends NamespaceOptions {
  readonly isWide?: boolean;
}

export function resourceTable(
  kind: KindDefinition,
  resources: readonly Resource[],
  { namespace, isWide = false }: TableOptions = {},
): Promise<string> {
  return table(
    resourceHeads(kind, isWide),
    resources.map((resource) => resourceRow(kind, resource, isWide)),
    `No ${kind.plural}${kind.isNamespaced && namespace !== undefined ? ` in namespace "${namespace}"` : ''}.`,
  );
}

/** A table for each kind that there is something of; of a single kind also if there is nothing. */
export async function resourceTables(
  kinds: readonly KindDefinition[],
  resources: readonly Resource[],
  options: TableOptions,
): Promise<string> {
  const tables: string[] = [];
  for (const kind of new Set(kinds)) {
    const own = resources.filter((resource) => resource.kind === kind.kind);
    if (own.length > 0 || kinds.length === 1) tables.push(await resourceTable(kind, own, options));
  }
  return tables.join('\n');
}

export function resourceHeads({ isNamespaced, columns, wideColumns }: KindDefinition, isWide = false): string[] {
  const more = isWide ? (wideColumns?.heads ?? []) : [];
  return ['NAME', ...(isNamespaced ? ['NAMESPACE'] : []), ...columns.heads, ...more, 'LABELS'];
}

export function resourceRow(kind: KindDefinition, resource: Resource, isWide = false): Cell[] {
  const { name, namespace = '', labels } = resource.metadata;
  const more = isWide ? (kind.wideColumns?.cells(resource) ?? []) : [];
  return [name, ...(kind.isNamespaced ? [namespace] : []), ...kind.columns.cells(resource), ...more, pairsText(labels)];
}

/** `endpoint/web`, or `endpoint/shop/web` of another namespace than `default`. */
export function nameText({ kind, metadata }: Resource): string {
  return `${kind.toLowerCase()}/${idOf(metadata)}`;
}
