/**
 * One block of addresses: what the store says of it (`record`), and what of it this host may use (its holding). `blocks.ts`
 * says why both are kept, and why no address is ever in the holdings of two hosts.
 *
 * Nothing is written here. What is added to a holding may be stored late. What leaves it must be stored in the host's own
 * store before others are told: `blocks.ts` does that.
 */
import { addressText, addressValue } from '../../model/address.ts';
import {
  blockRecord,
  holdingRecord,
  type AddressClaim,
  type BlockRecord,
  type HoldingRecord,
} from '../../model/records.ts';
import { SparseMap } from './sparse-map.ts';

/** What the store says of a block. The values of addresses are the keys of `claimed`. */
export interface BlockContent {
  /** The host whose block it is. */
  readonly host?: string | undefined;
  readonly claimed: ReadonlyMap<bigint, AddressClaim>;
}

/** An address that this host wants and may not use. */
export interface Want {
  readonly endpoint: string;
  /** True for an endpoint that is declared, and waits; false for one that is being planned. */
  readonly isDeclared: boolean;
  /** The revision of the transaction that has asked for it; 0 before. */
  askedAt: number;
  /** When that was, in milliseconds of the host's clock. */
  since: number;
}

type Yielded = HoldingRecord['yielded'][string];

interface Used {
  readonly endpoint: string;
  /** When its endpoint gave it back; undefined while it has it. */
  readonly freeSince: number | undefined;
  /** A container engine carries its interface, or had carried it. */
  readonly isCarried?: boolean;
  /** It has rested, and the own store does not know it any more. */
  readonly isForgotten?: boolean;
}

/** Stands for the host of a block whose record is not readable. */
const UNKNOWN = '?';

const EMPTY: BlockContent = { claimed: new Map() };

export class Holding {
  readonly key: string;
  readonly network: string;
  readonly first: bigint;
  readonly #host: string;
  /** What the store says; its revision is 0 if there is no record. */
  content: BlockContent = EMPTY;
  revision = 0;
  /** The record is not readable: nobody may claim the block, until the host that has it writes the record anew. */
  isDamaged = false;
  /** The host that the record named when it was last readable. */
  #hostBefore: string | undefined;
  /** The revision of the last change that was seen, and of the last one that this daemon has made. */
  #seenAt = 0;
  #wroteAt = 0;
  /** Until this revision, a transaction that gives something back may still be under way. */
  #leavingAt = 0;
  /** The revision at which the block was this host's; undefined if it is not. */
  heldAt: number | undefined;
  /** Addresses that other hosts have, and a revision from which on the record says so. */
  readonly yielded = new SparseMap<bigint, Yielded>();
  readonly singles = new SparseMap<bigint, { readonly endpoint: string; readonly at: number }>();
  readonly used = new SparseMap<bigint, Used>();
  readonly wants = new SparseMap<bigint, Want>();
  /** True if the own store does not have it as it is now. */
  isChanged = false;

  constructor(place: { readonly key: string; readonly network: string; readonly first: bigint }, host: string) {
    this.key = place.key;
    this.network = place.network;
    this.first = place.first;
    this.#host = host;
  }

  /** The one question: whether an endpoint of this host may have the address. */
  mayUse(value: bigint): boolean {
    return this.singles.has(value) || (this.heldAt !== undefined && !this.yielded.has(value));
  }

