/** Kinds with nothing to put into force on a host: they are only declared, and others refer to them. */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../error.ts';
import { kindOf } from '../model/kinds/registry.ts';
import { NAMESPACE_NAME, readNamespaceMetadata, type NamespaceResource } from '../model/kinds/namespace.ts';
import { compareNames } from '../model/name-order.ts';
import { DEFAULT_NAMESPACE, idOf, type Resource } from '../model/resource.ts';
import type { Declared, Draft, Planned, Reconciler, Stored, Unread } from './reconciler.ts';

export class Declarations<R extends Resource = Resource> implements Reconciler {
  readonly #kind: string;
  /** What to do about one that does not exist, for whoever wants to read it, change it, or refer to it. */
  readonly #mend: string;
  readonly #declared = new Map<string, Declared<R>>();
  /** Sorted by name; made when it is asked for. */
  #sorted: readonly Declared<R>[] | undefined;

  /** @param orElse for a kind that others refer to: how to declare one */
  constructor(kind: string, orElse?: string) {
    const { plural, isNamespaced } = kindOf({ kind });
    this.#kind = kind;
    this.#mend = `\`weft get ${plural}${isNamespaced ? ' -A' : ''}\` shows those that do`;
    if (orElse !== undefined) this.#mend += `, and ${orElse}`;
  }

  find(name: string): Declared<R> | undefined {
    return this.#declared.get(name);
  }

  get(name: string): Declared<R> {
    const found = this.find(name);
    if (found) return found;
    throw new WeftError('not_found', `${this.#kind.toLowerCase()} "${name}" does not exist: ${this.#mend}`);
  }

  all(): readonly Declared<R>[] {
    return (this.#sorted ??= [...this.#declared.values()].sort((a, b) => compareNames(a.name, b.name)));
  }

  shown({ resource }: Declared): Resource {
    return resource;
  }

  plan(resource: R, draft: Draft): Planned {
    const name = idOf(resource.metadata);
    const known = this.find(name);
    const isSame = known && isDeepStrictEqual(known.resource, resource);
    if (isSame && !draft.isRefused(this.#kind, name)) return { action: 'unchanged' };
    const declared = { name, resource, revision: 0 };
    return { action: known ? 'configured' : 'created', declared };
  }

  put(stored: readonly Stored<R>[]): void | Promise<void> {
    this.#sorted = undefined;
    for (const { name, resource, revision } of stored) this.#declared.set(name, { name, resource, revision });
  }

  remove(names: readonly string[]): void | Promise<void> {
    this.#sorted = undefined;
    for (const name of names) this.#declared.delete(name);
  }
}

/** It is always there, also if somebody has deleted its record. */
const DEFAULT: Declared<NamespaceResource> = {
  name: DEFAULT_NAMESPACE,
  resource: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: DEFAULT_NAMESPACE, labels: {} }, spec: {} },
  revision: 0,
};

export class Namespaces extends Declarations<NamespaceResource> {
  readonly #onChange: (name: string) => void;
  /** Of records that this version does not accept: what can be read of them. */
  readonly #unread = new Map<string, NamespaceResource['metadata']>();

  /** @param onChange called with the name of each that changes, before `settle` */
  constructor(onChange: (name: string) => void = () => {}) {
    super('Namespace', 'a Namespace with this name can be applied');
    this.#onChange = onChange;
  }

  override find(name: string): Declared<NamespaceResource> | undefined {
    return super.find(name) ?? (name === DEFAULT_NAMESPACE ? DEFAULT : undefined);
  }

  override all(): readonly Declared<NamespaceResource>[] {
    const all = super.all();
    if (super.find(DEFAULT_NAMESPACE)) return all;
    return [...all, DEFAULT].sort((a, b) => compareNames(a.name, b.name));
  }

  refuseRemoval(name: string): void {
    if (name === DEFAULT_NAMESPACE) throw new WeftError('conflict', `namespace "${name}" is always there`);
  }

  /** What it declares of itself, also if this version does not accept the rest of it. */
  metadataOf(name: string): NamespaceResource['metadata'] | undefined {
    return this.#unread.get(name) ?? this.find(name)?.resource.metadata;
  }

  /** With the label that each has by itself. */
  override shown({ name, resource }: Declared): Resource {
    const { metadata } = resource;
    return { ...resource, metadata: { ...metadata, labels: { ...metadata.labels, [NAMESPACE_NAME]: name } } };
  }

  override plan(resource: NamespaceResource, draft: Draft): Planned {
    const { [NAMESPACE_NAME]: _, ...labels } = resource.metadata.labels;
    return super.plan({ ...resource, metadata: { ...resource.metadata, labels } }, draft);
  }

  refused(records: readonly Unread[]): void {
    for (const { name, resource } of records) {
      const metadata = readNamespaceMetadata(name, resource);
      if (metadata) this.#unread.set(name, metadata);
      this.#onChange(name);
    }
  }

  override put(stored: readonly Stored<NamespaceResource>[]): void | Promise<void> {
    const done = super.put(stored);
    for (const { name } of stored) this.#changed(name);
    return done;
  }

  override remove(names: readonly string[]): void | Promise<void> {
    const done = super.remove(names);
    for (const name of names) this.#changed(name);
    return done;
  }

  #changed(name: string): void {
    this.#unread.delete(name);
    this.#onChange(name);
  }
}
