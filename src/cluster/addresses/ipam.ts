/**
 * Gives the addresses of one subnet to endpoints, and takes them back.
 *
 * The first address, the gateway's (the second), and in IPv4 the last one are never given
 * (model/address.ts). The others are given in ascending order, each once. An address that comes back
 * goes to the end of a queue. There it waits for the endpoint that had it, and is given to another one
 * only when no fresh address is left or when the queue is very long. So everything that remembers its
 * last holder (a neighbor cache, a client) has as long as possible to forget it.
 *
 * Nothing is enumerated: memory grows with the addresses that are taken or queued, and an
 * allocation never looks at an address twice. With a range, addresses are chosen only from the
 * range; others of the subnet can still be asked for explicitly.
 */
import { createHash } from 'node:crypto';
import { WeftError } from '../../error.ts';
import {
  addressText,
  addressValue,
  gatewayOf,
  parseRange,
  parseSubnet,
  usableRange,
  type AddressRange,
  type Subnet,
} from '../../model/address.ts';
import { eachInTurns } from '../../turns.ts';
import { KEPT_PER_TURN, refuseReserved, refuseTaken, type Pool } from './pool.ts';
import type { Draft } from '../reconciler.ts';

/** In a large subnet, the oldest queued address is given again when the queue is this long. */
const MOST_RESTING = 4096;

export interface AddressPoolOptions {
  /** The network's name, for messages. */
  readonly network: string;
  readonly subnet: string;
  /** FIRST-LAST within the subnet. */
  readonly range?: string;
}

export class AddressPool implements Pool {
  readonly network: string;
  readonly subnet: string;
  readonly range: string | undefined;
  readonly prefixLength: number;
  readonly gateway: string;
  readonly #subnet: Subnet;
  readonly #usable: AddressRange;
  readonly #owners = new Map<bigint, string>();
  /** How many of `#owners` have an address that weft could have chosen. */
  #takenInRange = 0;
  /** Addresses of the range from here on have never been chosen. */
  #fresh: bigint;
  /** The queue: free addresses of the range below `#fresh`, in the order in which they were released, and who had each. */
  #resting = new Map<bigint, string>();
  /** The address in the queue that an endpoint had last. */
  readonly #left = new Map<string, bigint>();

