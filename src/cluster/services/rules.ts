/**
 * Rules about services: which one holds for a service. There is one of a kind for each service. A second one is refused when
 * it is applied; if two hosts apply one each at the same time, the one whose name comes first holds on all hosts, and the
 * other says so.
 */
import { WeftError } from '../../error.ts';
import { idOf, type Resource } from '../../model/resource.ts';
import { Declarations } from '../declarations.ts';
import type { ProposedChange } from '../proposed-change.ts';
import type { Declared, Draft, Planned, Stored } from '../reconciler.ts';

export interface RulesEnvironment {
  /** Called with a service whose rule has changed; it need not exist. */
  readonly onChange: (service: string) => void;
  readonly hasService: (name: string) => boolean;
  /** @throws WeftError if others need a rule @param services those that it is for */
  readonly refuseRemoval?: (name: string, services: readonly string[]) => void;
}

export class Rules<R extends Resource> extends Declarations<R> {
  readonly #kind: string;
  readonly #servicesOf: (resource: R) => readonly string[];
  readonly #environment: RulesEnvironment;
  /** By service: the names of its rules, sorted. */
  readonly #byService = new Map<string, readonly string[]>();
  /** By service: the rule that a change gives it. */
  readonly #planned = new WeakMap<Draft, Map<string, string>>();

  /** @param servicesOf the services that a rule is for, by `idOf` */
  constructor(kind: string, servicesOf: (resource: R) => readonly string[], environment: RulesEnvironment) {
    super(kind);
    this.#kind = kind;
    this.#servicesOf = servicesOf;
    this.#environment = environment;
  }

  /** The one that holds for a service. @param draft or will, with a change */
  of(service: string, draft?: Draft): R | undefined {
    const planned = draft && this.#planned.get(draft)?.get(service);
    if (planned !== undefined) return draft!.find<Declared<R>>(this.#kind, planned)?.resource;
    const [first] = this.#byService.get(service) ?? [];
    if (first === undefined) return undefined;
    const rule = draft ? draft.find<Declared<R>>(this.#kind, first) : this.find(first);
    return rule && this.#servicesOf(rule.resource).includes(service) ? rule.resource : undefined;
  }

  /** The one that would hold for a service if a change that was planned came into force. */
  proposed(service: string, change: ProposedChange): R | undefined {
    const planned = change.planned<Declared<R>>(this.#kind);
    const added = [...planned.values()].filter(({ resource }) => this.#servicesOf(resource).includes(service));
    const kept = (this.#byService.get(service) ?? []).filter((name) => !planned.has(name));
    const [first] = [...kept, ...added.map(({ name }) => name)].sort();
    return first === undefined ? undefined : (planned.get(first) ?? this.find(first))?.resource;
  }

  override plan(resource: R, draft: Draft): Planned {
    const name = idOf(resource.metadata);
    const planned = this.#planned.get(draft) ?? new Map<string, string>();
    this.#planned.set(draft, planned);
    for (const service of this.#servicesOf(resource)) {
      const others = [...(this.#byService.get(service) ?? []), planned.get(service)];
      const other = others.find((one) => one !== undefined && one !== name && this.#isFor(one, service, draft));
      if (other !== undefined) {
        const kind = this.#kind.toLowerCase();
        throw new WeftError(
          'conflict',
          `${kind} "${name}": service "${service}" has ${kind} "${other}" already: change that one, or delete it first`,
        );
      }
      planned.set(service, name);
    }
    return super.plan(resource, draft);
  }

  refuseRemoval(name: string): void {
    const rule = this.find(name);
    if (rule) this.#environment.refuseRemoval?.(name, this.#servicesOf(rule.resource));
  }

  override put(stored: readonly Stored<R>[]): void {
    for (const one of stored) {
      this.#leave(one.name);
      void super.put([one]);
      for (const service of this.#servicesOf(one.resource)) {
        this.#byService.set(service, [...(this.#byService.get(service) ?? []), one.name].sort());
        this.#environment.onChange(service);
      }
    }
  }

  override remove(names: readonly string[]): void {
    for (const name of names) this.#leave(name);
    void super.remove(names);
  }

  /** Why it does not hold for all that it is for. */
  failure(name: string): WeftError | undefined {
    const rule = this.find(name);
    for (const service of rule ? this.#servicesOf(rule.resource) : []) {
      const [first] = this.#byService.get(service) ?? [];
      if (first !== name) {
        return new WeftError(
          'conflict',
          `${this.#kind.toLowerCase()} "${first}" holds for service "${service}" already`,
        );
      }
      if (!this.#environment.hasService(service)) {
        return new WeftError('not_found', `service "${service}" does not exist yet`);
      }
    }
    return undefined;
  }

  /** True if a rule is, or will be with the change, for a service. */
  #isFor(name: string, service: string, draft: Draft): boolean {
    const rule = draft.find<Declared<R>>(this.#kind, name);
    return rule !== undefined && this.#servicesOf(rule.resource).includes(service);
  }

  #leave(name: string): void {
    const rule = this.find(name);
    for (const service of rule ? this.#servicesOf(rule.resource) : []) {
      const others = this.#byService.get(service)!.filter((other) => other !== name);
      if (others.length > 0) this.#byService.set(service, others);
      else this.#byService.delete(service);
      this.#environment.onChange(service);
    }
  }
}
