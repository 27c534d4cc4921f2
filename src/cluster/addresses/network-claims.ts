/**
 * What networks have for themselves: their subnets and VNIs. A new network is compared with the few that are next to
 * it, however many there are.
 *
 * The subnets are sorted, which suffices because they do not overlap each other.
 */
import type { AddressRange, Subnet } from '../../model/address.ts';

/** The part of a network that matters here. */
export interface ClaimingNetwork {
  readonly name: string;
  readonly vni: number;
  readonly pools: readonly { readonly subnet: string; readonly addresses: AddressRange }[];
}

interface Claim extends AddressRange {
  readonly network: string;
  readonly subnet: string;
}

export class NetworkClaims {
  /** Sorted by their first addresses. */
  readonly #claims: Claim[] = [];
  /** The names of the networks, by VNI. */
  readonly #vnis = new Map<number, string>();
  /** Those below were taken when `freeVni` was last called. */
  #lowestVni = 1;

  add({ name, vni, pools }: ClaimingNetwork): void {
    this.#vnis.set(vni, name);
    for (const { subnet, addresses } of pools) {
      const { first, last } = addresses;
      this.#claims.splice(this.#countUntil(first), 0, { first, last, network: name, subnet });
    }
  }

  remove({ name, vni, pools }: ClaimingNetwork): void {
    if (this.#vnis.get(vni) === name) this.#vnis.delete(vni);
    for (const { subnet, addresses } of pools) {
      for (let at = this.#countUntil(addresses.first) - 1; this.#claims[at]?.first === addresses.first; at--) {
        if (this.#claims[at]!.network === name && this.#claims[at]!.subnet === subnet) this.#claims.splice(at, 1);
      }
    }
  }

  /**
   * What a network would have in common with another one; undefined if nothing.
   * @param texts of `subnets` @param vni undefined if it gets a free one
   */
  clash(name: string, subnets: readonly Subnet[], texts: readonly string[], vni?: number): string | undefined {
    for (const [n, { first, last }] of subnets.entries()) {
      for (let at = this.#countUntil(last) - 1; at >= 0; at--) {
        const other = this.#claims[at]!;
        if (other.network === name) continue;
        if (other.last < first) break;
        return `subnet ${texts[n]} overlaps ${other.subnet} of network "${other.network}"`;
      }
    }
    const owner = vni === undefined ? undefined : this.#vnis.get(vni);
    return owner === undefined || owner === name ? undefined : `VNI ${vni} is taken by network "${owner}"`;
  }

  /** The name of the network that has a VNI. */
  networkWith(vni: number): string | undefined {
    return this.#vnis.get(vni);
  }

  /** The name of the network that an address is in. */
  networkAt(address: bigint): string | undefined {
    const claim = this.#claims[this.#countUntil(address) - 1];
    return claim && address <= claim.last ? claim.network : undefined;
  }

  /** A VNI that neither these networks nor `others` have. All of them may only get more networks from call to call. */
  freeVni(...others: readonly NetworkClaims[]): number {
    const all = [this, ...others];
    while (all.some((claims) => claims.#vnis.has(this.#lowestVni))) this.#lowestVni++;
    return this.#lowestVni;
  }

  /** How many subnets begin at `address` or before it. */
  #countUntil(address: bigint): number {
    let [from, to] = [0, this.#claims.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.#claims[middle]!.first <= address) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}
