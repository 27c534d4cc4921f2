/** What was made for clients of services, within a limit of memory: who was used the longest ago is forgotten. */
import type { Scope } from './balancer.ts';

/** All Maglev tables together, and everything else of their scopes. */
export const SCOPES_BYTES = 64 * 1024 * 1024;
/** About what a scope takes without its table, and each backend that it names. */
const SCOPE_BYTES = 600;
const BACKEND_BYTES = 100;

export class Scopes<S extends Scope> {
  readonly #limitBytes: number;
  /** Who was used last comes last. */
  readonly #scopes = new Map<string, { readonly scope: S; lengthBytes: number }>();
  #lengthBytes = 0;

  constructor(limitBytes: number = SCOPES_BYTES) {
    this.#limitBytes = limitBytes;
  }

  get size(): number {
    return this.#scopes.size;
  }

  /** About how much memory all of them take. */
  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  get(id: string): S | undefined {
    return this.#scopes.get(id)?.scope;
  }

  /** Notes that it was used, and how large it is now. */
  use(id: string, scope: S): void {
    const before = this.#scopes.get(id);
    if (before) {
      this.#scopes.delete(id);
      this.#lengthBytes -= before.lengthBytes;
    }
    const lengthBytes = sizeOf(scope);
    this.#scopes.set(id, { scope, lengthBytes });
    this.#lengthBytes += lengthBytes;
    for (const [other, { lengthBytes }] of this.#scopes) {
      if (this.#lengthBytes <= this.#limitBytes || other === id) break;
      this.#scopes.delete(other);
      this.#lengthBytes -= lengthBytes;
    }
  }
}

function sizeOf({ selection, table }: Scope): number {
  const backends = selection.candidates.length + selection.excluded.length;
  return SCOPE_BYTES + BACKEND_BYTES * backends + (table?.lengthBytes ?? 0);
}
