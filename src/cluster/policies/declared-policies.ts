/** Policies of one kind: declared, and handed on to be put into force. */
import type { Policy } from '../../table/policy/policy.ts';
import { Declarations } from '../declarations.ts';
import type { Resource } from '../../model/resource.ts';
import type { Stored, Unread } from '../reconciler.ts';
import type { SelectingPolicy } from './policy-value.ts';

export interface DeclaredPoliciesEnvironment<R> {
  readonly value: (resource: R) => SelectingPolicy;
  /** Of a record that cannot be read as a resource. */
  readonly closedValue: (name: string, resource: unknown) => SelectingPolicy;
  readonly onChange: (name: string, after: SelectingPolicy | undefined) => void;
  readonly settle: () => void;
}

export class DeclaredPolicies<R extends Resource> extends Declarations<R> {
  readonly #environment: DeclaredPoliciesEnvironment<R>;

  constructor(kind: Policy['name']['kind'], environment: DeclaredPoliciesEnvironment<R>) {
    super(kind, 'apply one');
    this.#environment = environment;
  }

  /** What is known of them holds, and is closed otherwise. What was declared under their names does not hold any more. */
  refused(records: readonly Unread[]): void | Promise<void> {
    const done = super.remove(records.map(({ name }) => name));
    const { onChange, closedValue } = this.#environment;
    for (const { name, resource } of records) onChange(name, closedValue(name, resource));
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

  settle(): void {
    this.#environment.settle();
  }
}
