/**
 * Declared hooks: their text is checked before it is stored, and handed on to be put into force. They come before the endpoints of
 * the same change, so that no port opens without them.
 */
import { WeftError } from '../error.ts';
import type { HookResource } from '../model/kinds/hook.ts';
import type { Resource } from '../model/resource.ts';
import { Declarations } from './declarations.ts';
import type { Declared, Draft, Planned, Reconciler, Stored, Unread } from './reconciler.ts';

/** A hook that is declared, as the keeper of hooks takes it. */
interface DeclaredHook {
  readonly name: string;
  readonly file: string;
  readonly source: string | undefined;
  readonly why?: string;
  readonly onError: 'deny' | 'allow';
}

export interface DeclaredHooksEnvironment {
  readonly keeper: {
    /** @throws WeftError that says why it cannot be loaded */
    check(wanted: DeclaredHook): Promise<void>;
    /** All at one moment, by their ids. */
    set(all: readonly (readonly [string, DeclaredHook])[]): Promise<void>;
    remove(id: string): Promise<void>;
    failure(id: string): string | undefined;
    isLoaded(id: string): boolean;
  };
}

/** Each has a process of its own. */
const MOST_HOOKS = 16;

export class DeclaredHooks implements Reconciler {
  readonly #environment: DeclaredHooksEnvironment;
  readonly #declared = new Declarations<HookResource>('Hook');

  constructor(environment: DeclaredHooksEnvironment) {
    this.#environment = environment;
  }

  find(name: string): Declared<HookResource> | undefined {
    return this.#declared.find(name);
  }

  get(name: string): Declared<HookResource> {
    return this.#declared.get(name);
  }

  all(): readonly Declared<HookResource>[] {
    return this.#declared.all();
  }

  shown(declared: Declared): Resource {
    return this.#declared.shown(declared);
  }

  async plan(resource: HookResource, draft: Draft): Promise<Planned> {
    const { name } = resource.metadata;
    const planned = this.#declared.plan(resource, draft);
    if (planned.action === 'unchanged') return planned;
    if (!this.find(name) && draft.count('Hook') >= MOST_HOOKS)
      throw new WeftError('exhausted', `hook "${name}": there are ${MOST_HOOKS} hooks already, and can be no more`);
    try {
      await this.#environment.keeper.check(wantedOf(resource));
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      throw new WeftError(error.code, `hook "${name}": ${error.message}`, { cause: error });
    }
    return planned;
  }

  async put(stored: readonly Stored<HookResource>[]): Promise<void> {
    await this.#declared.put(stored);
    await this.#environment.keeper.set(stored.map(({ name, resource }) => [name, wantedOf(resource)]));
  }

  /** What was in force under such a name stays so. If there was nothing, nobody knows what it would deny. */
  async refused(records: readonly Unread[]): Promise<void> {
    const { keeper } = this.#environment;
    const why = 'its record cannot be read';
    const unread = records.filter(({ name }) => !keeper.isLoaded(name));
    await keeper.set(
      unread.map(({ name }) => [name, { name, file: fileOf(name), source: undefined, why, onError: 'deny' }]),
    );
  }

  async remove(names: readonly string[]): Promise<void> {
    await this.#declared.remove(names);
    for (const name of names) await this.#environment.keeper.remove(name);
  }

  failure(name: string): WeftError | undefined {
    const why = this.#environment.keeper.failure(name);
    return why === undefined ? undefined : new WeftError('invalid', `hook "${name}": ${why}`);
  }
}

function wantedOf(resource: HookResource): DeclaredHook {
  const { metadata, spec } = resource;
  return { name: metadata.name, onError: spec.onError, ...textOf(resource) };
}

/** What is loaded of it. */
export function textOf({ metadata: { name }, spec: { source } }: HookResource): { source: string; file: string } {
  return { source, file: fileOf(name) };
}

/** How places in its text are told. */
function fileOf(name: string): string {
  return `${name}.ts`;
}