  /** What the record said when it was last readable. */
  get lastReadable(): BlockContent {
    return this.isDamaged ? { host: this.#hostBefore, claimed: this.content.claimed } : this.content;
  }

  /** True until what this daemon has written last was seen. */
  get isBehind(): boolean {
    return this.#wroteAt > this.#seenAt;
  }

  /** True if there is nothing to remember about it. */
  get isVoid(): boolean {
    return this.revision === 0 && !this.isBehind && !this.concernsThisHost;
  }

  /** The highest revision that this daemon knows of. */
  get newest(): number {
    return Math.max(this.#seenAt, this.#wroteAt, this.#leavingAt);
  }

  /** This daemon has written the record. It may have been seen already. */
  wrote(revision: number): void {
    this.#wroteAt = Math.max(this.#wroteAt, revision);
    this.#settle();
  }

  /** Something is given back in a transaction that expects the record as it is now. */
  leave(): void {
    this.#leavingAt = Math.max(this.#leavingAt, this.revision);
  }

  /** The store has another history, or an older state. What was under way to it before does not arrive any more. */
  restart(): void {
    this.#seenAt = 0;
    this.#wroteAt = 0;
    this.#leavingAt = 0;
  }

  /** Gives everything up. */
  clear(): void {
    this.isChanged ||= this.toOwn() !== undefined;
    this.heldAt = undefined;
    for (const map of [this.yielded, this.singles, this.used, this.wants]) map.clear();
  }

  /** Revisions have begun anew, and what the store says now is newer than what this host remembers. */
  #goBack(): void {
    this.restart();
    if (this.heldAt !== undefined) this.heldAt = 0;
    for (const [address, single] of this.singles) this.singles.set(address, { ...single, at: 0 });
    for (const [address, yielded] of this.yielded) this.yielded.set(address, { ...yielded, at: 0 });
  }

  /** Takes what the store says. @param value of the record; undefined if there is none @param revision of the change */
  see(value: unknown, entryRevision: number, revision: number): void {
    const content = value === undefined ? EMPTY : contentOf(value);
    const isAnew = entryRevision < this.revision || (content && this.#contradicts(content, entryRevision));
    if (entryRevision > 0 && isAnew) this.#goBack();
    if (!this.isDamaged) this.#hostBefore = this.content.host;
    this.isDamaged = content === undefined;
    this.content = content ?? { host: UNKNOWN, claimed: this.content.claimed };
    this.revision = entryRevision;
    // What is missing was deleted after whatever this daemon has written.
    this.#seenAt = entryRevision > 0 ? Math.max(revision, entryRevision) : Math.max(revision, this.#wroteAt);
    this.#settle();
  }

  /**
   * Whether the record says that others have what it gave to this host at that revision, or later. In one history it cannot,
   * so numbers have begun anew while this daemon did not run, or while there was no record: others may use that by now.
   */
  #contradicts({ host, claimed }: BlockContent, entryRevision: number): boolean {
    const isOthers = host !== undefined && host !== this.#host;
    if (isOthers && this.heldAt !== undefined && entryRevision <= this.heldAt) return true;
    return [...this.singles].some(([address, { at }]) => {
      const claim = claimed.get(address);
      return entryRevision <= at && (claim ? claim.host !== this.#host : isOthers);
    });
  }

  #settle(): void {
    if (this.isDamaged) return;
    this.#seeBlock();
    this.#seeClaims();
  }

  /** True if the host of the block has answered, and does not give the address away. */
  isRefused(address: bigint, { askedAt }: Want): boolean {
    const isOpen = this.content.claimed.get(address)?.host === this.#host || this.mayUse(address);
    return askedAt > 0 && this.#seenAt >= askedAt && !isOpen;
  }

  /** True if this host has something of the block, wants something, or remembers something. */
  get concernsThisHost(): boolean {
    const kept = this.yielded.size + this.singles.size + this.used.size + this.wants.size;
    if (this.heldAt !== undefined || kept > 0 || this.isChanged || this.content.host === this.#host) return true;
    return [...this.content.claimed.values()].some(({ host }) => host === this.#host);
  }

  /** True if nothing that would take away what this record gives can be under way, whatever became of earlier daemons. */
  get #isSettled(): boolean {
    return this.#wroteAt > 0 && this.revision >= this.#wroteAt && this.revision > this.#leavingAt;
  }

  #seeBlock(): void {
    const { host, claimed } = this.content;
    if (this.heldAt !== undefined && host !== undefined && host !== this.#host && this.revision > this.heldAt) {
      this.heldAt = undefined;
      this.yielded.clear();
      this.isChanged = true;
    }
    // Until this host has written it into the record again, others take the block for nobody's.
    if (host === undefined && this.heldAt !== undefined) this.#yieldClaimed();
    if (host !== this.#host) return;
    if (this.heldAt === undefined && !this.#isSettled) return;
    if (this.heldAt !== this.revision) this.isChanged = true;
    this.heldAt = this.revision;
    // What was claimed out of the block before it became this host's is a part of it now.
    this.singles.clear();
    this.#yieldClaimed();
    for (const [address, { host: other, at, isSure }] of this.yielded) {
      if (at >= this.revision) continue;
      const claim = claimed.get(address);
      // If it was never said, it cannot be said any more: the record has changed since.
      if (!isSure || (claim?.host === other && (claim.isAsked || claim.isFree))) this.yielded.delete(address);
    }
  }

  /** What the record says that other hosts have of the block of this host. */
  #yieldClaimed(): void {
    for (const [address, { host, endpoint, isAsked, isFree }] of this.content.claimed) {
      if (host === this.#host || isAsked || isFree) continue;
      const known = this.yielded.get(address);
      if (known?.isSure && known.at === this.revision) continue;
      this.yielded.set(address, { host, endpoint, at: this.revision, isSure: true });
      this.isChanged = true;
    }
  }

  #seeClaims(): void {
    const { claimed } = this.content;
    for (const [address, { at }] of this.singles) {
      const claim = claimed.get(address);
      if (claim?.host === this.#host || this.revision <= at) continue;
      if (claim || this.content.host !== undefined) {
        this.singles.delete(address);
        this.isChanged = true;
      }
    }
    for (const [address, claim] of claimed) {
      if (claim.host !== this.#host || claim.isAsked || claim.isFree || this.heldAt !== undefined) continue;
      const known = this.singles.get(address);
      if (!known && !this.#isSettled) continue;
      if (known?.at === this.revision) continue;
      // Whoever had it here before does not say how long the endpoint that it is claimed for may take to come.
      if (!known && this.used.get(address)?.freeSince !== undefined) this.used.delete(address);
      this.singles.set(address, { endpoint: known?.endpoint ?? claim.endpoint, at: this.revision });
      this.isChanged = true;
    }
  }

  /**
   * An endpoint of this host has the address.
   * @param isCarried a container engine carries its interface: what gives it back may be the last that this daemon does
   */
  use(address: bigint, endpoint: string, isCarried = false): void {
    const known = this.used.get(address);
    const isKnown = known?.endpoint === endpoint && known.freeSince === undefined;
    if (isKnown && (known.isCarried ?? false) === isCarried) return;
    this.used.set(address, { endpoint, freeSince: undefined, ...(isCarried && { isCarried }) });
    this.isChanged = true;
  }

  /** The endpoint has given it back. @param isCarried a container engine had carried its interface, or would have */
  free(address: bigint, now: number, isCarried = false): void {
    const used = this.used.get(address);
    if (!used) return;
    this.used.set(address, { ...used, freeSince: now, ...(isCarried && { isCarried }) });
    this.isChanged ||= isCarried;
  }

  /** The endpoint that had it has never used it. */
  forget(address: bigint): void {
    if (this.used.delete(address)) this.isChanged = true;
  }

  /** For how many milliseconds `endpoint` has to wait for the address; undefined stands for any other one. */
  restsFor(address: bigint, endpoint: string | undefined, now: number, restMs: number): number {
    const used = this.used.get(address);
    if (used?.freeSince === undefined || used.endpoint === endpoint) return 0;
    return Math.max(0, used.freeSince + restMs - now);
  }

  /** Forgets who had addresses that have rested. */
  rest(now: number, restMs: number): void {
    for (const [address, used] of this.used) {
      if (used.freeSince === undefined || used.isForgotten || now - used.freeSince < restMs) continue;
      this.used.set(address, { ...used, isForgotten: true });
      this.isChanged = true;
    }
  }

  /** Forgets wants of plans that came to nothing, and asks anew for endpoints that wait. */
  askAgain(now: number, afterMs: number): void {
    for (const [address, want] of this.wants) {
      if (now - want.since <= afterMs) continue;
      if (want.isDeclared) Object.assign(want, { askedAt: 0, since: now });
      else this.wants.delete(address);
    }
  }

  /** Undefined if there is nothing to keep. */
  toOwn(): HoldingRecord | undefined {
    const text = <T, U>(map: Iterable<[bigint, T]>, of: (one: T) => U): Record<string, U> =>
      Object.fromEntries([...map].map(([address, one]) => [addressText(address), of(one)]));
    const used = new Map([...this.used].filter(([, { isForgotten }]) => !isForgotten));
    if (this.heldAt === undefined && this.singles.size + this.yielded.size + used.size === 0) return undefined;
    const carried = [...used].filter(([, { isCarried }]) => isCarried).map(([address]) => addressText(address));
    return {
      ...(this.heldAt !== undefined && { heldAt: this.heldAt }),
      yielded: text(this.yielded, (one) => one),
      singles: text(this.singles, (one) => one),
      used: text(used, ({ endpoint }) => endpoint),
      ...(carried.length > 0 && { carried }),
    };
  }

  /** @param now everything that was in use counts as given back now, until its endpoint is in force again */
  fromOwn(value: unknown, now: number): void {
    const { heldAt, yielded, singles, used, carried = [] } = holdingRecord.parse(value);
    this.heldAt = heldAt;
    for (const [text, claim] of Object.entries(yielded)) this.yielded.set(addressValue(text), claim);
    for (const [text, single] of Object.entries(singles)) this.singles.set(addressValue(text), single);
    for (const [text, endpoint] of Object.entries(used)) {
      const isCarried = carried.includes(text);
      this.used.set(addressValue(text), { endpoint, freeSince: now, ...(isCarried && { isCarried }) });
    }
  }
}

/** Undefined if it is not readable. */
function contentOf(value: unknown): BlockContent | undefined {
  const { data } = blockRecord.safeParse(value);
  if (!data) return undefined;
  const claims = Object.entries(data.claimed);
  const claimed = new Map(claims.map(([text, claim]) => [addressValue(text), claim]));
  return { host: data.host, claimed: claims.length === 0 ? EMPTY.claimed : claimed };
}

export function recordOf({ host, claimed }: BlockContent): BlockRecord {
  return {
    ...(host !== undefined && { host }),
    claimed: Object.fromEntries([...claimed].map(([address, claim]) => [addressText(address), claim])),
  };
}
