/** A change that is planned, and not stored: what it would declare, and what it would remove. */
import type { Resource } from '../model/resource.ts';
import type { Declared } from './reconciler.ts';

export interface ProposedChange {
  /** What it declares or changes of a kind, by name. */
  planned<D extends Declared>(kind: string): ReadonlyMap<string, D>;
  isRemoved(kind: string, name: string): boolean;
  /** Of all that it declares, changes or removes of a kind. */
  names(kind: string): readonly string[];
}

const nothing: ReadonlyMap<string, never> = new Map<string, never>();

export const noChange: ProposedChange = { planned: () => nothing, isRemoved: () => false, names: () => [] };

export function removalOf(kind: string, name: string): ProposedChange {
  return {
    planned: () => nothing,
    isRemoved: (ofKind, one) => ofKind === kind && one === name,
    names: (ofKind) => (ofKind === kind ? [name] : []),
  };
}

/** @param declared the resource as it is, with what weft knows of it @param resource as it will be */
export function changeOf(declared: Declared, resource: Resource): ProposedChange {
  const changed = new Map([[declared.name, { ...declared, resource }]]);
  return {
    planned: <D extends Declared>(kind: string) =>
      (kind === resource.kind ? changed : nothing) as unknown as ReadonlyMap<string, D>,
    isRemoved: () => false,
    names: (kind) => (kind === resource.kind ? [declared.name] : []),
  };
}
