/**
 * Gives the addresses of one subnet to endpoints where several hosts share it (`blocks.ts`): to an endpoint that was here
 * before, the address that it had; to others those of this host's blocks in ascending order, those first that no endpoint has
 * had, then those that have rested longest. The next block is claimed while a few addresses are left. When all blocks are
 * taken, other hosts are asked for single addresses.
 */
import { createHash } from 'node:crypto';
import { WeftError } from '../../error.ts';
import {
  addressText,
  addressValue,
  gatewayOf,
  parseSubnet,
  usableRange,
  type AddressRange,
  type Subnet,
} from '../../model/address.ts';
import { compareNames } from '../../model/name-order.ts';
import type { AddressClaim } from '../../model/records.ts';
import type { Put } from '../../store/store.ts';
import { eachInTurns } from '../../turns.ts';
import { blockAt, blocksOf, REST_MS } from './block.ts';
import type { BlockContent, Holding } from './holding.ts';
import type { Holdings } from './holdings.ts';
import { PlanAgain } from '../plan-again.ts';
import { KEPT_PER_TURN, refuseReserved, refuseTaken, type Had, type Pool } from './pool.ts';
import type { Draft } from '../reconciler.ts';

/** The next block is claimed when fewer addresses than this are left. */
const AHEAD = 8;
/** How far hosts that claim at the same time keep away from each other, in blocks, at most. */
const MOST_SPREAD = 64;
/** How many addresses are asked for, one after the other, when all blocks are taken. */
const MOST_ASKED = 8;

export interface BlockPoolEnvironment {
  /** The network's name. */
  readonly network: string;
  readonly subnet: string;
  readonly holdings: Holdings;
  /** Asks another host for an address (`Blocks.ask`). */
  readonly ask: (holding: Holding, address: bigint, endpoint: string) => Promise<void>;
  /** Called when there is something to do about a block. */
  readonly onNeed: (holding: Holding) => void;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
}

interface Owner {
  readonly endpoint: string;
  readonly isHere: boolean;
}

export class BlockPool implements Pool {
  readonly network: string;
  readonly subnet: string;
  readonly range: undefined;
  readonly prefixLength: number;
  readonly gateway: string;
  readonly #environment: BlockPoolEnvironment;
  readonly #holdings: Holdings;
  readonly #subnet: Subnet;
  readonly #usable: AddressRange;
  /** All addresses that are in use, or planned, on any host. */
  readonly #owners = new Map<bigint, Owner>();
  /** How many of them this host has. */
  #here = 0;
  /** The block to claim next, before it is needed. */
  #ahead: Holding | undefined;
  /** How often in a row another host was faster. */
  #lostRaces = 0;
  /** Since when blocks of this host are not used. */
  readonly #idleSince = new Map<Holding, number>();

