/**
 * What a kind of resource does on this host.
 *
 *   plan         what applying a resource would store: checks, and what weft allots
 *   put, remove  puts what the store now says into force: called for whatever the watch reports,
 *                be it from this host, from another writer, or everything at a start
 *
 * Planning changes nothing, and putting into force refuses nothing: what cannot be put into force
 * now is reported as waiting, and the reconciler itself tries it again. All reconcilers of a host are
 * called one after the other.
 */
import type { WeftError } from '../error.ts';
import type { ApplyReport } from '../model/report.ts';
import type { Resource } from '../model/resource.ts';
import type { Expectation, Put, Store, Transaction } from '../store/store.ts';
import type { Keys } from './register.ts';

/** What is said of a resource that the shared store does not have yet. */
export const PENDING = 'the store does not have it yet: other hosts do not know of it';
export const PENDING_REMOVAL = 'the store has it still: other hosts do not know that it is deleted';

/** A declared resource. */
export interface Declared<R extends Resource = Resource> {
  /** Unique within its kind (`idOf`). */
  readonly name: string;
  readonly resource: R;
  /**
   * The revision of its record in the store. Negative if this host has stored it by itself while the shared store was away;
   * 0 if it is not stored yet.
   */
  readonly revision: number;
}

/** What the store has of a resource: the resource, and what weft allotted to it. */
export interface Stored<R extends Resource = Resource> extends Declared<R> {
  /** The whole record. `resource` is a part of it, as today's schema reads it. */
  readonly record: object;
}

/** A record that this host does not accept. */
export interface Unread {
  readonly name: string;
  /** Whatever it has as its resource. */
  readonly resource: unknown;
}

/** A planned change of any number of resources: what will be declared, on top of what is declared now (`draft.ts`). */
export interface Draft {
  find<D extends Declared>(kind: string, name: string): D | undefined;
  /** What the draft itself declares or changes. */
  planned<D extends Declared>(kind: string): ReadonlyMap<string, D>;
  /** How many there will be. */
  count(kind: string): number;
  /** True if an endpoint may be taken over from another host that has it. */
  mayMove(name: string): boolean;
  /** The host that has an endpoint, as a record says that this host does not accept; undefined if there is none. */
  ownerOf(endpoint: string): string | undefined;
  /** True if the store has something else under that name than what is in force, and that must be replaced. */
  isRefused(kind: string, name: string): boolean;
  /** `undo` is called if the change is given up, and after a dry run. */
  onUndo(undo: () => void): void;
  /** `stored` is called with the revision of the change, before what it wrote is put into force. */
  onStored(stored: (revision: number) => void): void;
}

export interface Planned {
  readonly action: Exclude<ApplyReport['action'], 'deleted'>;
  /** The resource as it will be; missing if it is unchanged. */
  readonly declared?: Declared;
  /** What is stored with the resource, under its key. */
  readonly allotted?: object;
  /**
   * Further entries to store with it, and the revisions that they have now. If several resources of one change write the
   * same key, the last of them counts.
   */
  readonly also?: readonly (Put & { readonly revision: number })[];
  /** Entries to delete with it, and the revisions that they have now. */
  readonly released?: readonly Expectation[];
  /** What only this host keeps of it; see `Reconciler.keeping`. */
  readonly own?: object;
}

/** What stores that only this host keeps of some resources. */
export interface Keeping {
  readonly store: Store;
  readonly transaction: Transaction;
  /** Call it as soon as the store has it, with its revision. */
  readonly stored: (revision: number) => void;
}

export interface Reconciler {
  find(name: string): Declared | undefined;
  /** @throws WeftError('not_found') that says what to do about it */
  get(name: string): Declared;
  all(): readonly Declared[];
  /** The resource as declared, with what weft allotted: what `weft get` shows, and what can be applied again. */
  shown(declared: Declared): Resource;
  /** Resources that nobody has declared: each host makes them of others. @param name all of them if it is not given */
  derived?(name?: string): Iterable<Resource>;

  /** @throws WeftError if it is not possible */
  plan(resource: Resource, draft: Draft): Planned | Promise<Planned>;
  /** @throws WeftError if it must not be removed, whether or not anything uses it */
  refuseRemoval?(name: string): void;
  /** What else a transaction that removes it expects, writes and deletes. */
  planRemoval?(name: string): Transaction;
  /** What an operator would not expect to go with it, in words: what others have declared. */
  goesWith?(name: string): string[];

  /** Called once, before anything is put into force: reads what this host has kept. */
  load?(): Promise<void>;
  /** What this host keeps of some resources alone (`Planned.own`). */
  kept?(names: Iterable<string>): ReadonlyMap<string, object | undefined>;
  /** How to keep something else of them. Undefined removes it. */
  keeping?(own: ReadonlyMap<string, object | undefined>): Keeping;

  /**
   * Called before `put`.
   * @param others those that are put together with it: one array, in which each is that is not refused
   * @throws WeftError if this host cannot have the record, which another program has written: `conflict` if it could,
   *   were it not for others of its kind, and anything else if it never can
   */
  check?(stored: Stored, others: readonly Stored[]): void;
  /**
   * Called before `put` with records that this host does not accept, for kinds of which nothing else may stay in force under
   * their names in the meantime, or of which this host keeps something although none is in force.
   */
  refused?(records: readonly Unread[]): void | Promise<void>;
  put(stored: readonly Stored[]): void | Promise<void>;
  /**
   * Called at a start, and after a watch has lost its place, when everything that the store had at that revision is in force,
   * and everything else removed.
   */
  listed?(keys: Keys, revision: number): void | Promise<void>;
  remove(names: readonly string[]): void | Promise<void>;
  /** Called in each change when this kind, and those before it, are put: before anything of the kinds behind it is. */
  complete?(): void;
  /** Called when all kinds of a change are in force: does what takes several of them. */
  settle?(): void | Promise<void>;

  /**
   * Called when something declared before is applied again: tries what waits. @returns the names of those it repaired
   */
  retry?(names: readonly string[]): Promise<readonly string[]>;
  /** Why it is not in force; undefined if it is. */
  failure?(name: string): WeftError | undefined;
}