  /** @param before the pool of the same subnet that this one replaces; what is taken there is taken here too */
  constructor({ network, subnet, range }: AddressPoolOptions, before?: AddressPool) {
    this.network = network;
    this.subnet = subnet;
    this.range = range;
    this.#subnet = parseSubnet(subnet);
    this.prefixLength = this.#subnet.prefixLength;
    this.gateway = addressText(gatewayOf(this.#subnet));
    this.#usable = usableRange(this.#subnet, range === undefined ? undefined : parseRange(range));
    this.#fresh = this.#usable.first;
    for (const [value, owner] of before ? before.#owners : []) this.#give(value, owner);
  }

  /** True if the address is in the subnet, even if it is a reserved one. */
  contains(address: string): boolean {
    const value = addressValue(address);
    return this.#subnet.first <= value && value <= this.#subnet.last;
  }

  ownerOf(address: bigint): string | undefined {
    return this.#owners.get(address);
  }

  /** All addresses of the subnet. */
  get addresses(): AddressRange {
    return this.#subnet;
  }

  /** How many addresses can still be chosen, at most 2^53 - 1. */
  get free(): number {
    const free = this.#usable.last - this.#usable.first + 1n - BigInt(this.#takenInRange);
    return free > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(free);
  }

  /**
   * Checks that `owner` could have this address.
   * @throws WeftError('invalid') for one that no endpoint can have, WeftError('conflict') for one that is taken
   */
  check(owner: string, requested: string): void {
    refuseReserved(owner, requested, this.network, this.#subnet);
    refuseTaken(owner, requested, this.#owners.get(addressValue(requested)));
  }

  /**
   * Takes the requested address, or chooses one.
   * @throws WeftError as `check` does; WeftError('exhausted') if there is none to choose
   */
  take(owner: string, requested?: string): string {
    if (requested !== undefined) this.check(owner, requested);
    const value = requested === undefined ? this.#choose(owner) : addressValue(requested);
    this.#give(value, owner);
    return addressText(value);
  }

  /**
   * Does the same for a plan. `undo` puts the pool back as it was, but that who was to have an address again out of the middle
   * of the queue finds it at the end; of several plans, the last is undone first.
   * @throws as `take` does
   */
  takeForPlan(owner: string, requested?: string): { readonly address: string; readonly undo: () => void } {
    const fresh = this.#fresh;
    const [first] = this.#resting.keys();
    if (requested !== undefined) this.check(owner, requested);
    const value = requested === undefined ? this.#choose(owner) : addressValue(requested);
    const had = this.#resting.get(value);
    this.#give(value, owner);
    const undo = (): void => {
      this.#takeAway(value);
      this.#fresh = fresh;
      if (had === undefined) return;
      if (value === first) this.#resting = new Map([[value, had], ...this.#resting]);
      else this.#resting.set(value, had);
      this.#left.set(had, value);
    };
    return { address: addressText(value), undo };
  }

  plan(owner: string, requested: string | undefined, draft: Draft): string {
    const { address, undo } = this.takeForPlan(owner, requested);
    draft.onUndo(undo);
    return address;
  }

  /** Hosts that do not share their store have no endpoints to move. */
  move(): void {}

  written(): readonly [] {
    return [];
  }

  /** Like `take`, but `owner` may have the address already. */
  claim(owner: string, address: string): void {
    if (this.#owners.get(addressValue(address)) !== owner) this.take(owner, address);
  }

  /** Does nothing if the address is not taken. */
  release(address: string): void {
    const value = addressValue(address);
    const owner = this.#takeAway(value);
    if (owner === undefined || !this.#isInRange(value) || value >= this.#fresh) return;
    this.#resting.set(value, owner);
    this.#left.set(owner, value);
  }

  /** Releases the address if it is `owner` that has it. */
  giveBack(owner: string, address: string): void {
    if (this.#owners.get(addressValue(address)) === owner) this.release(address);
  }

  /** Releases the addresses of all others. */
  async keep(isOwner: (owner: string) => boolean): Promise<void> {
    await eachInTurns(this.#owners, KEPT_PER_TURN, ([value, owner]) => {
      if (!isOwner(owner)) this.release(addressText(value));
    });
  }

  #choose(owner: string): bigint {
    const own = this.#left.get(owner);
    if (own !== undefined) return own;
    while (this.#owners.has(this.#fresh)) this.#fresh++;
    const [rested] = this.#resting.keys();
    const isUsedUp = this.#fresh > this.#usable.last;
    if (rested !== undefined && (isUsedUp || this.#resting.size >= MOST_RESTING)) return rested;
    if (!isUsedUp) return this.#fresh++;
    const where = this.range === undefined ? 'subnet' : `range ${this.range} of subnet`;
    const count = this.#takenInRange === 1 ? '1 address' : `${this.#takenInRange} addresses`;
    const mend = this.range === undefined ? 'use a network with a larger subnet' : 'ask for another address with --ip';
    throw new WeftError(
      'exhausted',
      `${where} ${this.subnet} of network "${this.network}" is full (${count}, all taken): detach an endpoint, or ${mend}`,
    );
  }

  #give(value: bigint, owner: string): void {
    this.#owners.set(value, owner);
    const had = this.#resting.get(value);
    this.#resting.delete(value);
    if (had !== undefined && this.#left.get(had) === value) this.#left.delete(had);
    if (this.#isInRange(value)) this.#takenInRange++;
  }

  /** @returns who had it; undefined if nobody did */
  #takeAway(value: bigint): string | undefined {
    const owner = this.#owners.get(value);
    if (this.#owners.delete(value) && this.#isInRange(value)) this.#takenInRange--;
    return owner;
  }

  #isInRange(value: bigint): boolean {
    return this.#usable.first <= value && value <= this.#usable.last;
  }
}

/**
 * A MAC address derived from the names and the identity of the host, so it is the same each time: unicast and locally
 * administered (IEEE 802c). If it is already taken in the network, the next `attempt` gives another.
 */
export function generateMac(network: string, endpoint: string, identity: Uint8Array, attempt: number): string {
  const hash = createHash('sha256').update(identity).update(`/${network}/${endpoint}/${attempt}`).digest();
  return ['02', ...[...hash.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
