/**
 * What one service has for itself in the whole cluster: its addresses (`vips/ADDRESS`) and node ports (`node-ports/PORT`). A
 * claim is an entry of the store. The change that stores a service expects that there is none yet, so two hosts never give one
 * thing to two services; what they plan at once, one of them plans again.
 */
import { serviceClaim } from '../../model/records.ts';
import type { Change, Expectation, Put } from '../../store/store.ts';
import type { Draft } from '../reconciler.ts';
import type { Register } from '../register.ts';

interface Claim {
  readonly service: string;
  readonly revision: number;
}

export class ServiceClaims implements Register {
  readonly prefix: string;
  readonly #claims = new Map<string, Claim>();
  /** What the services of a change take, and who. */
  readonly #planned = new WeakMap<Draft, Map<string, string>>();
  readonly #onChange: (what: string) => void;

  /** @param prefix of the keys, such as `vips/` @param onChange called with what may be claimed otherwise */
  constructor(prefix: string, onChange: (what: string) => void = () => {}) {
    this.prefix = prefix;
    this.#onChange = onChange;
  }

  get size(): number {
    return this.#claims.size;
  }

  /** The service that has it, or will have it with the change. */
  ownerOf(what: string, draft?: Draft): string | undefined {
    return this.#claims.get(what)?.service ?? (draft && this.#planned.get(draft)?.get(what));
  }

  /** How many are taken with the change. */
  taken(draft: Draft): number {
    return this.#claims.size + (this.#planned.get(draft)?.size ?? 0);
  }

  /**
   * What a change stores and deletes, so that a service has these, and not those any more.
   * @param after free, or the service's already
   */
  plan(
    draft: Draft,
    service: string,
    { before, after }: { readonly before: Iterable<string>; readonly after: ReadonlySet<string> },
  ): { readonly also: (Put & { readonly revision: number })[]; readonly released: Expectation[] } {
    const planned = this.#planned.get(draft) ?? new Map<string, string>();
    this.#planned.set(draft, planned);
    // A store that has lost the service has probably lost these, too, although they are known here.
    const isLost = draft.isRefused('Service', service);
    const taken = [...after].filter((what) => isLost || !this.#claims.has(what));
    for (const what of taken) planned.set(what, service);
    const also = taken.map((what) => {
      const revision = this.#claims.get(what)?.revision ?? 0;
      return { key: this.prefix + what, value: { service }, revision };
    });
    return {
      also,
      released: this.release(
        service,
        [...before].filter((what) => !after.has(what)),
      ),
    };
  }

  /** The claims of a service among these. */
  release(service: string, all: Iterable<string>): Expectation[] {
    return [...new Set(all)].flatMap((what) => {
      const claim = this.#claims.get(what);
      return claim?.service === service ? [{ key: this.prefix + what, revision: claim.revision }] : [];
    });
  }

  see(changes: readonly Change[]): void {
    for (const { key, entry } of changes) {
      const what = key.slice(this.prefix.length);
      if (!entry) this.#claims.delete(what);
      else {
        // One that is not readable takes it all the same.
        const { data } = serviceClaim.safeParse(entry.value);
        this.#claims.set(what, { service: data?.service ?? '?', revision: entry.revision });
      }
      this.#onChange(what);
    }
  }

  listed(keys: ReadonlySet<string>): void {
    for (const what of this.#claims.keys()) {
      if (keys.has(this.prefix + what)) continue;
      this.#claims.delete(what);
      this.#onChange(what);
    }
  }
}
