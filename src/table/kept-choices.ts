/**
 * Kept choices: for each open connection through a service, among whom its backend was chosen, and who was excluded and
 * why, for `weft why`.
 *
 * A selection stays as it is, and all connections that were opened before the next change share it. Those of
 * former generations are kept as long as they have connections, and together they name a limited number of backends.
 * Beyond that, the oldest one is forgotten, and its connections only know their backend.
 */
import type { BackendSelection } from './balancer.ts';
import type { TakenRoute } from './service-routes.ts';
import type { BalancingMethod } from './service.ts';

/** How many backends the selections may name together: about 50 MB, if each has a value of its own. */
export const MOST_BACKENDS_KEPT = 131_072;

export interface KeptChoice {
  readonly selection: BackendSelection;
  /** The number of the backend. */
  readonly pin: number;
  /** How it was chosen: by the method of the service, because the client had it before, or by the weights of a flow hook. */
  readonly by: BalancingMethod | 'affinity' | 'hook';
  /** The route that led there; undefined if the service that the client asked for has none for it. */
  readonly route: TakenRoute | undefined;
}

interface Kept {
  selection: BackendSelection | undefined;
  connections: number;
}

export class KeptChoices {
  readonly #most: number;
  readonly #bySelection = new Map<BackendSelection, Kept>();
  /** By slot of the connection. */
  readonly #choices: (({ readonly kept: Kept } & Omit<KeptChoice, 'selection'>) | undefined)[] = [];
  #backends = 0;

  constructor(most = MOST_BACKENDS_KEPT) {
    this.#most = most;
  }

  set(slot: number, { selection, pin, by, route }: KeptChoice): void {
    let kept = this.#bySelection.get(selection);
    if (!kept) {
      kept = { selection, connections: 0 };
      this.#bySelection.set(selection, kept);
      this.#backends += countOf(selection);
      for (const oldest of this.#bySelection.keys()) {
        if (this.#backends <= this.#most) break;
        this.#forget(oldest);
      }
    }
    kept.connections++;
    this.#choices[slot] = { kept, pin, by, route };
  }

  delete(slot: number): void {
    const choice = this.#choices[slot];
    if (!choice) return;
    this.#choices[slot] = undefined;
    const { kept } = choice;
    if (--kept.connections === 0 && kept.selection) this.#forget(kept.selection);
  }

  /** Undefined if there is none, or not any more. */
  of(slot: number): KeptChoice | undefined {
    const choice = this.#choices[slot];
    const selection = choice?.kept.selection;
    return choice && selection && { selection, pin: choice.pin, by: choice.by, route: choice.route };
  }

  #forget(selection: BackendSelection): void {
    this.#bySelection.get(selection)!.selection = undefined;
    this.#bySelection.delete(selection);
    this.#backends -= countOf(selection);
  }
}

/** How many backends it names. */
export function countOf({ candidates, excluded }: BackendSelection): number {
  return candidates.length + excluded.length;
}
