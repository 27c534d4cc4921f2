/**
 * A planned change of any number of resources: what will be declared, on top of what is declared
 * now. The resources of one file see each other. Nothing has happened until the draft's transaction
 * is stored.
 */
import { endpointKind } from '../model/kinds/endpoint.ts';
import { WeftError } from '../error.ts';
import { referredId, type KindDefinition, type Reference } from '../model/kinds/kind.ts';
import { kindOf, kinds } from '../model/kinds/registry.ts';
import { DEFAULT_NAMESPACE, idOf, type Resource } from '../model/resource.ts';
import { joined, type Store, type Transaction } from '../store/store.ts';
import { Deletions } from './deletions.ts';
import { keyOf } from './keys.ts';
import type { ProposedChange } from './proposed-change.ts';
import type { Declared, Draft, Keeping, Planned, Reconciler } from './reconciler.ts';
import { RefusedRecords } from './refused-records.ts';

/** What only this host keeps of a planned change. */
export interface OwnChange {
  /** What is to be stored with the change. */
  readonly transaction: Transaction;
  /** Call it as soon as that is done, with its revision. */
  readonly stored: (revision: number) => void;
  /** Puts back what was there before. For when it is not done. */
  readonly takeBack: () => Promise<void>;
}

export class FileDraft implements Draft, ProposedChange {
  readonly #reconcilers: ReadonlyMap<string, Reconciler>;
  readonly #refused: RefusedRecords;
  readonly #moves: readonly string[];
  readonly #isHeld: (kind: KindDefinition, name: string) => boolean;
  readonly #deletions: Deletions;
  readonly #declared = new Map<string, Map<string, Declared>>();
  readonly #expect = new Map<string, number>();
  readonly #put = new Map<string, { readonly key: string; readonly value: unknown }>();
  readonly #deleted = new Set<string>();
  /** By kind and name. */
  readonly #own = new Map<string, Map<string, object>>();
  /** What it changes, as that is now, by key. */
  readonly #changed = new Map<string, Resource>();
  readonly #undo: (() => void)[] = [];
  readonly #onStored: ((revision: number) => void)[] = [];

  /** @param moves the endpoints that may be taken over from other hosts @param isHeld as for `isRefused` */
  constructor(
    reconcilers: ReadonlyMap<string, Reconciler>,
    refused = new RefusedRecords(),
    moves: readonly string[] = [],
    isHeld: (kind: KindDefinition, name: string) => boolean = () => false,
    deletions = new Deletions(),
  ) {
    this.#reconcilers = reconcilers;
    this.#refused = refused;
    this.#moves = moves;
    this.#isHeld = isHeld;
    this.#deletions = deletions;
  }

  get isEmpty(): boolean {
    return this.#put.size === 0;
  }

