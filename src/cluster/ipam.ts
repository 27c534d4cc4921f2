/**
 * Addresses of a subnet, each given once.
 *
 * A pool gives from its range, or from the whole subnet where there is none, in
 * order and beginning after the last one that it gave: an address that was
 * released rests as long as possible, because others may still hold it in
 * their caches. What is asked for by name may be anywhere in the subnet.
 *
 * Never given: the network and the broadcast address (IPv4), the subnet-router
 * anycast address (IPv6, RFC 4291 section 2.6.1), and the gateway, which is the
 * first address after them.
 */
import { createHash } from 'node:crypto';
import { WeftError } from '../error.ts';
import { addressNumber, addressText, type Interval, rangeInterval, subnetInterval } from './subnet.ts';

export interface AddressPoolOptions {
  /** Name of the network, for messages. */
  readonly network: string;
  readonly subnet: string;
  /** FIRST-LAST within the subnet. */
  readonly range?: string;
}

export class AddressPool {
  readonly subnet: string;
  readonly range: string | undefined;
  readonly prefixLength: number;
  readonly gateway: string;
  readonly #network: string;
  readonly #all: Interval;
  /** What is given without being asked for by name. */
  readonly #given: Interval;
  /** What is never given, and what it is. */
  readonly #reserved: ReadonlyMap<bigint, string>;
  readonly #owners = new Map<bigint, string>();
  /** Of `#given`, reserved ones not counted. */
  readonly #capacity: bigint;
  #used = 0n;
  #next: bigint;

  constructor({ network, subnet, range }: AddressPoolOptions) {
    this.subnet = subnet;
    this.range = range;
    this.prefixLength = Number(subnet.split('/')[1]);
    this.#network = network;
    this.#all = subnetInterval(subnet);
    this.#given = range === undefined ? this.#all : rangeInterval(range);
    const { first, last } = this.#all;
    this.gateway = addressText(first + 1n);
    this.#reserved = new Map([
      [first, subnet.includes(':') ? 'the subnet-router anycast address' : 'the network address'],
      [first + 1n, `the gateway's of network "${network}"`],
      ...(subnet.includes(':') ? [] : [[last, 'the broadcast address'] as const]),
    ]);
    const reserved = [...this.#reserved.keys()].filter((address) => this.#isGiven(address)).length;
    this.#capacity = this.#given.last - this.#given.first + 1n - BigInt(reserved);
    this.#next = this.#given.first;
  }

  /** Addresses that can still be given without being asked for by name; at most 2^53 - 1. */
  get free(): number {
    const free = this.#capacity - this.#used;
    return free > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(free);
  }

  contains(address: string): boolean {
    const number = addressNumber(address);
    return this.#all.first <= number && number <= this.#all.last;
  }

  /**
   * Can endpoint `owner` have `requested`?
   * @throws WeftError `invalid` for an address that no endpoint can have; `conflict` for one that is taken.
   */
  check(owner: string, requested: string): void {
    const refuse = (code: 'invalid' | 'conflict', why: string): never => {
      throw new WeftError(code, `endpoint "${owner}": ip ${requested} is ${why}`);
    };
    const number = addressNumber(requested);
    if (!this.contains(requested)) refuse('invalid', `outside subnet ${this.subnet} of network "${this.#network}"`);
    const reserved = this.#reserved.get(number);
    if (reserved !== undefined) refuse('invalid', reserved);
    const holder = this.#owners.get(number);
    if (holder !== undefined) refuse('conflict', `taken by endpoint "${holder}"`);
  }

  /**
   * Gives endpoint `owner` the address `requested`, or the next free one; returns its canonical text.
   * @throws WeftError as `check`; `exhausted` when none is free.
   */
  take(owner: string, requested?: string): string {
    if (requested !== undefined) this.check(owner, requested);
    const address = requested === undefined ? this.#nextFree() : addressNumber(requested);
    this.#owners.set(address, owner);
    if (this.#isGiven(address)) this.#used++;
    return addressText(address);
  }

  /** What nobody has is no error. */
  release(address: string): void {
    const number = addressNumber(address);
    if (this.#owners.delete(number) && this.#isGiven(number)) this.#used--;
  }

  /** Ends, because one is free, and each that is not is passed once. */
  #nextFree(): bigint {
    if (this.#used === this.#capacity) throw this.#exhausted();
    for (;;) {
      const address = this.#next;
      this.#next = address === this.#given.last ? this.#given.first : address + 1n;
      if (!this.#owners.has(address) && !this.#reserved.has(address)) return address;
    }
  }

  #exhausted(): WeftError {
    const what = this.range === undefined ? `subnet ${this.subnet}` : `range ${this.range}`;
    const count = `${this.#capacity} ${this.#capacity === 1n ? 'address' : 'addresses'}, all taken`;
    const mend =
      this.range === undefined ? 'use a network with a larger subnet' : 'ask for an address outside it with --ip';
    return new WeftError(
      'exhausted',
      `${what} of network "${this.#network}" is full (${count}): detach an endpoint, or ${mend}`,
    );
  }

  #isGiven(address: bigint): boolean {
    return this.#given.first <= address && address <= this.#given.last;
  }
}

/**
 * The MAC address of endpoint `name`: the same whenever it is attached to
 * `network` on `host`. Locally administered, unicast. Where it is taken the
 * next `attempt` gives another.
 */
export function generateMac(network: string, name: string, host: string, attempt: number): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([network, name, host, attempt]))
    .digest('hex');
  return ['02', ...digest.slice(0, 10).match(/../g)!].join(':');
}
