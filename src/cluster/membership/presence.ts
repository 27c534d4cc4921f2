/**
 * The presence of this host in a shared store: it is registered, its daemon is known to run, and it says what it has in force.
 *
 *   1. a lease is granted, and this host registers with it (`registration.ts`)
 *   2. the lease is kept alive; when it has ended, all begins again
 *   3. `applied/NAME` is written under the lease when something new is in force, at most once at a time, and the less often
 *      the more hosts there are
 *
 * Nothing else waits for any of this. While the store is away it is tried again. A host that is refused goes on with what it
 * has in force, writes nothing, and says why.
 */
import { WeftError } from '../../error.ts';
import type { LiveRecord, ProcessIdentity } from '../../model/records.ts';
import type { Store } from '../../store/store.ts';
import { HostClash, StillThere, type Registration } from './registration.ts';

export interface PresenceEnvironment {
  readonly store: Store;
  /** Where hosts publish what they have in force; hosts do not follow it. */
  readonly applied: Store;
  readonly registration: Pick<Registration, 'register'>;
  readonly host: string;
  readonly id: string;
  readonly version: string;
  readonly capabilities: readonly string[];
  readonly process: ProcessIdentity;
  readonly startedAt: string;
  /** Undefined while it is not known. */
  readonly underlay: () => string | undefined;
  /** The MTU of the underlay; undefined while it is not known. */
  readonly mtu: () => Promise<number | undefined>;
  /** Why nothing may be written to the store now; undefined if it may be. */
  readonly mustWait: () => string | undefined;
  /** How many hosts share the store. */
  readonly hosts: () => number;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
  /** Called when the state has changed, or has another reason than it had before, but for a start that is refused. */
  readonly onChange: (report: PresenceReport) => void;
}

export interface PresenceReport {
  /** `refused` until an operator mends it; `waiting` until the store is reachable, or something else is known. */
  readonly state: 'registered' | 'waiting' | 'refused';
  readonly why?: string;
}

/** How long a start waits for the store. */
const FIRST_ANSWER_MS = 1000;
/** How long a host that is gone counts as running: longer than an event loop ever stalls. */
export const LEASE_MS = 15_000;
const RENEW_MS = LEASE_MS / 3;
const RETRY_MS = 1000;
/** How long another record with this host's name may stay before it is another machine's. */
const MOST_WAITED_MS = LEASE_MS + 10_000;
/** A refusal is looked at again, since it is mended elsewhere. */
const REFUSED_MS = 10_000;
/** How often the record is written anew, so that others see the clock and the MTU of today. */
const REFRESH_MS = 60_000;
/** How many writes a second all hosts together make to publish what they have in force. */
const PUBLISHED_PER_SECOND = 200;

/** How many reasons for waiting are remembered as told. */
const MOST_TOLD = 16;

export class Presence {
  readonly #environment: PresenceEnvironment;
  #report: PresenceReport = { state: 'waiting', why: 'not registered yet' };
  /** Reasons of this state that were told: some alternate from second to second. */
  readonly #toldWhys = new Set<string | undefined>();
  #registeredSinceMs: number | undefined;
  #lease: string | undefined;
  #registeredAs: string | undefined;
  #refreshAtMs = 0;
  /** When a record that may be this host's before its reboot was first seen. */
  #stillThereSince: number | undefined;
  #isDecided = false;
  #working: Promise<void> | undefined;
  #cancel = (): void => {};
  /** Whoever starts is told by `start` itself why it is refused. */
  #isStarting = false;
  #isClosed = false;
  /** The revision that is in force, and the one that others have been told. */
  #inForce = 0;
  #published = 0;
  #publishing: Promise<void> | undefined;
  #cancelPublish: (() => void) | undefined;

  constructor(environment: PresenceEnvironment) {
    this.#environment = environment;
  }

  get report(): PresenceReport {
    return this.#report;
  }

  /** Under which this host is registered; undefined while it is not. */
  get lease(): string | undefined {
    return this.#registeredAs === undefined ? undefined : this.#lease;
  }