  find<D extends Declared>(kind: string, name: string): D | undefined {
    return (this.#declared.get(kind)?.get(name) ?? this.#reconcilers.get(kind)?.find(name)) as D | undefined;
  }

  planned<D extends Declared>(kind: string): ReadonlyMap<string, D> {
    return (this.#declared.get(kind) ?? new Map()) as ReadonlyMap<string, D>;
  }

  isRemoved(): boolean {
    return false;
  }

  names(kind: string): readonly string[] {
    return [...this.planned(kind).keys()];
  }

  count(kind: string): number {
    const known = this.#reconcilers.get(kind);
    const planned = [...this.planned(kind).keys()].filter((name) => !known?.find(name));
    return (known?.all().length ?? 0) + planned.length;
  }

  /**
   * Plans one resource.
   * @throws WeftError about the resource if it is not possible, or refers to something that is not declared
   */
  async apply(resource: Resource): Promise<Planned['action']> {
    try {
      return await this.#plan(resource);
    } catch (error) {
      const { name, namespace } = resource.metadata;
      if (error instanceof WeftError) error.resource = { kind: resource.kind, name, namespace };
      throw error;
    }
  }

  async #plan(resource: Resource): Promise<Planned['action']> {
    const kind = kindOf(resource);
    const name = idOf(resource.metadata);
    if (this.planned(kind.kind).has(name)) {
      throw new WeftError('invalid', `${kind.kind.toLowerCase()} "${name}" is declared twice`);
    }
    this.#refer(resource, kind);
    const known = this.#reconcilers.get(kind.kind)!;
    const { action, declared, allotted, also = [], released = [], own } = await known.plan(resource, this);
    if (declared) {
      const key = keyOf(kind, name);
      this.#declare(kind.kind, declared);
      const before = known.find(name);
      if (before) this.#changed.set(key, before.resource);
      this.#expect.set(key, this.#refused.revision(kind, name) ?? before?.revision ?? 0);
      this.#put.set(key, { key, value: { resource: declared.resource, ...allotted } });
    }
    if (own) {
      const others = this.#own.get(kind.kind) ?? new Map<string, object>();
      this.#own.set(kind.kind, others.set(name, own));
    }
    for (const { key, value, revision } of also) {
      this.#expect.set(key, revision);
      this.#put.set(key, { key, value });
    }
    for (const { key, revision } of released) {
      this.#expect.set(key, revision);
      this.#deleted.add(key);
    }
    return action;
  }

  /** The host that has an endpoint, as a record says that this host does not accept. */
  ownerOf(endpoint: string): string | undefined {
    return this.#refused.ownerOf(endpointKind, endpoint);
  }

  mayMove(name: string): boolean {
    return this.#moves.includes(name);
  }

  isRefused(kind: string, name: string): boolean {
    const of = kindOf({ kind });
    const isDeleted = this.#deletions.by(keyOf(of, name)) !== undefined;
    return isDeleted || this.#refused.revision(of, name) !== undefined || this.#isHeld(of, name);
  }

  onUndo(undo: () => void): void {
    this.#undo.push(undo);
  }

  onStored(stored: (revision: number) => void): void {
    this.#onStored.push(stored);
  }

  /** The resources that it changes, as they were when it was planned, by key. */
  changed(): ReadonlyMap<string, Resource> {
    return this.#changed;
  }

  undo(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  /**
   * What only this host keeps of the resources. In one store, it is stored with them; else before them: without it, nobody
   * knows whose interface it is after a crash or a lost answer.
   * @param store that of the resources
   */
  async keep(store: Store): Promise<OwnChange> {
    const changes = [...this.#own].map(([kind, own]) => {
      const reconciler = this.#reconcilers.get(kind)!;
      return { reconciler, before: reconciler.kept!(own.keys()), keeping: reconciler.keeping!(own) };
    });
    const [together, apart] = [true, false].map((isOne) =>
      changes.filter(({ keeping }) => (keeping.store === store) === isOne),
    );
    for (const { keeping } of apart!) await keepNow(keeping);
    return {
      transaction: joined(...together!.map(({ keeping }) => keeping.transaction)),
      stored: (revision) => {
        for (const { keeping } of together!) keeping.stored(revision);
      },
      takeBack: async () => {
        for (const { reconciler, before } of apart!) await keepNow(reconciler.keeping!(before));
      },
    };
  }

  /** From here on the store has it: nothing is undone any more, whatever else fails. */
  stored(revision: number): void {
    this.#undo.length = 0;
    for (const tell of this.#onStored) tell(revision);
  }

  transaction(): Transaction {
    return {
      expect: [...this.#expect].map(([key, revision]) => ({ key, revision })),
      put: [...this.#put.values()],
      delete: [...this.#deleted],
    };
  }

  #declare(kind: string, declared: Declared): void {
    const others = this.#declared.get(kind);
    if (others) others.set(declared.name, declared);
    else this.#declared.set(kind, new Map([[declared.name, declared]]));
  }

  /** Makes sure that everything it refers to is declared, and still is when this is stored. */
  #refer(resource: Resource, kind: KindDefinition): void {
    const { namespace = DEFAULT_NAMESPACE } = resource.metadata;
    const references: Reference[] = kind.isNamespaced ? [{ kind: 'Namespace', name: namespace }] : [];
    for (const reference of [...references, ...kind.references(resource)]) {
      const { kind: of } = reference;
      const definition = kinds.find((one) => one.kind === of)!;
      const name = referredId(reference, definition.isNamespaced, namespace);
      if (this.planned(of).has(name)) continue;
      this.#deletions.refuse(definition, name);
      const { key, revision } = this.#refused.expectation(definition, this.#reconcilers.get(of)!.get(name));
      this.#expect.set(key, revision);
    }
  }
}

/** What the store gets of a resource that is declared here and that it has lost. @param draft which is undone */
export async function recordAnew(draft: FileDraft, resource: Resource): Promise<unknown> {
  const key = keyOf(kindOf(resource), idOf(resource.metadata));
  try {
    await draft.apply(resource);
    return draft.transaction().put!.find((one) => one.key === key)?.value;
  } finally {
    draft.undo();
  }
}

async function keepNow({ store, transaction, stored }: Keeping): Promise<void> {
  stored(await store.transact(transaction));
}
