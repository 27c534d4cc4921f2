/** Where addresses are that slices have: in the subnet of a network, or at none, or where no endpoint can be. */
import { isDeepStrictEqual } from 'node:util';
import type { Vni } from '../../flow/types.ts';
import { addressValue, isIp4, parseSubnet, type Subnet } from '../../model/address.ts';
import type { Network } from '../network.ts';

/** Where an address is. */
export interface AddressPlace {
  /** The network that has it; undefined if none does. */
  readonly vni: Vni | undefined;
  /** True for the address of a gateway, of a whole subnet, and for those that services have: they lead to no endpoint. */
  readonly isNobodys: boolean;
}

/** A subnet of a network, as most of its addresses are. */
interface Place extends AddressPlace, Pick<Network['pools'][number], 'addresses' | 'gateway'> {}

const OF_NO_NETWORK: AddressPlace = { vni: undefined, isNobodys: false };
const OF_SERVICES: AddressPlace = { vni: undefined, isNobodys: true };

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
      .flatMap(({ vni, pools }) =>
        pools.map(({ addresses, gateway }) => ({ addresses, gateway, vni: vni as Vni, isNobodys: false })),
      )
      .sort((a, b) => (a.addresses.first < b.addresses.first ? -1 : 1));
    return true;
  }

  vniOf(network: string): Vni | undefined {
    return this.#vnis.get(network);
  }

  at(address: string): AddressPlace {
    const value = addressValue(address);
    for (const { first, last } of this.#ranges) if (first <= value && value <= last) return OF_SERVICES;
    const place = this.#at(value);
    if (!place) return OF_NO_NETWORK;
    const { first, last } = place.addresses;
    const isNobodys = address === place.gateway || value === first || (isIp4(value) && value === last);
    return isNobodys ? { vni: place.vni, isNobodys } : place;
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