  constructor(environment: BlockPoolEnvironment) {
    this.#environment = environment;
    this.#holdings = environment.holdings;
    this.network = environment.network;
    this.subnet = environment.subnet;
    this.#subnet = parseSubnet(this.subnet);
    this.#usable = usableRange(this.#subnet);
    this.prefixLength = this.#subnet.prefixLength;
    this.gateway = addressText(gatewayOf(this.#subnet));
  }

  get addresses(): AddressRange {
    return this.#subnet;
  }

  get free(): number {
    const free = this.#usable.last - this.#usable.first + 1n - BigInt(this.#owners.size);
    return free > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(free);
  }

  contains(address: string): boolean {
    const value = addressValue(address);
    return this.#subnet.first <= value && value <= this.#subnet.last;
  }

  ownerOf(address: bigint): string | undefined {
    return this.#owners.get(address)?.endpoint;
  }

  isOthers(address: bigint): boolean {
    const holding = this.#known(address);
    if (!holding || holding.mayUse(address)) return false;
    const { host, claimed } = holding.content;
    const { hostName } = this.#holdings;
    return host !== undefined && host !== hostName && (claimed.get(address)?.host ?? hostName) === hostName;
  }

  othersBlock(address: bigint): AddressRange | undefined {
    const holding = this.#known(address);
    const mayBeOurs = holding?.content.host === undefined || holding.concernsThisHost;
    return mayBeOurs ? undefined : blockAt(this.#subnet, address);
  }

  check(owner: string, requested: string, isCarried = false): void {
    refuseReserved(owner, requested, this.network, this.#subnet);
    const value = addressValue(requested);
    refuseTaken(owner, requested, this.#owners.get(value)?.endpoint);
    const holding = this.#known(value);
    refuseTaken(owner, requested, this.#waiting(value, owner));
    // Engines give an address back before they ask for it again, and say only then whose it is.
    const isOfEngine = isCarried && holding?.used.get(value)?.isCarried === true;
    const rested = isOfEngine ? 0 : (holding?.restsFor(value, owner, this.#environment.clock(), REST_MS) ?? 0);
    const refuse = (why: string): never => {
      throw new WeftError('conflict', `endpoint "${owner}": ip ${requested} ${why}`);
    };
    if (rested > 0) {
      const had = holding!.used.get(value)!.endpoint;
      refuse(`was endpoint "${had}"'s a moment ago: another endpoint can have it in ${Math.ceil(rested / 1000)} s`);
    }
    if (!holding || holding.mayUse(value)) return;
    const { host, claimed } = holding.content;
    const claim = claimed.get(value);
    if (claim && claim.host !== this.#holdings.hostName && !(claim.isFree && host === undefined)) {
      refuse(`is taken by endpoint "${claim.endpoint}" of host "${claim.host}"`);
    }
    if (host === undefined || host === this.#holdings.hostName) return;
    throw new PlanAgain(
      new WeftError('conflict', `endpoint "${owner}": ip ${requested} is of a block of host "${host}"`),
      () => this.#environment.ask(holding, value, owner),
    );
  }

  plan(owner: string, requested: string | undefined, draft: Draft, isCarried = false): string {
    if (requested !== undefined) this.check(owner, requested, isCarried);
    const value = requested === undefined ? this.#choose(owner, draft) : addressValue(requested);
    if (requested !== undefined && !this.#mayUseIn(draft, value)) this.#claimSingle(owner, value, draft);
    this.#own(value, { endpoint: owner, isHere: true });
    draft.onUndo(() => this.#disown(value));
    return addressText(value);
  }

  /** Its host has not been asked: it is down, or the operator wants it so. It yields the address when it sees this. */
  move(owner: string, address: string, draft: Draft): void {
    const value = addressValue(address);
    if (this.#mayUseIn(draft, value)) return;
    const holding = this.#find(value);
    if (this.#content(holding, draft).host === this.#holdings.hostName) this.#takeHome(holding, value, draft);
    else this.#claimSingle(owner, value, draft);
  }

  written(draft: Draft): readonly (Put & { readonly revision: number })[] {
    return this.#holdings.written(draft);
  }

  claim(owner: string, address: string, isHere: boolean, isCarried = false): void {
    const value = addressValue(address);
    const known = this.#owners.get(value);
    if (known?.endpoint !== owner) {
      refuseReserved(owner, address, this.network, this.#subnet);
      refuseTaken(owner, address, known?.endpoint);
    }
    if (isHere) {
      const holding = this.#find(value);
      if (!holding.mayUse(value)) throw this.#missing(owner, value, holding);
      holding.use(value, owner, isCarried);
      holding.wants.delete(value);
      this.#environment.onNeed(holding);
    }
    this.#own(value, { endpoint: owner, isHere });
  }

  claimUsed(isOwner: (owner: string) => boolean): void {
    for (const holding of this.#holdings.known(this.network, this.#subnet.first).values()) {
      for (const [value, { endpoint, isCarried }] of [...holding.used]) {
        if (!isOwner(endpoint) || this.#owners.has(value) || !holding.mayUse(value)) continue;
        this.claim(endpoint, addressText(value), true, isCarried);
      }
    }
  }

  giveBack(owner: string, address: string, had: Had = 'used'): void {
    const value = addressValue(address);
    const holding = this.#known(value);
    if (holding?.wants.get(value)?.endpoint === owner) holding.wants.delete(value);
    if (this.#owners.get(value)?.endpoint !== owner) return;
    this.#disown(value);
    if (had === 'held') holding?.forget(value);
    else holding?.free(value, this.#environment.clock(), had === 'carried');
    // The next start has to know it.
    if (holding && had !== 'used') this.#environment.onNeed(holding);
  }

  async keep(isOwner: (owner: string) => boolean): Promise<void> {
    await eachInTurns(this.#owners, KEPT_PER_TURN, ([value, { endpoint }]) => {
      if (!isOwner(endpoint)) this.giveBack(endpoint, addressText(value));
    });
    for (const { wants } of this.#holdings.known(this.network, this.#subnet.first).values()) {
      for (const [value, { endpoint, isDeclared }] of wants) if (isDeclared && !isOwner(endpoint)) wants.delete(value);
    }
  }

  /** The endpoints of this host that have addresses which it may not use any more. They do not have them from now on. */
  lost(holding: Holding): string[] {
    const names: string[] = [];
    for (const [value, { endpoint, freeSince }] of [...holding.used]) {
      if (freeSince !== undefined || holding.mayUse(value)) continue;
      holding.used.delete(value);
      if (this.#owners.get(value)?.endpoint === endpoint) this.#disown(value);
      names.push(endpoint);
    }
    return names;
  }

  /** True if another host cannot have the address for `endpoint`, because it is used here, or rests. */
  isUsedHere(value: bigint, endpoint: string, holding: Holding): boolean {
    const isUsable = this.#usable.first <= value && value <= this.#usable.last;
    const rests = holding.restsFor(value, endpoint, this.#environment.clock(), REST_MS) > 0;
    const owner = this.#owners.get(value);
    // Its own endpoint may be known here already: it waits there for the address.
    const isTaken = owner !== undefined && (owner.isHere || owner.endpoint !== endpoint);
    return !isUsable || rests || isTaken || holding.wants.get(value)?.isDeclared === true;
  }

  /** True if a single address can be given back: nobody here has it, and it has rested. */
  isOver(value: bigint, holding: Holding): boolean {
    if (this.#owners.get(value)?.isHere === true || holding.wants.has(value)) return false;
    const now = this.#environment.clock();
    // It was claimed for an endpoint that never came, or is another host's now.
    if (!holding.used.has(value)) holding.used.set(value, { endpoint: '', freeSince: now });
    return holding.restsFor(value, undefined, now, REST_MS) === 0;
  }

  /** True if a block of this host has not been used for that long, and is not needed as the next one. */
  isIdle(holding: Holding, idleMs: number): boolean {
    const now = this.#environment.clock();
    const isUsed = this.#in(holding).some(
      (value) =>
        this.#owners.get(value)?.isHere === true ||
        holding.wants.has(value) ||
        holding.restsFor(value, undefined, now, REST_MS) > 0,
    );
    if (isUsed || holding.heldAt === undefined) {
      this.#idleSince.delete(holding);
      return false;
    }
    const since = this.#idleSince.get(holding) ?? now;
    this.#idleSince.set(holding, since);
    return now - since >= idleMs && (this.#here === 0 || this.#left(holding) >= AHEAD);
  }

  /** Looks whether this host needs another block soon. @returns the one to claim */
  lookAhead(): Holding | undefined {
    this.#ahead = this.#here > 0 && this.#left() < AHEAD ? this.#nextBlock() : undefined;
    return this.#ahead;
  }

  isAhead(holding: Holding): boolean {
    return holding === this.#ahead;
  }

  #choose(owner: string, draft: Draft): bigint {
    const now = this.#environment.clock();
    let fresh: bigint | undefined;
    let oldest: { readonly value: bigint; readonly since: number } | undefined;
    for (const holding of this.#ownBlocks(draft)) {
      for (const value of this.#in(holding)) {
        if (!this.#isNobodys(value, owner) || !this.#mayUseIn(draft, value)) continue;
        const used = holding.used.get(value);
        if (used?.endpoint === owner) return value;
        if (!used) {
          fresh ??= value;
          continue;
        }
        if (holding.restsFor(value, owner, now, REST_MS) > 0) continue;
        const since = used.freeSince ?? now;
        if (!oldest || since < oldest.since) oldest = { value, since };
      }
    }
    const value = fresh ?? oldest?.value ?? this.#freeSingle(owner, now);
    if (value !== undefined) return value;
    const next = this.#nextBlock(draft, owner);
    if (!next) throw this.#exhausted(owner);
    this.#claimBlock(next, draft);
    return this.#in(next).find((one) => this.#isNobodys(one, owner) && this.#mayUseIn(draft, one))!;
  }

  /** A single address of this host that nobody has: best, one that was claimed for this endpoint. */
  #freeSingle(owner: string, now: number): bigint | undefined {
    let other: bigint | undefined;
    for (const holding of this.#holdings.known(this.network, this.#subnet.first).values()) {
      for (const [value, { endpoint }] of holding.singles) {
        const rests = holding.restsFor(value, owner, now, REST_MS) > 0;
        if (!this.#isNobodys(value, owner) || !this.#isUsable(value) || rests) continue;
        if (endpoint === owner) return value;
        other = value;
      }
    }
    return other;
  }

  /** The first block that nobody has and that has an address to give, or one of the next if other hosts are faster. */
  #nextBlock(draft?: Draft, owner?: string): Holding | undefined {
    let skip = this.#lostRaces === 0 ? 0 : this.#spread();
    let last: Holding | undefined;
    for (const block of blocksOf(this.#subnet)) {
      const known = this.#holdings.known(this.network, block.first).get(block.first);
      const { host, claimed } = known ? this.#content(known, draft) : { host: undefined, claimed: new Map() };
      if (host !== undefined || known?.heldAt !== undefined) continue;
      if (!this.#in(block).some((value) => this.#isNobodys(value, owner) && !claimed.has(value))) continue;
      last = this.#holdings.find(this.network, block.first);
      if (skip-- <= 0) break;
    }
    return last;
  }

  #spread(): number {
    const hash = createHash('sha256').update(`${this.#holdings.hostName}/${this.network}/${this.#lostRaces}`).digest();
    return hash.readUInt16BE() % Math.min(2 ** this.#lostRaces, MOST_SPREAD);
  }

  #claimBlock(holding: Holding, draft: Draft): void {
    const { hostName } = this.#holdings;
    const { claimed } = this.#content(holding, draft);
    const others = new Map([...claimed].filter(([, claim]) => claim.host !== hostName && !claim.isFree));
    this.#holdings.write(draft, holding, { host: hostName, claimed: others });
    draft.onUndo(() => this.#lostRaces++);
    draft.onStored(() => (this.#lostRaces = 0));
  }

  /** The other host had claimed it out of a block of this one. */
  #takeHome(holding: Holding, value: bigint, draft: Draft): void {
    const { host, claimed } = this.#content(holding, draft);
    const others = new Map(claimed);
    others.delete(value);
    this.#holdings.write(draft, holding, { host, claimed: others });
    draft.onStored(() => holding.yielded.delete(value));
  }

  #claimSingle(endpoint: string, value: bigint, draft: Draft): void {
    const holding = this.#find(value);
    const { host, claimed } = this.#content(holding, draft);
    const claim: AddressClaim = { host: this.#holdings.hostName, endpoint };
    this.#holdings.write(draft, holding, { host, claimed: new Map(claimed).set(value, claim) });
  }

  #missing(endpoint: string, value: bigint, holding: Holding): WeftError {
    const { host } = holding.content;
    if (holding.wants.get(value)?.isDeclared !== true) {
      holding.wants.set(value, { endpoint, isDeclared: true, askedAt: 0, since: this.#environment.clock() });
      this.#environment.onNeed(holding);
    }
    const whose = host === undefined || host === this.#holdings.hostName ? '' : `: it is of a block of host "${host}"`;
    return new WeftError(
      'conflict',
      `endpoint "${endpoint}": ip ${addressText(value)} is not this host's${whose}: weft goes on asking for it; attach the endpoint anew to get another one`,
    );
  }

  /** Other hosts may have addresses to give away; else there is none. */
  #exhausted(owner: string): WeftError {
    const shares = new Map<string, number>();
    const spare: { readonly holding: Holding; readonly values: bigint[] }[] = [];
    for (const holding of this.#holdings.known(this.network, this.#subnet.first).values()) {
      const { host, claimed } = holding.content;
      const count = (name: string, more: number): unknown => shares.set(name, (shares.get(name) ?? 0) + more);
      const values = this.#in(holding);
      for (const claim of claimed.values()) count(claim.host, 1);
      if (host === undefined) continue;
      count(host, values.filter((value) => this.#owners.has(value) && !claimed.has(value)).length);
      const free = values.filter((value) => !this.#owners.has(value) && !claimed.has(value)).reverse();
      if (host !== this.#holdings.hostName && free.length > 0) spare.push({ holding, values: free });
    }
    const used = [...shares]
      .sort(([one], [other]) => compareNames(one, other))
      .map(([host, count]) => `host "${host}" has ${count}`);
    const why = new WeftError(
      'exhausted',
      `subnet ${this.subnet} of network "${this.network}" is full (of its addresses, ${used.join(', ')}; what was given back rests for a minute): detach an endpoint, or use a network with a larger subnet`,
    );
    if (spare.length === 0) return why;
    return new PlanAgain(why, () => this.#askAnybody(owner, spare, why));
  }

  /** Asks those first who have most to spare. */
  async #askAnybody(
    owner: string,
    spare: { readonly holding: Holding; readonly values: bigint[] }[],
    why: WeftError,
  ): Promise<void> {
    for (let asked = 0; asked < MOST_ASKED; asked++) {
      spare.sort((a, b) => b.values.length - a.values.length);
      const [most] = spare;
      const value = most?.values.shift();
      if (!most || value === undefined) throw why;
      try {
        await this.#environment.ask(most.holding, value, owner);
        return;
      } catch (error) {
        // A host that does not answer is not asked again.
        if (error instanceof WeftError && error.code === 'unreachable') most.values.length = 0;
      }
    }
    throw why;
  }

  /** How many addresses this host can give, without those of a block. */
  #left(without?: Holding): number {
    const now = this.#environment.clock();
    let left = 0;
    for (const holding of this.#holdings.known(this.network, this.#subnet.first).values()) {
      if (holding.heldAt === undefined || holding === without) continue;
      for (const value of this.#in(holding)) {
        const rests = holding.restsFor(value, undefined, now, REST_MS) > 0;
        if (!this.#owners.has(value) && holding.mayUse(value) && !rests) left++;
      }
    }
    return left;
  }

  /** In ascending order. */
  #ownBlocks(draft: Draft): Holding[] {
    const own = [...this.#holdings.known(this.network, this.#subnet.first).values()].filter(
      (holding) => holding.heldAt !== undefined || this.#isClaimedIn(draft, holding),
    );
    return own.sort((a, b) => (a.first < b.first ? -1 : 1));
  }

  #mayUseIn(draft: Draft, value: bigint): boolean {
    const holding = this.#known(value);
    if (!holding) return false;
    return (
      holding.mayUse(value) || (this.#isClaimedIn(draft, holding) && !this.#content(holding, draft).claimed.has(value))
    );
  }

  #isClaimedIn(draft: Draft, holding: Holding): boolean {
    return this.#content(holding, draft).host === this.#holdings.hostName && holding.content.host === undefined;
  }

  /** True for what no endpoint has, and no other one is declared with. */
  #isNobodys(value: bigint, owner: string | undefined): boolean {
    return !this.#owners.has(value) && this.#waiting(value, owner) === undefined;
  }

  /** Another endpoint that is declared with this address, and waits until this host may use it. */
  #waiting(value: bigint, owner: string | undefined): string | undefined {
    const want = this.#known(value)?.wants.get(value);
    return want?.isDeclared && want.endpoint !== owner ? want.endpoint : undefined;
  }

  #content(holding: Holding, draft: Draft | undefined): BlockContent {
    return draft ? this.#holdings.contentIn(draft, holding) : holding.content;
  }

  /** The addresses of a block that endpoints can have. */
  #in({ first }: Pick<Holding, 'first'>): bigint[] {
    const { last } = blockAt(this.#subnet, first);
    const values: bigint[] = [];
    for (let value = first; value <= last; value++) if (this.#isUsable(value)) values.push(value);
    return values;
  }

  #isUsable(value: bigint): boolean {
    return this.#usable.first <= value && value <= this.#usable.last;
  }

  #find(value: bigint): Holding {
    return this.#holdings.find(this.network, blockAt(this.#subnet, value).first);
  }

  #known(value: bigint): Holding | undefined {
    const { first } = blockAt(this.#subnet, value);
    return this.#holdings.known(this.network, first).get(first);
  }

  #own(value: bigint, owner: Owner): void {
    this.#disown(value);
    this.#owners.set(value, owner);
    if (owner.isHere) this.#here++;
  }

  #disown(value: bigint): void {
    if (this.#owners.get(value)?.isHere) this.#here--;
    this.#owners.delete(value);
  }
}
