/**
 * Everything that must be said about a kind of resources, in one file for each kind. The command
 * line, the API, `get`, `describe`, help and completion know a kind only by this definition. What a
 * kind does in the switch is up to its reconciler (`cluster/reconcilers.ts`).
 */
import type * as z from 'zod';
import type { Source } from '../policy-source.ts';
import { idOf, type Resource } from '../resource.ts';

export const WEFT_V1 = 'weft.dev/v1';

/** A resource that has to exist. */
export interface Reference {
  readonly kind: string;
  readonly name: string;
  /** Of one of a namespaced kind; that of the resource which refers to it if it is not given. */
  readonly namespace?: string | undefined;
}

/** The name of what is referred to, unique within its kind. @param namespace that of the resource which refers to it */
export function referredId({ name, namespace: own }: Reference, isNamespaced: boolean, namespace: string): string {
  return isNamespaced ? idOf({ name, namespace: own ?? namespace }) : name;
}

export interface KindDefinition<R extends Resource = Resource> {
  /** As in manifests: `Endpoint`. */
  readonly kind: R['kind'];
  /** In lower case; also the folder of its resources in the store. */
  readonly plural: string;
  readonly shortNames: readonly string[];
  readonly apiVersion: R['apiVersion'];
  /** True if its names are unique within a namespace rather than in the whole cluster. */
  readonly isNamespaced: boolean;
  /** True if nothing refers to one, or is in it: deleting one asks nobody. */
  readonly isLeaf?: true;
  /** Validates a manifest without its `status`. */
  readonly schema: z.ZodType<R>;
  readonly references: (resource: R) => readonly Reference[];
  /** The resource with where it was read from, for kinds of which that is kept. */
  readonly placed?: (resource: R, source: Source) => R;
  /** The columns that `weft get` shows between the name and the labels. */
  readonly columns: Columns<R>;
  /** More of them, for `-o wide`. */
  readonly wideColumns?: Columns<R>;
}

interface Columns<R> {
  readonly heads: readonly string[];
  readonly cells: (resource: R) => readonly (string | number)[];
}

/** Defines a kind for the registry, which passes its functions only resources of this kind. */
export function defineKind<R extends Resource>(definition: KindDefinition<R>): KindDefinition {
  return definition as unknown as KindDefinition;
}
