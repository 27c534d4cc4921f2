/** What was made for clients of services, within a limit of memory: who was used the longest ago is forgotten. */
import { BALANCED_BACKEND_BYTES } from '../flow/balancing.ts';
import type { Scope } from './balancer.ts';
import { Recent } from './recent.ts';

/** All Maglev tables together, and everything else of their scopes. */
export const SCOPES_BYTES = 64 * 1024 * 1024;
/** About what a scope takes, and each backend that it names, and a table besides its slots. */
const SCOPE_BYTES = 400;
const BACKEND_BYTES = 100;
const TABLE_BYTES = 300;

export class Scopes<S extends Scope> {
  readonly #limitBytes: number;
  readonly #onGone: (scope: S) => void;
  readonly #scopes = new Recent<{ readonly scope: S; readonly lengthBytes: number }>();
  #lengthBytes = 0;

  /** @param onGone called with one that was forgotten, or that another one has taken the place of */
  constructor(limitBytes: number = SCOPES_BYTES, onGone: (scope: S) => void = () => {}) {
    this.#limitBytes = limitBytes;
    this.#onGone = onGone;
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

  /** Notes that it was used, and how large it is now. It may be the only one if it is larger than the limit. */
  use(id: string, scope: S): void {
    const lengthBytes = sizeOf(scope);
    const before = this.#scopes.use(id, { scope, lengthBytes });
    this.#lengthBytes += lengthBytes - (before?.lengthBytes ?? 0);
    if (before && before.scope !== scope) this.#onGone(before.scope);
    while (this.#lengthBytes > this.#limitBytes && this.#scopes.size > 1) {
      const oldest = this.#scopes.takeOldest()!;
      this.#lengthBytes -= oldest.lengthBytes;
      this.#onGone(oldest.scope);
    }
  }
}

function sizeOf({ selection, table, balancing }: Scope): number {
  const backends = selection.candidates.length + selection.excluded.length;
  const tableBytes = table ? TABLE_BYTES + table.lengthBytes : 0;
  // The datapath has a copy.
  const copyBytes = balancing === undefined ? 0 : tableBytes + BALANCED_BACKEND_BYTES * selection.candidates.length;
  return SCOPE_BYTES + BACKEND_BYTES * backends + tableBytes + copyBytes;
}
