/** Kinds with nothing to put into force on a host: they are only declared, and others refer to them. */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../error.ts';
import { compareNames } from '../model/name-order.ts';
import { DEFAULT_NAMESPACE, idOf, type Resource } from '../model/resource.ts';
import type { Declared, Draft, Planned, Reconciler, Stored } from './reconciler.ts';

export class Declarations<R extends Resource = Resource> implements Reconciler {
  readonly #kind: string;
  /** Tells the user how to declare one. */
  readonly #mend: string;
  readonly #declared = new Map<string, Declared<R>>();
  /** Sorted by name; made when it is asked for. */
  #sorted: readonly Declared<R>[] | undefined;

  constructor(kind: string, mend: string) {
    this.#kind = kind;
    this.#mend = mend;
  }

  find(name: string): Declared<R> | undefined {
    return this.#declared.get(name);
  }

  get(name: string): Declared<R> {
    const found = this.#declared.get(name);
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

export class Namespaces extends Declarations {
  constructor() {
    super('Namespace', 'apply a Namespace that has this name');
  }

  refuseRemoval(name: string): void {
    if (name === DEFAULT_NAMESPACE) throw new WeftError('conflict', `namespace "${name}" is always there`);
  }
}
