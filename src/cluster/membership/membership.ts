/**
 * This host as one of those that share a store: registered (`registration.ts`), present (`presence.ts`), and with what it and
 * the others have in force (`in-force.ts`). Without a shared store, it is alone, and everything is in force when it is here.
 */
import type { ProcessIdentity } from '../../model/records.ts';
import type { HostReport, InForceReport } from '../../model/report.ts';
import type { Store } from '../../store/store.ts';
import type { Hosts } from './hosts.ts';
import { InForce } from './in-force.ts';
import { LiveHosts } from './live-hosts.ts';
import { Presence, type PresenceReport } from './presence.ts';
import { ANSWERS_QUESTIONS, type OtherHost } from './questions.ts';
import { isAnother, Registration } from './registration.ts';

export interface MembershipEnvironment {
  /** Undefined if no store is shared. */
  readonly shared: { readonly store: Store; readonly applied: Store } | undefined;
  readonly own: Store;
  readonly hosts: () => Pick<Hosts, 'registered' | 'isTaken'>;
  /** The name of this host. */
  readonly host: string;
  /** Of this host, hexadecimal. */
  readonly id: string;
  readonly version: string;
  readonly process: ProcessIdentity;
  /** The path of the state directory. */
  readonly state: string;
  /** The underlay address of this host; undefined while it is not known. */
  readonly underlay: () => string | undefined;
  /** The MTU of the underlay; undefined while it is not known. */
  readonly mtu: () => Promise<number | undefined>;
  /** Why nothing may be written to the store now. */
  readonly mustWait: () => string | undefined;
  /** Whether the store has everything of this host as it is in force here. */
  readonly isStored: () => boolean;
  /** Whether the tunnel to a host works; undefined if that is not known. */
  readonly isReachable: (host: string) => boolean | undefined;
  /** For how long it has not worked, in milliseconds; undefined if it does, or if that is not known. */
  readonly unreachableMs: (host: string) => number | undefined;
  /** Undefined if it cannot be seen from here. */
  readonly isRunning: (process: ProcessIdentity) => boolean | undefined;
  /** 3 random bytes. */
  readonly randomHostId: () => Uint8Array;
  /** Gives this host the MAC that these 3 bytes make. */
  readonly setHostId: (hostId: Uint8Array) => void;
  /** Resolves when the datapath has everything in force that the tables have. */
  readonly settled: () => Promise<void>;
  /** Resolves when this host would have after a crash what it has in force (`Feed.kept`). */
  readonly kept: () => Promise<void>;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
  readonly onChange: (report: PresenceReport) => void;
}

/** What hosts of this version can do. */
const CAPABILITIES = ['move', ANSWERS_QUESTIONS];
const HOST_ID = 'host-mac';
const HOST_ID_BYTES = 3;
/** How often `status` asks what the other hosts have in force: the less often the more there are. */
const LOOK_MS = { least: 2000, perHost: 50 };

export class Membership {
  readonly live: LiveHosts;
  readonly inForce: InForce;
  readonly #environment: MembershipEnvironment;
  readonly #presence: Presence | undefined;
  #mac: string;
  #mtu: number | undefined;
  #cancelLook = (): void => {};
  /** What the tables have, and the datapath and the copy are to have; undefined if nothing is newer than what is waited for. */
  #newest: { readonly revision: number; readonly latest: number } | undefined;
  /** While the copy cannot be written, nothing is reached, and news go on coming: one waits for all of them. */
  #isReaching = false;
  #isClosed = false;

  constructor(environment: MembershipEnvironment) {
    this.#environment = environment;
    const { shared, host, after } = environment;
    this.#mac = environment.id.slice(0, 2 * HOST_ID_BYTES);
    this.live = new LiveHosts({ ...environment, onOwnGone: () => this.lost() });
    this.inForce = new InForce({
      applied: shared?.applied,
      host,
      hosts: () =>
        environment
          .hosts()
          .registered()
          .map((name) => ({
            name,
            isLive: this.live.find(name) !== undefined,
            goneSinceMs: this.live.goneSinceMs(name),
          })),
      isReachable: environment.isReachable,
      unreachableMs: environment.unreachableMs,
      isCutOff: () => this.#whyCutOff(),
      whyUnknown: () => this.#whyUnknown(),
      registeredMs: () => this.#presence?.registeredMs ?? 0,
      after,
    });
    this.#presence = shared && this.#presenceIn(shared);
  }

  /** Null if no store is shared. */
  get report(): PresenceReport | null {
    return this.#presence?.report ?? null;
  }

  /** For records that go with this host; undefined while it is not registered. */
  get lease(): string | undefined {
    return this.#presence?.lease;
  }

  /** Null if no store is shared. */
  get inForceReport(): InForceReport | null {
    return this.#presence ? this.inForce.report() : null;
  }

  /** The same, after the hosts have been asked anew, as far as the store answers. */
  async lookInForce(): Promise<InForceReport | null> {
    await this.inForce.look().catch(() => {});
    return this.inForceReport;
  }

  /** Whether it has been decided once if this host may be one of those that share the store. */
  get isDecided(): boolean {
    return this.#presence?.isDecided ?? true;
  }

