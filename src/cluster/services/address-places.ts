/** Where addresses are that slices have: in the subnet of a network, or at none, or where no endpoint can be. */
import { isDeepStrictEqual } from 'node:util';
import type { Vni } from '../../flow/types.ts';
import { addressValue, isIp4, parseSubnet, type Subnet } from '../../model/address.ts';
import type { Network } from '../network.ts';

/** A subnet of a network. */
interface Place extends Pick<Network['pools'][number], 'addresses' | 'gateway'> {
  readonly vni: Vni;
}

export class AddressPlaces {
  #networks: readonly Network[] | undefined;
  #vnis: ReadonlyMap<string, Vni> = new Map();
  /** They do not overlap, and are in the order of their addresses. */
  #places: readonly Place[] = [];
  /** Where services have their addresses. */
  #ranges: readonly Subnet[] = [];

  /** @param networks the same array as long as none has changed @returns true if anything has */
  follow(networks: readonly Network[], rangeTexts: readonly string[]): boolean {
    const ranges = rangeTexts.map(parseSubnet);
    if (networks === this.#networks && isDeepStrictEqual(ranges, this.#ranges)) return false;
    this.#networks = networks;
    this.#ranges = ranges;
    this.#vnis = new Map(networks.map(({ name, vni }) => [name, vni as Vni]));
    this.#places = networks
      .flatMap(({ vni, pools }) => pools.map(({ addresses, gateway }) => ({ addresses, gateway, vni: vni as Vni })))
      .sort((a, b) => (a.addresses.first < b.addresses.first ? -1 : 1));
    return true;
  }

  vniOf(network: string): Vni | undefined {
    return this.#vnis.get(network);
  }

  vniAt(address: string): Vni | undefined {
    return this.#at(addressValue(address))?.vni;
  }

  /** True for the address of a gateway, of a whole subnet, and for those that services have: they lead to no endpoint. */
  isNobodys(address: string): boolean {
    const value = addressValue(address);
    if (this.#ranges.some(({ first, last }) => first <= value && value <= last)) return true;
    const place = this.#at(value);
    if (!place) return false;
    const { first, last } = place.addresses;
    return address === place.gateway || value === first || (isIp4(value) && value === last);
  }

  #at(value: bigint): Place | undefined {
    let [low, high] = [0, this.#places.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#places[middle]!.addresses.first <= value) low = middle + 1;
      else high = middle;
    }
    const place = this.#places[low - 1];
    return place && value <= place.addresses.last ? place : undefined;
  }
}
