/**
 * What is to be said about a kind of resources, in one file a kind. The command line, the
 * API, `get`, `describe`, help and completion know kinds by this alone; what a kind does to
 * the switch is its reconciler's matter (`cluster/reconcilers.ts`).
 */
import type * as z from 'zod';
import type { Resource } from '../resource.ts';

export const WEFT_V1 = 'weft.dev/v1';

/** A resource that has to exist. Of a namespaced kind it is in the namespace of the one that refers to it. */
export interface Reference {
  readonly kind: string;
  readonly name: string;
}

export interface KindDefinition<R extends Resource = Resource> {
  /** As manifests have it: `Endpoint`. */
  readonly kind: R['kind'];
  /** In lower case; also where its resources are in the store. */
  readonly plural: string;
  readonly shortNames: readonly string[];
  readonly apiVersion: R['apiVersion'];
  /** Are its names unique within a namespace, and not in the whole cluster? */
  readonly isNamespaced: boolean;
  /** Of a manifest without its `status`. */
  readonly schema: z.ZodType<R>;
  readonly references: (resource: R) => readonly Reference[];
  /** Of `weft get`, between the name and the labels. */
  readonly columns: {
    readonly heads: readonly string[];
    readonly cells: (resource: R) => readonly (string | number)[];
  };
}

/** A kind as the registry has it: its functions are given resources of the kind. */
export function defineKind<R extends Resource>(definition: KindDefinition<R>): KindDefinition {
  return definition as unknown as KindDefinition;
}
