/**
 * The subnets and VNIs of all networks of a shared store, in one record. Each transaction that creates or deletes a
 * network expects the record as it was and writes it anew. So of two hosts that create networks at once, one has to
 * plan again on what the other has taken, and neither overlaps nor equal VNIs can come about.
 *
 * A network that the record lacks, because another program wrote it, comes into it with the next change.
 */
import { parseSubnet } from '../../model/address.ts';
import { allotmentRecord, type AllottedNetwork } from '../../model/records.ts';
import type { Change, Put, Transaction } from '../../store/store.ts';
import { NetworkClaims } from './network-claims.ts';
import type { Draft } from '../reconciler.ts';
import type { Keys, Register } from '../register.ts';

const KEY = 'allotment/networks';

export class Allotment implements Register {
  readonly prefix = KEY;
  #networks: Readonly<Record<string, AllottedNetwork>> = {};
  #revision = 0;
  #claims = new NetworkClaims();
  /** What the networks of a change add. */
  readonly #planned = new WeakMap<Draft, Record<string, AllottedNetwork>>();

  /** What the networks of the record have for themselves. */
  get claims(): NetworkClaims {
    return this.#claims;
  }

  see(changes: readonly Change[]): void {
    for (const { key, entry } of changes) if (key === KEY) this.#take(entry?.value, entry?.revision ?? 0);
  }

  listed(keys: Keys): void {
    if (!keys.has(KEY)) this.#take(undefined, 0);
  }

  /** Adds a network to the record. @param known all networks that this host knows */
  plan(
    draft: Draft,
    name: string,
    added: AllottedNetwork,
    known: Iterable<[string, AllottedNetwork]>,
  ): Put & { revision: number } {
    const planned = { ...this.#planned.get(draft), [name]: added };
    this.#planned.set(draft, planned);
    return this.#put({ ...Object.fromEntries(known), ...this.#networks, ...planned });
  }

  /** Writes the record anew as it is: whoever plans on it now has to plan again. @param known as for `plan` */
  planNothing(draft: Draft, known: Iterable<[string, AllottedNetwork]>): Put & { revision: number } {
    return this.#put({ ...Object.fromEntries(known), ...this.#networks, ...this.#planned.get(draft) });
  }

  planRemoval(name: string): Transaction {
    const { [name]: _, ...others } = this.#networks;
    const { revision, ...put } = this.#put(others);
    return { expect: [{ key: KEY, revision }], put: [put] };
  }

  #put(networks: Readonly<Record<string, AllottedNetwork>>): Put & { revision: number } {
    return { key: KEY, value: { networks }, revision: this.#revision };
  }

  /** A record that is not readable takes nothing: what networks have is checked with them, too. */
  #take(value: unknown, revision: number): void {
    const { data } = allotmentRecord.safeParse(value);
    this.#networks = data?.networks ?? {};
    this.#revision = revision;
    this.#claims = new NetworkClaims();
    for (const [name, { vni, subnets }] of Object.entries(this.#networks)) {
      const pools = subnets.map((subnet) => ({ subnet, addresses: parseSubnet(subnet) }));
      this.#claims.add({ name, vni, pools });
    }
  }
}
