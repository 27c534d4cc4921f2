/** Policies of one kind: declared, and handed on to be put into force. */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../../error.ts';
import type { Policy } from '../../table/policy/policy.ts';
import { Declarations } from '../declarations.ts';
import { SOURCE, withoutPolicySource } from '../../model/policy-source.ts';
import { idOf, type Resource } from '../../model/resource.ts';
import type { Draft, Planned, Stored, Unread } from '../reconciler.ts';
import type { SelectingPolicy } from './policy-value.ts';

export interface DeclaredPoliciesEnvironment<R> {
  readonly value: (resource: R) => SelectingPolicy;
  /** Of a record that cannot be read as a resource, or put into force as it is. */
  readonly closedValue: (name: string, resource: unknown) => SelectingPolicy;
  readonly onChange: (name: string, after: SelectingPolicy | undefined) => void;
  readonly onComplete: () => void;
}

export class DeclaredPolicies<R extends Resource = Resource> extends Declarations<R> {
  readonly #environment: DeclaredPoliciesEnvironment<R>;

  constructor(kind: Policy['name']['kind'], environment: DeclaredPoliciesEnvironment<R>) {
    super(kind);
    this.#environment = environment;
  }

  /** A policy that a defect keeps out of force must not be missing: it is refused, so it is closed, and everybody is told. */
  check({ resource }: Stored<R>): void {
    try {
      this.#environment.value(resource);
    } catch (error) {
      const why = `weft has a defect, so what it says cannot be put into force, and is closed: ${(error as Error).message}`;
      throw new WeftError('internal', why, { cause: error });
    }
  }

  /** Where it was written says nothing about what it does: if only that differs, it is stored, and unchanged. */
  override plan(resource: R, draft: Draft): Planned {
    const known = this.find(idOf(resource.metadata))?.resource;
    const isSame = known && isDeepStrictEqual(withoutPolicySource(known), withoutPolicySource(resource));
    if (!isSame || draft.isRefused(resource.kind, idOf(resource.metadata))) return super.plan(resource, draft);
    const isPlaced = resource.metadata.annotations?.[SOURCE] !== undefined;
    return { ...super.plan(isPlaced ? resource : known, draft), action: 'unchanged' };
  }

  /** What is known of them holds, and is closed otherwise. What was declared under their names does not hold any more. */
  refused(records: readonly Unread[]): void | Promise<void> {
    const done = super.remove(records.map(({ name }) => name));
    for (const { name, resource } of records) this.#environment.onChange(name, this.#closed(name, resource));
    return done;
  }

  override put(stored: readonly Stored<R>[]): void | Promise<void> {
    const done = super.put(stored);
    const { onChange, value } = this.#environment;
    for (const { name, resource } of stored) onChange(name, value(resource));
    return done;
  }

  override remove(names: readonly string[]): void | Promise<void> {
    const done = super.remove(names);
    for (const name of names) this.#environment.onChange(name, undefined);
    return done;
  }

  complete(): void {
    this.#environment.onComplete();
  }

  #closed(name: string, resource: unknown): SelectingPolicy {
    const { closedValue } = this.#environment;
    try {
      return closedValue(name, resource);
    } catch {
      // As if nothing of it could be read.
      return closedValue(name, undefined);
    }
  }
}
