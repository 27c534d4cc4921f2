/**
 * Deleting what other resources may refer to, in a store that several hosts share.
 *
 *   1. the record is marked: whoever plans to refer to it is refused from then on, and a plan from before the mark fails,
 *      since it expects the record as it was
 *   2. when the watch has reported the mark, everything that refers to the resource is in force here. If there is something, or
 *      if the watch is late, the mark is taken off, and the deletion refused
 *   3. the record is deleted, if it still is as it was marked
 *
 * So of a host that deletes a network and one that attaches an endpoint to it, one is refused. A host that ends in between
 * takes its marks off when it starts again, and one that loses the store in between when that is back. Applying the resource
 * takes the mark off, too, whoever made it: then the resource stays.
 */
import { WeftError } from '../error.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import type { Change } from '../store/store.ts';
import { keyOf } from './keys.ts';

/** The field of a marked record that names the host. */
const FIELD = 'deletedBy';

export class Deletions {
  /** The hosts that delete something, by key. */
  readonly #marks = new Map<string, string>();

  see({ key, entry }: Change): void {
    const host = (Object(entry?.value) as { readonly [FIELD]?: unknown })[FIELD];
    if (typeof host === 'string') this.#marks.set(key, host);
    else this.#marks.delete(key);
  }

  /** The host that is deleting it. */
  by(key: string): string | undefined {
    return this.#marks.get(key);
  }

  /** The keys of what a host is deleting. */
  of(host: string): string[] {
    return [...this.#marks].flatMap(([key, by]) => (by === host ? [key] : []));
  }

  /** @throws WeftError('conflict') if it was marked, and is not any more: somebody has applied it again */
  refuseKept(kind: KindDefinition, name: string): void {
    if (this.by(keyOf(kind, name)) !== undefined) return;
    const which = `${kind.kind.toLowerCase()} "${name}"`;
    throw new WeftError('conflict', `${which} was applied again while it was being deleted: it stays`);
  }

  /** @throws WeftError('conflict') if it is being deleted */
  refuse(kind: KindDefinition, name: string): void {
    const host = this.by(keyOf(kind, name));
    if (host === undefined) return;
    const which = `${kind.kind.toLowerCase()} "${name}"`;
    throw new WeftError('conflict', `${which} is being deleted by host "${host}": apply it again to keep it`);
  }
}

/** What others have done before the mark is not known here yet, and may refer to the resource. */
export function unreadError(kind: KindDefinition, name: string): WeftError {
  const which = `${kind.kind.toLowerCase()} "${name}"`;
  const why = 'what other hosts have changed is still being read';
  return new WeftError('unreachable', `${which} cannot be deleted now: ${why}: try again`);
}

/** The record with the mark of a host. */
export function marked(value: unknown, host: string): object {
  return { ...(value as object), [FIELD]: host };
}

export function unmarked(value: unknown): object {
  const { [FIELD]: _, ...record } = value as { readonly [FIELD]?: string };
  return record;
}
