/**
 * What a kind of resources does to this host.
 *
 *   plan       what applying a resource would store: checks, and what weft allots
 *   put/remove what the store has now is put in force: called for what the watch tells,
 *              be it an own command, another writer, or all there is at a start
 *
 * Planning changes nothing, and enforcing refuses nothing: what cannot be enforced now is
 * told as waiting, and tried again by the reconciler itself. All of a host are called one
 * after the other.
 */
import type { WeftError } from '../error.ts';
import type { ApplyReport } from '../model/report.ts';
import type { Resource } from '../model/resource.ts';
import type { Put } from '../store/store.ts';

/** A resource that is declared. */
export interface Declared<R extends Resource = Resource> {
  /** Unique in its kind (`idOf`). */
  readonly name: string;
  readonly resource: R;
  /** Of its record in the store; 0 where it is not stored yet. */
  readonly revision: number;
}

/** What the store has of a resource: it, and what weft allotted to it. */
export interface Stored<R extends Resource = Resource> extends Declared<R> {
  /** The whole record. `resource` is a part of it, with the defaults of today. */
  readonly record: object;
}

/** A change of any number of resources while it is planned: what will be declared, over what is (`draft.ts`). */
export interface Draft {
  find<D extends Declared>(kind: string, name: string): D | undefined;
  /** What the draft itself declares or changes. */
  planned<D extends Declared>(kind: string): ReadonlyMap<string, D>;
  /** How many there will be. */
  count(kind: string): number;
  /** `undo` is called when the change is given up, or is a dry run. */
  onUndo(undo: () => void): void;
}

export interface Planned {
  readonly action: Exclude<ApplyReport['action'], 'deleted'>;
  /** As it will be; not of one that is unchanged. */
  readonly declared?: Declared;
  /** To be stored, with the resource, under its key. */
  readonly allotted?: object;
  /** Further entries that go with it, and the revisions that they have now. */
  readonly also?: readonly (Put & { readonly revision: number })[];
}

export interface Reconciler {
  find(name: string): Declared | undefined;
  /** @throws WeftError('not_found') that says what there is to do about it */
  get(name: string): Declared;
  all(): readonly Declared[];
  /** As it was declared, with what weft allotted: what `weft get` shows, and what can be applied again. */
  shown(declared: Declared): Resource;

  /** @throws WeftError when it is not possible */
  plan(resource: Resource, draft: Draft): Planned | Promise<Planned>;
  /** @throws WeftError when it must stay, whoever uses it */
  refuseRemoval?(name: string): void;

  put(stored: readonly Stored[]): void | Promise<void>;
  remove(names: readonly string[]): void | Promise<void>;

  /** What was declared before is applied again: what waits is tried. @returns the names of those that were mended */
  retry?(names: readonly string[]): Promise<readonly string[]>;
  /** Why it is not in force; undefined where it is. */
  failure?(name: string): WeftError | undefined;
}
