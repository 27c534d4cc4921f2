/** What gives the addresses of one subnet to endpoints, and what all of these have in common. */
import { WeftError } from '../../error.ts';
import { addressText, addressValue, gatewayOf, isIp4, type AddressRange, type Subnet } from '../../model/address.ts';
import type { Put } from '../../store/store.ts';
import type { Draft } from '../reconciler.ts';

/**
 * How an endpoint had an address: with an interface that weft made, with one that a container engine carries, or with none, so
 * that nobody has to forget whose it was.
 */
export type Had = 'used' | 'carried' | 'held';

export interface Pool {
  readonly subnet: string;
  readonly range: string | undefined;
  readonly prefixLength: number;
  readonly gateway: string;
  /** All addresses of the subnet. */
  readonly addresses: AddressRange;
  /** How many addresses can still be given, at most 2^53 - 1. */
  readonly free: number;

  /** True if the address is in the subnet, even if it is a reserved one. */
  contains(address: string): boolean;
  /** The name of the endpoint that has the address, or will have it. @param address its value */
  ownerOf(address: bigint): string | undefined;
  /** True for an address of another host's block, which `check` would have asked for it. */
  isOthers?(address: bigint): boolean;
  /** The block of an address, if it is another host's and this one has no address in it. */
  othersBlock?(address: bigint): AddressRange | undefined;
  /**
   * Checks that a new endpoint of this host could have this address.
   * @param isCarried a container engine carries its interface: it need not wait for what such an endpoint of this host had
   * @throws WeftError('invalid') for one that no endpoint can have, WeftError('conflict') for one that is taken, PlanAgain if
   * others have to be asked first
   */
  check(owner: string, requested: string, isCarried?: boolean): void;
  /**
   * Gives an address in a change that is being planned: the requested one, or one that the pool chooses.
   * @param isCarried as for `check`
   * @throws as `check` does; WeftError('exhausted') if there is none to choose
   */
  plan(owner: string, requested: string | undefined, draft: Draft, isCarried?: boolean): string;
  /** Takes an address over, in a change that moves its endpoint from another host to this one. */
  move(owner: string, address: string, draft: Draft): void;
  /** What is to be stored with the addresses that a change was given. */
  written(draft: Draft): readonly (Put & { readonly revision: number })[];
  /**
   * An endpoint with this address comes into force. It may have the address already.
   * @param isHere true for an endpoint of this host @param isCarried a container engine carries its interface
   * @throws WeftError if it cannot have it
   */
  claim(owner: string, address: string, isHere: boolean, isCarried?: boolean): void;
  /** Gives endpoints of this host what they had when the last daemon ended: what they have now is not known. */
  claimUsed?(isOwner: (owner: string) => boolean): void;
  /** Takes the address back if it is `owner` that has it. @param had by default `used` */
  giveBack(owner: string, address: string, had?: Had): void;
  /** Takes back the addresses of all others, in turns of the event loop: there may be very many. */
  keep(isOwner: (owner: string) => boolean): Promise<void>;
}

/** How many addresses `keep` looks at in one turn. */
export const KEPT_PER_TURN = 512;

/** @param network its name @throws WeftError('invalid') for an address that no endpoint of the subnet can have */
export function refuseReserved(owner: string, requested: string, network: string, subnet: Subnet): void {
  const why = reservedText(requested, network, subnet);
  if (why !== undefined) throw new WeftError('invalid', `endpoint "${owner}": ${why}`);
}

/** Why no endpoint of the subnet can have an address; undefined if one can. @param network its name */
export function reservedText(requested: string, network: string, subnet: Subnet): string | undefined {
  const value = addressValue(requested);
  const of = `subnet ${addressText(subnet.first)}/${subnet.prefixLength} of network "${network}"`;
  const ip = `ip ${requested}`;
  if (value < subnet.first || subnet.last < value) return `${ip} is outside ${of}`;
  if (value === gatewayOf(subnet)) return `${ip} is the gateway's of network "${network}"`;
  if (value === subnet.first) {
    return isIp4(value)
      ? `${ip} is the network address of ${of}`
      : `${ip} is the anycast address of the routers of ${of}`;
  }
  return isIp4(value) && value === subnet.last ? `${ip} is the broadcast address of ${of}` : undefined;
}

/** @throws WeftError('conflict') */
export function refuseTaken(owner: string, address: string, holder: string | undefined): void {
  if (holder === undefined) return;
  throw new WeftError('conflict', `endpoint "${owner}": ip ${address} is taken by endpoint "${holder}"`);
}