  /** Why this host must not write to the store: it shares with another host what it must not, or may do so. */
  get whyBarred(): string | undefined {
    const why = this.#presence?.whyBarred;
    if (!this.#presence || why !== undefined) return why;
    // It may be known before the next attempt to register, which says more.
    const { host, hosts, process, isRunning } = this.#environment;
    if (hosts().isTaken) {
      return `the name "${host}" belongs to another host by now, which has registered itself: choose another one with --host`;
    }
    const running = this.live.find(host);
    const isOther = running !== undefined && isAnother(running, process, isRunning);
    return isOther ? `host "${host}" runs elsewhere since ${running.startedAt}` : undefined;
  }

  /** What is known of each of the other hosts of the store, by name. */
  describe(): ReadonlyMap<string, Pick<HostReport, 'id' | 'version' | 'inForce'>> {
    if (!this.#presence) return new Map();
    return new Map(
      this.inForce.report().hosts.map(({ host, ...inForce }) => {
        const record = this.live.find(host);
        return [host, { ...(record && { id: record.id, version: record.version }), inForce }];
      }),
    );
  }

  /** The other hosts of the store, for whoever asks them. */
  others(): OtherHost[] {
    const others = this.inForce.report().hosts.filter(({ host }) => host !== this.#environment.host);
    return others.map(({ host, state }) => {
      const canAnswer = this.live.find(host)?.capabilities.includes(ANSWERS_QUESTIONS) ?? false;
      const isThere = state !== 'down' && state !== 'cut off';
      return {
        name: host,
        why: !isThere ? `it is ${state}` : canAnswer ? undefined : 'its version of weft does not answer',
      };
    });
  }

  /** True if a host of the store is known not to run. That its tunnel is down may be so from here alone. */
  isDown(host: string): boolean {
    return this.whyAlive(host) === undefined;
  }

  /** Why a host of the store is not gone; undefined if it is. */
  whyAlive(host: string): string | undefined {
    const record = this.live.find(host);
    if (record) return `runs since ${record.startedAt}`;
    return this.#environment.isReachable(host) ? 'runs, although it is cut off from the store' : undefined;
  }

  /** What of other hosts does not fit to this one. */
  differences(): { readonly detail: string; readonly hint: string }[] {
    return this.#presence ? this.live.differences(this.#mtu) : [];
  }

  /** @throws WeftError if this host shares with another what it must not */
  async start(): Promise<void> {
    if (!this.#presence) return;
    const kept = await this.#environment.own.get(HOST_ID);
    if (kept) {
      this.#mac = kept.value as string;
      this.#environment.setHostId(Buffer.from(this.#mac, 'hex'));
    }
    await this.#presence.start();
    this.#lookLater();
  }

  /** The state is in force in the tables up to this revision. @param latest its last change that is known */
  reached(revision: number, latest: number): void {
    this.inForce.declared(latest);
    this.#newest = { revision, latest };
    if (!this.#isReaching) void this.#reach();
  }

  async #reach(): Promise<void> {
    const { settled, kept } = this.#environment;
    this.#isReaching = true;
    try {
      while (this.#newest) {
        const { revision, latest } = this.#newest;
        this.#newest = undefined;
        await Promise.all([settled(), kept()]);
        this.inForce.reached(revision, latest);
        this.#presence?.applied(revision);
      }
    } finally {
      this.#isReaching = false;
    }
  }

  /** The underlay may have another address. */
  moved(): void {
    this.#presence?.moved();
  }

  /** Somebody has deleted what this host has registered: it does so again. */
  lost(): void {
    this.#presence?.lost();
  }

  /** This host is to be taken out of the store. It does not register itself again, and to others it does not run any more. */
  async leave(): Promise<void> {
    await this.#presence?.close({ retain: false });
  }

  /** With `retain`, another daemon of this host goes on. Otherwise, the others know at once that this one has ended. */
  async close({ retain = false } = {}): Promise<void> {
    this.#isClosed = true;
    this.#cancelLook();
    await this.#presence?.close({ retain });
  }

  #presenceIn({ store, applied }: { readonly store: Store; readonly applied: Store }): Presence {
    const { wallClock, own, setHostId, hosts, mtu, randomHostId } = this.#environment;
    const now = (): string => new Date(wallClock()).toISOString();
    const registration = new Registration({
      ...this.#environment,
      store,
      mac: () => this.#mac,
      keepMac: async (mac) => {
        await own.transact({ put: [{ key: HOST_ID, value: mac }] });
        this.#mac = mac;
        setHostId(Buffer.from(mac, 'hex'));
      },
      randomMac: () => Buffer.from(randomHostId()).toString('hex'),
      now,
    });
    return new Presence({
      ...this.#environment,
      store,
      applied,
      registration,
      capabilities: CAPABILITIES,
      startedAt: now(),
      mtu: async () => (this.#mtu = await mtu()),
      hosts: () => hosts().registered().length,
    });
  }

  #whyCutOff(): string | undefined {
    const { shared } = this.#environment;
    if (!shared || !this.#presence) return undefined;
    const { isReachable, why } = shared.store.health();
    const { state, why: whyNot } = this.#presence.report;
    if (isReachable && state === 'registered') {
      return this.#environment.isStored()
        ? undefined
        : 'the store does not have yet what this host wrote while it was away';
    }
    return `this host itself is cut off from the store: ${(isReachable ? whyNot : why) ?? 'it does not answer'}`;
  }

  #whyUnknown(): string | undefined {
    const { shared, mustWait } = this.#environment;
    const { isReachable, takesNothing } = shared?.store.health() ?? { isReachable: true };
    if (!isReachable) return 'the store is away';
    if (mustWait() !== undefined) return 'this host does not use the store';
    return takesNothing === undefined ? undefined : 'the store takes nothing';
  }

  #lookLater(): void {
    if (this.#isClosed) return;
    const delayMs = Math.max(LOOK_MS.least, LOOK_MS.perHost * this.#environment.hosts().registered().length);
    this.#cancelLook = this.#environment.after(delayMs, () => {
      void this.inForce
        .look()
        .then(
          (published) => this.#presence?.seen(published),
          () => {},
        )
        .then(() => this.#lookLater());
    });
  }
}
