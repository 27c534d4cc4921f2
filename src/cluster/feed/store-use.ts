/**
 * Why this host must not use the shared store, although it answers:
 *
 *   refused   it is that of another cluster, or of a newer version of weft
 *   unread    nobody knows yet whose it is: this daemon has not judged yet what it says, or it has another history than what was
 *             judged, as an address may lead to another one than before
 *   barred    this host may be another one's copy: nothing is written
 */
import { WeftError } from '../../error.ts';
import type { Store } from '../../store/store.ts';
import type { SharedState } from './shared-state.ts';

export interface StoreUseEnvironment {
  readonly store: Store;
  readonly state: () => Pick<SharedState, 'isCompared' | 'mark'>;
  readonly whyBarred: () => string | undefined;
}

export class StoreUse {
  readonly #environment: StoreUseEnvironment;
  refusal: WeftError | undefined;

  constructor(environment: StoreUseEnvironment) {
    this.#environment = environment;
  }

  /** Undefined if it may be used. */
  get whyNot(): WeftError | undefined {
    return this.refusal ?? (this.isUnread ? new WeftError('unreachable', 'the store is being read') : undefined);
  }

  /** Undefined if it may be written, too. */
  get whyNotWritten(): WeftError | undefined {
    const barred = this.#environment.whyBarred();
    return this.whyNot ?? (barred === undefined ? undefined : new WeftError('state', barred));
  }

  /** It answers, and what it says is not judged yet. */
  get isUnread(): boolean {
    if (this.refusal) return false;
    const { store, state } = this.#environment;
    const { isCompared, mark } = state();
    const { isReachable, history = mark?.history } = store.health();
    return isReachable && (!isCompared || history !== mark?.history);
  }
}
