/**
 * Blocks of addresses: how the hosts of a shared store divide the subnets among them.
 *
 * A host claims a block of a subnet (`block.ts`) and gives its addresses to endpoints without asking anybody, so containers
 * start while the store is away. A single address can be claimed out of a block that belongs to nobody, or out of the
 * block of another host, if that host agrees. One record holds everything about a block, and whoever changes any of it
 * writes that record by compare-and-swap:
 *
 *   blocks/blue/4-10.0.0.16   { host: "a", claimed: { "10.0.0.20": { host: "b", endpoint: "web" } } }
 *
 * **No address is ever in force on two hosts**, also if a host is cut off, or ends and starts again with what it
 * remembers. What a host may use is not what it believes the store to say, but its *holding*, which it keeps in its own
 * store (`holding.ts`): the block, less the addresses that it has yielded, and single addresses. An endpoint comes into
 * force only with addresses of the holding. Holdings of two hosts share no address, because
 *
 *   1. A holding grows only by what the record says, and the record names one host. It grows when this daemon has written
 *      the record since it started, and nothing that it sent since to give something back can still arrive: such a
 *      transaction expects an older revision than the record has. What an earlier daemon has sent expects one older still.
 *   2. It shrinks first, durably, and the record follows: before a block is returned, before a single address is given
 *      back (`isFree`), and before one is yielded. So a daemon that starts again with old memories has less, never more.
 *   3. A host asks for an address of another host's block with a claim (`isAsked`), which gives it nothing. The host of
 *      the block has to yield the address and take `isAsked` away. While that one is cut off, nobody gets the address.
 *   4. Once the record has said so, a yielded address comes back only by a claim of the host that had it which gives it back
 *      (`isFree`, or `isAsked` again) and is newer, never because the record lacks the claim. So neither a lost record nor
 *      an old one gives it away: whoever holds something writes it into a record that is older than the holding. If that
 *      one names another host, the store was lost, and counts its revisions anew: what the holding has is that host's now.
 *
 * Removing a host (`without`) gives all that it has to others at once. It is the operator's word that the host is gone. If
 * it comes back nevertheless, it sees a newer record that names another host, and its endpoints lose their addresses.
 *
 * A deleted network takes only the blocks of the host that deletes it along. The others give theirs up when they know of it
 * (`left-blocks.ts`).
 *
 * An address that an endpoint gave back rests for a minute before another endpoint gets it. A single address rests with
 * the host that had it, which gives it back only then.
 */
import { WeftError } from '../../error.ts';
import { addressText, type AddressRange } from '../../model/address.ts';
import type { AddressClaim } from '../../model/records.ts';
import { joined, type Change, type Expectation, type Put, type Store, type Transaction } from '../../store/store.ts';
import { PlanAgain } from '../plan-again.ts';
import { eachInTurns, inTurns } from '../../turns.ts';
import { BlockPool } from './block-pool.ts';
import { BLOCKS, REST_MS } from './block.ts';
import { recordOf, type BlockContent, type Holding, type Want } from './holding.ts';
import { Holdings, spaceOf } from './holdings.ts';
import { leftError, leftIn, type Left } from './left-blocks.ts';
import type { Keys, Register } from '../register.ts';

const LOST =
  'its address belongs to another host now: unless it is moving there, detach it, and attach it again to get another one';

type SetClaim = (address: bigint, claim: AddressClaim | undefined) => void;

const OWN = 'holdings/';
/** How long a block stays with a host that does not use it. */
const IDLE_MS = 300_000;
/** How long a host has to answer when it is asked for an address. */
const ANSWER_MS = 3000;
/** How long a waiting endpoint does not ask again for an address that was refused. */
const ASK_AGAIN_MS = 60_000;
/** How many blocks are looked after, or compared with a listing, in one turn of the event loop. */
const KEPT_PER_TURN = 256;

export interface BlocksEnvironment {
  readonly store: Store;
  /** The store of this host alone. */
  readonly own: Store;
  readonly hostName: string;
  /**
   * What each change of a block of the network expects: that the network and this host are what they were, so that nothing
   * is claimed for ones that are gone. Undefined without the network.
   */
  readonly expectations: (network: string) => readonly Expectation[] | undefined;
  /** Endpoints of this host have lost an address. */
  readonly onLost: (endpoints: readonly string[], why: WeftError) => Promise<void>;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
  readonly warn: (message: string, details: object) => void;
}