  /** For how long this host has been registered without a break, in milliseconds; 0 while it is not. */
  get registeredMs(): number {
    return this.#registeredSinceMs === undefined ? 0 : this.#environment.clock() - this.#registeredSinceMs;
  }

  /** Whether it has been decided once if this host may be one of those that share the store. */
  get isDecided(): boolean {
    return this.#isDecided;
  }

  /** Why this host must not write anything: it is refused, or another daemon may run under its name. */
  get whyBarred(): string | undefined {
    const isBarred = this.#report.state === 'refused' || this.#stillThereSince !== undefined;
    return isBarred ? this.#report.why : undefined;
  }

  /**
   * Tries once, and goes on with it from then on. Returns before that is decided if the store does not answer soon. Whoever has
   * begun to follow the store has waited for it: if it has not answered by now, this does not wait once more.
   * @throws WeftError if this host shares with another what it must not
   */
  async start(): Promise<void> {
    let cancel = (): void => {};
    const late = new Promise<void>((resolve) => (cancel = this.#environment.after(FIRST_ANSWER_MS, resolve)));
    this.#isStarting = true;
    const kept = this.#keep();
    if (this.#environment.store.health().isReachable) await Promise.race([kept, late]);
    this.#isStarting = false;
    cancel();
    if (this.#report.state === 'refused') throw new WeftError('conflict', this.#report.why!);
  }

  /** This revision of the state is in force. It is less than before if the store was restored to that. */
  applied(revision: number): void {
    this.#inForce = revision;
    this.#publish();
  }

  /** It was looked what all hosts have published: somebody may have deleted what this one has, or a restore has put an older one there. */
  seen(published: number | undefined): void {
    if (published === this.#published || this.#publishing) return;
    this.#published = 0;
    this.#publish();
  }

  /** The underlay has another address: it is registered at once. */
  moved(): void {
    if (this.#registeredAs !== undefined && this.#environment.underlay() !== this.#registeredAs) void this.#keep();
  }

  /** What it has registered is not in the store any more, in part or as a whole. */
  lost(): void {
    if (this.#registeredAs === undefined || this.#isClosed) return;
    this.#registeredAs = undefined;
    this.#tell({ state: 'waiting', why: 'what it has registered is not in the store any more' });
    void this.#keep();
  }

  /** Nothing is written any more. */
  async stop(): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    this.#cancelPublish?.();
    await Promise.all([this.#working, this.#publishing]);
  }

  /** With `retain`, another daemon goes on. Otherwise, other hosts know at once that this one has ended. */
  async close({ retain }: { readonly retain: boolean }): Promise<void> {
    await this.stop();
    const { store } = this.#environment;
    if (!retain && this.#lease !== undefined && store.health().isReachable)
      await store.revoke(this.#lease).catch(() => {});
  }

  /** Never throws. Calls during another one wait for that one. */
  #keep(): Promise<void> {
    this.#cancel();
    if (this.#isClosed) return Promise.resolve();
    return (this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
      if (!this.#isClosed) this.#cancel = this.#environment.after(this.#nextMs(), () => void this.#keep());
    }));
  }

  #nextMs(): number {
    return { registered: RENEW_MS, waiting: RETRY_MS, refused: REFUSED_MS }[this.#report.state];
  }

  async #work(): Promise<void> {
    const { store, underlay, clock } = this.#environment;
    const address = underlay();
    if (address === undefined) {
      // It may never be known, and what this host has written must not wait for ever.
      this.#isDecided = true;
      return this.#tell({ state: 'waiting', why: 'the underlay address is not known: give it with --underlay' });
    }
    const why = this.#environment.mustWait();
    if (why !== undefined) return this.#tell({ state: 'waiting', why });
    try {
      if (this.#lease !== undefined && !(await this.#renewed(this.#lease))) {
        this.#forgetLease();
        // What else was under it has gone with it: whoever wrote that is told when there is another one.
        this.#tell({ state: 'waiting', why: 'its lease has ended: this host was not heard of for too long' });
      }
      // A store that took nothing is asked again by writing.
      const isDue = clock() >= this.#refreshAtMs || store.health().takesNothing !== undefined;
      if (this.#lease !== undefined && this.#registeredAs === address && !isDue) {
        return this.#tell({ state: 'registered' });
      }
      this.#lease ??= await store.grant(LEASE_MS);
      // What had to wait for a connection may have come to another store than before.
      const whyStill = this.#environment.mustWait();
      if (whyStill !== undefined) return this.#tell({ state: 'waiting', why: whyStill });
      await this.#register(address, this.#lease);
    } catch (error) {
      await this.#fail(error as Error);
    }
  }

  async #renewed(lease: string): Promise<boolean> {
    try {
      await this.#environment.store.keepAlive(lease);
      return true;
    } catch (error) {
      if (error instanceof WeftError && error.code === 'not_found') return false;
      throw error;
    }
  }

  async #register(address: string, lease: string): Promise<void> {
    const { registration, host, id, version, capabilities, process, startedAt, mtu, clock, wallClock } =
      this.#environment;
    const underlayMtu = await mtu();
    const live: LiveRecord = {
      ...{ host, id, version, capabilities: [...capabilities], process, startedAt, clock: wallClock() },
      ...(underlayMtu !== undefined && { mtu: underlayMtu }),
    };
    const waitedMs = clock() - (this.#stillThereSince ?? clock());
    await registration.register(address, live, lease, { mayWait: waitedMs < MOST_WAITED_MS });
    this.#registeredAs = address;
    this.#refreshAtMs = clock() + REFRESH_MS;
    this.#stillThereSince = undefined;
    this.#tell({ state: 'registered' });
    this.#publish();
  }

  async #fail(error: Error): Promise<void> {
    if (error instanceof StillThere) this.#stillThereSince ??= this.#environment.clock();
    if (error instanceof StillThere || error instanceof HostClash) {
      // What it has not registered with is of no use, and must not keep anything alive.
      const lease = this.#lease;
      this.#forgetLease();
      if (lease !== undefined) await this.#environment.store.revoke(lease).catch(() => {});
    }
    if (error instanceof HostClash) return this.#tell({ state: 'refused', why: error.message });
    const isKept = this.#registeredAs !== undefined && !this.#environment.store.health().isReachable;
    const before = isKept ? 'registered until the store went away, and again when it is back: ' : '';
    this.#tell({ state: 'waiting', why: `${before}${error.message}` });
  }

  #forgetLease(): void {
    this.#lease = undefined;
    this.#registeredAs = undefined;
    this.#published = 0;
  }

  #tell(report: PresenceReport): void {
    if (report.state !== this.#report.state) this.#toldWhys.clear();
    const isNews = report.state !== this.#report.state || !this.#toldWhys.has(report.why);
    if (isNews && this.#toldWhys.size >= MOST_TOLD) this.#toldWhys.clear();
    this.#toldWhys.add(report.why);
    this.#report = report;
    this.#isDecided ||= report.state !== 'waiting';
    if (report.state !== 'registered') this.#registeredSinceMs = undefined;
    else this.#registeredSinceMs ??= this.#environment.clock();
    if (isNews && !(this.#isStarting && report.state === 'refused')) this.#environment.onChange(report);
  }

  #publish(): void {
    const isDue = this.#inForce !== this.#published && this.#registeredAs !== undefined;
    if (!isDue || this.#isClosed || this.#publishing || this.#cancelPublish) return;
    this.#publishing = this.#put().then((isWritten) => {
      this.#publishing = undefined;
      if (this.#isClosed) return;
      const delayMs = isWritten ? (1000 * this.#environment.hosts()) / PUBLISHED_PER_SECOND : RETRY_MS;
      this.#cancelPublish = this.#environment.after(delayMs, () => {
        this.#cancelPublish = undefined;
        this.#publish();
      });
    });
  }

  /** Never throws. @returns false if it could not be written */
  async #put(): Promise<boolean> {
    const { applied, host } = this.#environment;
    const [revision, lease] = [this.#inForce, this.#lease];
    if (lease === undefined) return false;
    try {
      await applied.transact({ put: [{ key: host, value: { revision }, lease }] });
      this.#published = revision;
      return true;
    } catch {
      // The lease has ended, or the store is away: `#keep` notices both.
      return false;
    }
  }
}
