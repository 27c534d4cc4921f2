/**
 * Which services say that they have one thing, such as an address or a node port: mostly one, and that has it. Of several, the
 * service that the claim names has it (`claims.ts`), or else the one whose name comes first. So all hosts agree, whatever
 * they learnt first.
 */
import type { ServiceClaims } from './claims.ts';

interface Several {
  readonly services: Set<string>;
  /** The one whose name comes first; found when it is asked for. */
  first: string | undefined;
}

export class Contenders {
  readonly #claims: Pick<ServiceClaims, 'ownerOf'>;
  readonly #at = new Map<string, string | Several>();
  readonly #contested = new Set<string>();

  constructor(claims: Pick<ServiceClaims, 'ownerOf'>) {
    this.#claims = claims;
  }

  /** What several say that they have. */
  get contested(): Iterable<string> {
    return this.#contested;
  }

  all(what: string): Iterable<string> {
    const at = this.#at.get(what);
    return at === undefined ? [] : typeof at === 'string' ? [at] : at.services;
  }

  /** The one that has it. */
  holder(what: string): string | undefined {
    const at = this.#at.get(what);
    if (at === undefined || typeof at === 'string') return at;
    return this.claimant(what) ?? (at.first ??= firstOf(at.services));
  }

  /** The one that has it by its claim. */
  claimant(what: string): string | undefined {
    const claimed = this.#claims.ownerOf(what);
    const at = this.#at.get(what);
    if (claimed === undefined || at === undefined) return undefined;
    return (typeof at === 'string' ? at === claimed : at.services.has(claimed)) ? claimed : undefined;
  }

  add(what: string, service: string): void {
    const at = this.#at.get(what);
    if (at === undefined) return void this.#at.set(what, service);
    if (at === service) return;
    const several: Several = typeof at === 'string' ? { services: new Set([at]), first: at } : at;
    several.services.add(service);
    if (several.first !== undefined && service < several.first) several.first = service;
    this.#at.set(what, several);
    this.#contested.add(what);
  }

  delete(what: string, service: string): void {
    const at = this.#at.get(what);
    if (at === service) this.#at.delete(what);
    if (at === undefined || typeof at === 'string' || !at.services.delete(service)) return;
    if (at.first === service) at.first = undefined;
    if (at.services.size > 1) return;
    this.#contested.delete(what);
    this.#at.set(what, firstOf(at.services)!);
  }
}

function firstOf(services: Iterable<string>): string | undefined {
  let first: string | undefined;
  for (const service of services) if (first === undefined || service < first) first = service;
  return first;
}
