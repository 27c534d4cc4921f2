/**
 * Health: what this host knows of backends beyond what is declared of them. Checks that fail, and ejections by outlier
 * detection, which end at a time. It is laid over a service, whose value stays as it is, and lasts while the service has
 * the backend.
 *
 * So that not everybody is excluded because of a fault of the observer, or of something that all of them need:
 *
 * - At most a share of a service's backends is ejected at once; unless it is 0, always one of several.
 * - If the share of healthy ones among those that are ready is below the panic threshold, health excludes nobody.
 *
 * Both count all backends of the service, whatever the client's network is.
 */
import { bytesId } from '../flow/key.ts';
import type { Backend, Service } from './service.ts';

/** What is wrong with a backend. */
export interface Fault {
  readonly kind: 'check_failed' | 'ejected';
  /** For people: `no answer to 3 connections`. */
  readonly detail: string;
}

interface State {
  checkFailed: string | undefined;
  ejected: { readonly untilMs: number; readonly because: string } | undefined;
}

/** If the service does not say otherwise. Istio has the same numbers. */
export const DEFAULT_OUTLIERS = { largestEjectedShare: 0.1, panicThreshold: 0 } as const;

export class Health {
  /** By id of the service, then by address. */
  readonly #states = new Map<string, Map<string, State>>();

  /** Why checks of a backend fail; undefined if they do not. Returns true if that is news. */
  setCheck(id: string, address: Uint8Array, failed: string | undefined): boolean {
    const before = this.#states.get(id)?.get(bytesId(address))?.checkFailed;
    if (before === failed) return false;
    this.#update(id, address, (state) => (state.checkFailed = failed));
    return true;
  }

  /** Returns false if no more backends may be ejected. One that is ejected already may be ejected for longer. */
  eject(service: Service, address: Uint8Array, untilMs: number, because: string): boolean {
    const states = this.#states.get(service.id);
    if (!states?.get(bytesId(address))?.ejected) {
      const others = [...(states?.values() ?? [])].filter(({ ejected }) => ejected).length;
      const count = service.backends.length;
      const share = (service.outliers ?? DEFAULT_OUTLIERS).largestEjectedShare;
      const most = Math.max(count > 1 && share > 0 ? 1 : 0, Math.floor(count * share));
      if (others >= most) return false;
    }
    this.#update(service.id, address, (state) => (state.ejected = { untilMs, because }));
    return true;
  }

  /** Ends the ejections whose time is over. Returns the ids of their services. */
  expire(nowMs: number): string[] {
    const expired: string[] = [];
    for (const [id, states] of this.#states) {
      const over = [...states].filter(([, { ejected }]) => ejected && ejected.untilMs <= nowMs);
      for (const [address, state] of over) {
        state.ejected = undefined;
        if (state.checkFailed === undefined) states.delete(address);
      }
      if (over.length > 0) expired.push(id);
      if (states.size === 0) this.#states.delete(id);
    }
    return expired;
  }

  /** Forgets everything of backends that the service does not have. */
  keepOnly({ id, backends }: Service): void {
    const states = this.#states.get(id);
    if (!states) return;
    const present = new Set(backends.map(({ address }) => bytesId(address)));
    for (const address of states.keys()) if (!present.has(address)) states.delete(address);
    if (states.size === 0) this.#states.delete(id);
  }

  forget(id: string): void {
    this.#states.delete(id);
  }

  /** What is wrong with a backend. */
  of(id: string, { address }: Pick<Backend, 'address'>): Fault | undefined {
    const state = this.#states.get(id)?.get(bytesId(address));
    if (!state) return undefined;
    if (state.checkFailed !== undefined) return { kind: 'check_failed', detail: state.checkFailed };
    return state.ejected && { kind: 'ejected', detail: state.ejected.because };
  }

  /** The same for all backends of a service, as far as it excludes them. */
  excluding({ id, backends, outliers = DEFAULT_OUTLIERS }: Service): (backend: Backend) => Fault | undefined {
    if (!this.#states.has(id)) return nobody;
    const ready = backends.filter(({ ready, terminating }) => ready && !terminating);
    const healthy = ready.filter((backend) => !this.of(id, backend)).length;
    const isPanic = healthy < ready.length * outliers.panicThreshold;
    return isPanic ? nobody : (backend) => this.of(id, backend);
  }

  #update(id: string, address: Uint8Array, change: (state: State) => void): void {
    let states = this.#states.get(id);
    if (!states) this.#states.set(id, (states = new Map()));
    const key = bytesId(address);
    const state = states.get(key) ?? { checkFailed: undefined, ejected: undefined };
    change(state);
    if (state.checkFailed === undefined && !state.ejected) states.delete(key);
    else states.set(key, state);
    if (states.size === 0) this.#states.delete(id);
  }
}

function nobody(): undefined {
  return undefined;
}
