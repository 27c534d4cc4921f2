/**
 * Those who follow the resources of a kind: each gets what there is, and from then on every change that was put into
 * force, in order, none of them twice and none left out.
 *
 * What the followers of a kind were told is kept once for all of them, for as long as there are any. A list begins with
 * that, not with what there is: so a change that is being put into force right now comes after the list, as a change.
 */
import type { KindDefinition } from '../model/kinds/kind.ts';
import type { Resource, ResourceEvent } from '../model/resource.ts';
import type { Declared, Reconciler } from './reconciler.ts';

export interface FollowOptions {
  /** Which of the kind. */
  readonly wants: (resource: Resource) => boolean;
  /** Must be quick, and must not throw. */
  readonly onEvent: (event: ResourceEvent) => void;
  /** The switch stops: nothing follows any more. */
  readonly onEnd: () => void;
}

export interface Following {
  /** What there was when it began, sorted by name. Made as it is read. */
  readonly listing: Iterable<Resource>;
  readonly stop: () => void;
}

interface Told {
  readonly known: Map<string, Declared>;
  readonly followers: Set<FollowOptions>;
}

export class Followers {
  readonly #reconcilers: ReadonlyMap<string, Reconciler>;
  readonly #told = new Map<string, Told>();

  constructor(reconcilers: ReadonlyMap<string, Reconciler>) {
    this.#reconcilers = reconcilers;
  }

  follow({ kind }: KindDefinition, options: FollowOptions): Following {
    const reconciler = this.#reconcilers.get(kind)!;
    const all = reconciler.all();
    const told = this.#told.get(kind) ?? {
      known: new Map(all.map((declared) => [declared.name, declared])),
      followers: new Set(),
    };
    this.#told.set(kind, told);
    told.followers.add(options);
    return {
      listing: listing(reconciler, inOrder(told.known, all), options),
      stop: () => {
        told.followers.delete(options);
        if (told.followers.size === 0) this.#told.delete(kind);
      },
    };
  }

  /** Ends all of them. */
  close(): void {
    for (const { followers } of [...this.#told.values()]) for (const { onEnd } of [...followers]) onEnd();
  }

  /** Tells what has become of these resources. Called when changes are in force. */
  changed(kind: string, names: Iterable<string>): void {
    const told = this.#told.get(kind);
    if (!told) return;
    const reconciler = this.#reconcilers.get(kind)!;
    for (const name of names) {
      const before = told.known.get(name);
      const after = reconciler.find(name);
      if (before?.revision === after?.revision) continue;
      if (after) told.known.set(name, after);
      else told.known.delete(name);
      const shown = { before: before && reconciler.shown(before), after: after && reconciler.shown(after) };
      for (const follower of told.followers) tell(follower, shown);
    }
  }
}

/** In the order of `all`; what it does not have any more comes last. */
function inOrder(known: ReadonlyMap<string, Declared>, all: readonly Declared[]): Declared[] {
  const ordered = all.flatMap(({ name }) => known.get(name) ?? []);
  if (ordered.length === known.size) return ordered;
  const there = new Set(ordered);
  return [...ordered, ...[...known.values()].filter((declared) => !there.has(declared))];
}

function* listing(
  reconciler: Reconciler,
  all: readonly Declared[],
  { wants }: Pick<FollowOptions, 'wants'>,
): Generator<Resource> {
  for (const declared of all) {
    const resource = reconciler.shown(declared);
    if (wants(resource)) yield resource;
  }
}

/** A resource that is no longer one of those that are wanted is gone for the follower, as in Kubernetes. */
function tell(
  { wants, onEvent }: Pick<FollowOptions, 'wants' | 'onEvent'>,
  { before, after }: { readonly before: Resource | undefined; readonly after: Resource | undefined },
): void {
  const had = before && wants(before);
  const has = after && wants(after);
  if (has) onEvent({ type: had ? 'MODIFIED' : 'ADDED', object: after });
  else if (had) onEvent({ type: 'DELETED', object: after ?? before });
}
