/**
 * Health: what this host knows of backends beyond what is declared of them: that their checks fail, or that they are
 * ejected because connections to them do. It is laid over a service, whose value stays as it is, and lasts until it is
 * taken back, or the service does not have the backend any more. When that is so, how many may be ejected and for how long,
 * is decided in `health/`.
 */
import { bytesId } from '../flow/key.ts';
import type { Backend, Service } from './service.ts';

export type FaultKind = 'check_failed' | 'ejected';

/** What is wrong with a backend. */
export interface Fault {
  readonly kind: FaultKind;
  /** For people: `no answer to 3 connections`. */
  readonly detail: string;
}

/** By kind: its detail. */
type Faults = Map<FaultKind, string>;

export class Health {
  /** By id of the service, then by address. */
  readonly #faults = new Map<string, Map<string, Faults>>();

  /** Says what is wrong with a backend of a service; with undefined, that this is over. Returns true if that is news. */
  set(id: string, address: Uint8Array, kind: FaultKind, detail: string | undefined): boolean {
    const key = bytesId(address);
    const service = this.#faults.get(id) ?? new Map<string, Faults>();
    const faults = service.get(key) ?? new Map<FaultKind, string>();
    if (faults.get(kind) === detail) return false;
    if (detail === undefined) faults.delete(kind);
    else faults.set(kind, detail);
    if (faults.size > 0) service.set(key, faults);
    else service.delete(key);
    if (service.size > 0) this.#faults.set(id, service);
    else this.#faults.delete(id);
    return true;
  }

  /** Forgets everything about backends that the service does not have. */
  keepOnly({ id, backends }: Service): void {
    const service = this.#faults.get(id);
    if (!service) return;
    const present = new Set(backends.map(({ address }) => bytesId(address)));
    for (const address of service.keys()) if (!present.has(address)) service.delete(address);
    if (service.size === 0) this.#faults.delete(id);
  }

  forget(id: string): void {
    this.#faults.delete(id);
  }

  /** True if this is wrong with it, whatever else is. */
  has(id: string, { address }: Pick<Backend, 'address'>, kind: FaultKind): boolean {
    return this.#faults.get(id)?.get(bytesId(address))?.has(kind) ?? false;
  }

  /** What is wrong with a backend; undefined if nothing is. Of both, that its checks fail, since that excludes it always. */
  of(id: string, { address }: Pick<Backend, 'address'>): Fault | undefined {
    const faults = this.#faults.get(id)?.get(bytesId(address));
    for (const kind of ['check_failed', 'ejected'] as const) {
      const detail = faults?.get(kind);
      if (detail !== undefined) return { kind, detail };
    }
    return undefined;
  }
}