export class Blocks implements Register {
  readonly prefix = BLOCKS;
  readonly #environment: BlocksEnvironment;
  readonly #holdings: Holdings;
  /** Those of which this host has, wants or remembers something. */
  readonly #own = new Set<Holding>();
  readonly #pools = new Map<string, BlockPool>();
  /** Those that there are, be it with records that this host does not accept. */
  readonly #networks = new Set<string>();
  readonly #waiting = new Set<() => void>();
  /** The pass that is running. */
  #passing: Promise<void> | undefined;
  #isWanted = false;
  #isStarted = false;
  #isClosed = false;
  /** Why the last pass has failed; undefined if it has not. */
  #toldWhy: string | undefined;

  constructor(environment: BlocksEnvironment) {
    this.#environment = environment;
    this.#holdings = new Holdings(environment.hostName);
  }

  /** Reads what an earlier daemon has kept. */
  async load(): Promise<void> {
    const now = this.#environment.clock();
    for (const { key, value } of (await this.#environment.own.list(OWN)).entries) {
      const holding = this.#holdings.atKey(BLOCKS + key.slice(OWN.length));
      holding?.fromOwn(value, now);
      if (holding) this.#own.add(holding);
    }
  }

  /** Called when everything declared is in force: only then does anybody know what this host needs of what it has. */
  start(): void {
    this.#isStarted = true;
    this.keepSoon();
  }

  /** The pool of a subnet. */
  pool(network: string, subnet: string): BlockPool {
    const pool = new BlockPool({
      network,
      subnet,
      holdings: this.#holdings,
      clock: this.#environment.clock,
      ask: (holding, address, endpoint) => this.ask(holding, address, endpoint),
      onNeed: (holding) => this.keepSoon(holding),
    });
    this.#pools.set(spaceOf(network, pool.addresses.first), pool);
    this.#networks.add(network);
    for (const holding of this.#holdings.known(network, pool.addresses.first).values()) this.#noteOwn(holding);
    return pool;
  }

  async see(changes: readonly Change[], revision: number): Promise<void> {
    const lost: string[] = [];
    for (const { key, entry } of changes) {
      const holding = this.#holdings.atKey(key);
      if (!holding) continue;
      holding.see(entry?.value, entry?.revision ?? 0, revision);
      lost.push(...(this.#poolOf(holding)?.lost(holding) ?? []));
      this.#noteOwn(holding);
      if (holding.isVoid) this.#holdings.delete(holding);
    }
    this.#tell();
    if (lost.length > 0) await this.#environment.onLost(lost, new WeftError('conflict', LOST));
    this.keepSoon();
  }

  async listed(keys: Keys, revision: number): Promise<void> {
    await eachInTurns(this.#holdings.all(), KEPT_PER_TURN, (holding) => {
      if (revision < holding.newest) holding.restart();
      if (!keys.has(holding.key)) holding.see(undefined, 0, revision);
    });
    this.keepSoon();
  }

  /** The record of a network is not accepted: what this host has of its blocks stays. */
  keepOf(network: string): void {
    this.#networks.add(network);
  }

  /** A network is gone. What this host has of its blocks is given up. */
  forget(network: string): void {
    for (const holding of this.#own) if (holding.network === network && holding.revision === 0) holding.clear();
    for (const [space, pool] of this.#pools) if (pool.network === network) this.#pools.delete(space);
    this.#networks.delete(network);
    this.keepSoon();
  }

  /**
   * What a transaction that deletes a network does about its blocks: this host gives up what it has of them, and so does
   * every other host when it knows of that (`left-blocks.ts`).
   */
  withoutNetwork(network: string): Transaction {
    const known = [...this.#holdings.all()].filter((holding) => holding.network === network && holding.revision > 0);
    const isNobodys = ({ isDamaged, content }: Holding): boolean =>
      isDamaged || (content.host === undefined && content.claimed.size === 0);
    const nobodys = known.filter(isNobodys);
    return joined(
      {
        expect: nobodys.map(({ key, revision }) => ({ key, revision })),
        delete: nobodys.map(({ key }) => key),
      },
      this.#without(
        this.#environment.hostName,
        known.filter((holding) => !isNobodys(holding)),
      ),
    );
  }

  /**
   * @param subnets of a new network @param exists whether there is a network of this name
   * @throws PlanAgain if another host still has addresses of them, from a network that was deleted
   */
  refuseLeft(name: string, subnets: readonly AddressRange[], exists: (network: string) => boolean): void {
    const left = (): Left | undefined => leftIn(this.#holdings.all(), name, subnets, exists);
    const first = left();
    if (!first) return;
    throw new PlanAgain(leftError(name, first), async () => {
      let isOver = false;
      const cancel = this.#environment.after(ANSWER_MS, () => {
        isOver = true;
        this.#tell();
      });
      while (left() && !isOver && !this.#isClosed) await new Promise<void>((resolve) => this.#waiting.add(resolve));
      cancel();
      const still = left();
      if (still) throw leftError(name, still);
    });
  }

  /** What a transaction that removes a host does about the blocks. */
  without(host: string): Transaction {
    return this.#without(host, this.#holdings.all());
  }

  #without(host: string, holdings: Iterable<Holding>): Transaction {
    const expect: { key: string; revision: number }[] = [];
    const put: Put[] = [];
    const deleted: string[] = [];
    for (const { key, revision, isDamaged, lastReadable: content } of holdings) {
      const isItsBlock = content.host === host;
      const isNobodys = isItsBlock || content.host === undefined;
      const isLeft = (claim: AddressClaim): boolean =>
        claim.host === host && (isNobodys || claim.isAsked === true || claim.isFree !== true);
      // The host that has it writes it anew.
      if (isDamaged && !isItsBlock && content.host !== undefined) continue;
      if (!isItsBlock && ![...content.claimed.values()].some(isLeft)) continue;
      const claimed = new Map(
        [...content.claimed].flatMap(([address, claim]): [bigint, AddressClaim][] => {
          if (claim.host !== host) return isItsBlock && claim.isFree ? [] : [[address, claim]];
          return isNobodys || claim.isAsked ? [] : [[address, { ...claim, isFree: true }]];
        }),
      );
      expect.push({ key, revision });
      if (isNobodys && claimed.size === 0) deleted.push(key);
      else put.push({ key, value: recordOf({ claimed, ...(!isNobodys && { host: content.host }) }) });
    }
    return { expect, put, delete: deleted };
  }

  /**
   * Asks for an address of another host's block. Resolves when this host may use it, or can claim it.
   * @throws WeftError if it gets none
   */
  async ask(holding: Holding, address: bigint, endpoint: string): Promise<void> {
    const { clock, after } = this.#environment;
    const asked = holding.content.host;
    if (asked === undefined || holding.mayUse(address)) return;
    const ip = `endpoint "${endpoint}": ip ${addressText(address)} is of a block of host "${asked}"`;
    const { isReachable, why } = this.#environment.store.health();
    if (!isReachable) {
      throw new WeftError(
        'unreachable',
        `${ip}, which cannot be asked while the store is away (${why}): choose another`,
      );
    }
    const known = holding.wants.get(address);
    // Several can ask at once, and all of them get the one answer.
    const want: Want =
      known?.isDeclared === false ? known : { endpoint, isDeclared: false, askedAt: 0, since: clock() };
    holding.wants.set(address, want);
    this.keepSoon(holding);
    let isOver = false;
    const cancel = after(ANSWER_MS, () => {
      isOver = true;
      this.#tell();
    });
    const isDone = (): boolean =>
      isOver ||
      this.#isClosed ||
      holding.isRefused(address, want) ||
      holding.mayUse(address) ||
      holding.content.host === undefined;
    while (!isDone()) await new Promise<void>((resolve) => this.#waiting.add(resolve));
    cancel();
    if (holding.mayUse(address) || holding.content.host === undefined) return;
    holding.wants.delete(address);
    this.keepSoon();
    const { [this.#environment.hostName]: _, ...others } = {
      [holding.content.claimed.get(address)?.host ?? this.#environment.hostName]: true,
    };
    const [other] = Object.keys(others);
    if (holding.isRefused(address, want) || other !== undefined) {
      const whose = other === undefined ? 'which does not give it away: an endpoint' : `and host "${other}"`;
      throw new WeftError('conflict', `${ip}, ${whose} has it, or had it less than a minute ago`);
    }
    // The question was not asked, which is no fault of that host.
    if (this.#toldWhy !== undefined)
      throw new WeftError('unreachable', `${ip}, which cannot be asked: ${this.#toldWhy}`);
    const mend = `choose another address, or remove that host for good with \`weft delete host ${asked}\``;
    throw new WeftError('unreachable', `${ip}, which does not answer: ${mend}`);
  }

  /** Called about once a second, and when something has changed. Never fails: what could not be done is tried again. */
  async keep(): Promise<void> {
    this.#isWanted = true;
    if (this.#isStarted) this.#passing ??= this.#passes();
    await this.#passing;
  }

  /** @param holding in which there is something new */
  keepSoon(holding?: Holding): void {
    if (holding) this.#own.add(holding);
    void this.keep();
  }

  /** Resolves when nothing is written any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#tell();
    await this.#passing;
  }

  async #passes(): Promise<void> {
    // Not within the call that has asked for it.
    await Promise.resolve();
    while (this.#isWanted && !this.#isClosed) {
      this.#isWanted = false;
      try {
        await this.#pass();
        this.#toldWhy = undefined;
      } catch (error) {
        const { message } = error as Error;
        if (message !== this.#toldWhy) this.#environment.warn('blocks of addresses wait', { error: message });
        this.#toldWhy = message;
      }
    }
    this.#passing = undefined;
  }

  async #pass(): Promise<void> {
    for (const pool of this.#pools.values()) {
      const ahead = pool.lookAhead();
      if (ahead) this.#own.add(ahead);
    }
    const now = this.#environment.clock();
    for await (const holding of inTurns([...this.#own], KEPT_PER_TURN)) {
      if (this.#isClosed) return;
      holding.rest(now, REST_MS);
      holding.askAgain(now, ASK_AGAIN_MS);
      await this.#step(holding);
    }
    await this.#save([...this.#own]);
    for (const holding of this.#own) {
      if (holding.concernsThisHost) continue;
      this.#own.delete(holding);
      // Without a subnet, nobody plans with it.
      if (holding.isVoid && !this.#poolOf(holding)) this.#holdings.delete(holding);
    }
  }

  /** Brings the record of a block to where it should be. */
  async #step(holding: Holding): Promise<void> {
    const { store, expectations } = this.#environment;
    if (holding.isBehind || !store.health().isReachable) return;
    if (!this.#networks.has(holding.network)) return this.#giveUp(holding);
    const others = expectations(holding.network);
    if (!others) return;
    const { key, revision } = holding;
    const wanted = this.#wanted(holding);
    if (!wanted) return;
    // What this host gives away leaves its own store first.
    await this.#save([holding]);
    const isNobodys = wanted.host === undefined && wanted.claimed.size === 0;
    try {
      const written = await store.transact({
        expect: [{ key, revision }, ...others],
        ...(isNobodys ? { delete: [key] } : { put: [{ key, value: recordOf(wanted) }] }),
      });
      holding.wrote(written);
      for (const [address, want] of holding.wants) {
        if (want.askedAt === 0 && wanted.claimed.get(address)?.host === this.#environment.hostName)
          want.askedAt = written;
      }
      this.#tell();
    } catch (error) {
      // Somebody has changed it meanwhile: what has to be done is found out again when that is seen.
      if (!(error instanceof WeftError) || error.code !== 'conflict') throw error;
    }
  }

  /** Gives back what this host has of a network that is gone: its own store forgets it first. */
  async #giveUp(holding: Holding): Promise<void> {
    if (holding.revision === 0) return;
    holding.clear();
    await this.#save([holding]);
    const transaction = this.#without(this.#environment.hostName, [holding]);
    if (transaction.expect?.length === 0) return;
    holding.leave();
    try {
      holding.wrote(await this.#environment.store.transact(transaction));
    } catch (error) {
      if (!(error instanceof WeftError) || error.code !== 'conflict') throw error;
    }
  }

  /** What the record should be; undefined if it is as it should be. Takes out of the holding what is given away. */
  #wanted(holding: Holding): BlockContent | undefined {
    const pool = this.#poolOf(holding);
    if (!pool) return undefined;
    const claimed = new Map(holding.content.claimed);
    let isChanged = holding.isDamaged && holding.heldAt !== undefined;
    const set: SetClaim = (address, claim) => {
      if (claim) claimed.set(address, claim);
      else claimed.delete(address);
      isChanged = true;
    };
    if (pool.isIdle(holding, IDLE_MS)) {
      holding.heldAt = undefined;
      holding.yielded.clear();
      holding.isChanged = true;
    }
    const host = this.#wantedHost(holding, pool);
    // A block that is this host's although it does not hold it is written anew if it is needed: then it does.
    const isUnheld = holding.heldAt === undefined && holding.content.host === this.#environment.hostName;
    isChanged ||= host !== holding.content.host || isUnheld;
    if (host === this.#environment.hostName) this.#answer(holding, pool, claimed, set);
    else this.#claimSingles(holding, host, claimed, set);
    if (!isChanged) return undefined;
    holding.leave();
    return { host, claimed };
  }

  #wantedHost(holding: Holding, pool: BlockPool): string | undefined {
    const { host } = holding.content;
    if (holding.heldAt !== undefined) return this.#environment.hostName;
    if (host !== undefined && host !== this.#environment.hostName) return host;
    const isNeeded =
      host === this.#environment.hostName ? holding.wants.size > 0 : !holding.isDamaged && pool.isAhead(holding);
    return isNeeded ? this.#environment.hostName : undefined;
  }

  /** What other hosts have, want and give back of a block of this host. */
  #answer(holding: Holding, pool: BlockPool, claimed: ReadonlyMap<bigint, AddressClaim>, set: SetClaim): void {
    for (const [address, { host, endpoint, isSure }] of holding.yielded) {
      if (isSure && !claimed.has(address)) set(address, { host, endpoint });
    }
    for (const [address, claim] of claimed) {
      const { host, endpoint } = claim;
      if (host === this.#environment.hostName || claim.isFree) set(address, undefined);
      if (host === this.#environment.hostName || !claim.isAsked || holding.heldAt === undefined) continue;
      if (holding.yielded.get(address)?.isSure || pool.isUsedHere(address, endpoint, holding)) {
        set(address, undefined);
        continue;
      }
      holding.yielded.set(address, { host, endpoint, at: holding.revision, isSure: false });
      holding.isChanged = true;
      set(address, { host, endpoint });
    }
  }

  /** What this host has, wants and gives back of a block that is not its own. @param host whose block it is */
  #claimSingles(
    holding: Holding,
    host: string | undefined,
    claimed: ReadonlyMap<bigint, AddressClaim>,
    set: SetClaim,
  ): void {
    const own = (endpoint: string): AddressClaim => ({ host: this.#environment.hostName, endpoint });
    for (const [address, claim] of claimed) {
      // Nobody else is left to take it.
      if (claim.isFree && host === undefined) set(address, undefined);
      if (claim.host !== this.#environment.hostName) continue;
      const wanted = this.#ownClaim(holding, address, claim, host);
      if (wanted !== claim) set(address, wanted);
    }
    for (const [address, { endpoint }] of holding.singles) if (!claimed.has(address)) set(address, own(endpoint));
    for (const [address, want] of holding.wants) {
      if (want.askedAt === 0 && !claimed.has(address)) {
        set(address, host === undefined ? own(want.endpoint) : { ...own(want.endpoint), isAsked: true });
      }
    }
  }

  #ownClaim(
    holding: Holding,
    address: bigint,
    claim: AddressClaim,
    host: string | undefined,
  ): AddressClaim | undefined {
    const { isAsked, ...granted } = claim;
    const isWanted = holding.wants.has(address);
    if (isAsked) return !isWanted ? undefined : host === undefined ? granted : claim;
    if (claim.isFree) return host === undefined ? undefined : claim;
    // One that it does not hold is written anew if it is needed: then it does.
    if (isWanted && !holding.singles.has(address)) return granted;
    if (holding.singles.has(address) && !this.#poolOf(holding)!.isOver(address, holding)) return claim;
    if (holding.singles.delete(address)) holding.isChanged = true;
    return host === undefined ? undefined : { ...granted, isFree: true };
  }

  /** Stores what this host holds. @throws WeftError if that fails */
  async #save(holdings: readonly Holding[]): Promise<void> {
    const changed = holdings.filter(({ isChanged }) => isChanged);
    if (changed.length === 0) return;
    for (const holding of changed) holding.isChanged = false;
    const records = changed.map((holding) => ({
      key: OWN + holding.key.slice(BLOCKS.length),
      value: holding.toOwn(),
    }));
    try {
      await this.#environment.own.transact({
        put: records.filter(({ value }) => value !== undefined),
        delete: records.filter(({ value }) => value === undefined).map(({ key }) => key),
      });
    } catch (error) {
      for (const holding of changed) holding.isChanged = true;
      throw error;
    }
  }

  /** Of a block outside of all subnets, there is nothing to do, however many somebody has written. */
  #noteOwn(holding: Holding): void {
    if (this.#poolOf(holding) && holding.concernsThisHost) this.#own.add(holding);
  }

  #tell(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const tell of waiting) tell();
  }

  #poolOf({ network, first }: Holding): BlockPool | undefined {
    const pool = this.#pools.get(spaceOf(network, first));
    return pool?.contains(addressText(first)) === true ? pool : undefined;
  }
}
