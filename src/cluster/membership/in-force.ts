/**
 * In force everywhere: which change of the state each host has in force, and how to wait for all of them.
 *
 * Each host publishes the revision that its datapath has in force (`presence.ts`). That is read here when somebody asks, and
 * followed only while somebody waits. A host that has not got that far is one of four:
 *
 *   lagging   its daemon runs: the store says so, and the tunnel to it works, or the lease has outlived the tunnel
 *   unknown   the same, but it cannot say what it has: the store is away from here, or takes nothing
 *   cut off   its lease has ended, but the tunnel to it works: it forwards by what it knows, and has not heard of the change
 *   down      neither: its endpoints have nothing in force any more
 *
 * Those that are down are named and not waited for: they learn what is in force when they come back.
 */
import { WeftError } from '../../error.ts';
import { unknownText } from '../../model/in-force.ts';
import { compareNames } from '../../model/name-order.ts';
import type { HostInForceReport, InForceReport } from '../../model/report.ts';
import type { Store } from '../../store/store.ts';
import { LEASE_MS } from './presence.ts';
import { PublishedRevisions } from './published-revisions.ts';

export interface InForceEnvironment {
  /** Where hosts publish what they have in force; undefined without a shared store. */
  readonly applied: Store | undefined;
  /** The name of this host. */
  readonly host: string;
  /** All hosts of the store, by name, and whether the store says that the daemon runs. */
  readonly hosts: () => readonly {
    readonly name: string;
    readonly isLive: boolean;
    readonly goneSinceMs?: number | undefined;
  }[];
  /** Whether the tunnel to a host works; undefined if that is not known. */
  readonly isReachable: (host: string) => boolean | undefined;
  /** For how long it has not worked, in milliseconds; undefined if it does, or if that is not known. */
  readonly unreachableMs: (host: string) => number | undefined;
  /** Why this host does not follow the store at the moment, or has something that the store does not have yet. */
  readonly isCutOff: () => string | undefined;
  /** While what others cannot say what they have in force, or this host cannot read it; undefined if they can. */
  readonly whyUnknown: () => string | undefined;
  /** For how long this host has been registered in the store without a break, in milliseconds. */
  readonly registeredMs: () => number;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
}

/** A lease lasts so long after the end of a daemon, at most: etcd begins to count anew if it gets another leader meanwhile. */
const LONGEST_LEASE_MS = 2 * LEASE_MS;
/** How often it is looked which hosts there are while somebody waits, besides when one has published something. */
const LOOK_MS = 250;

export class InForce {
  readonly #environment: InForceEnvironment;
  /** Everything up to this revision is in force here. */
  #revision = 0;
  /** The last change of the state up to there. Others, who have had that for long, may never have a reason to go on. */
  #latest = 0;
  /** The last change of the state that is in force here, or about to be. */
  #declared = 0;
  /** What the other hosts have; undefined without a shared store. */
  readonly #published: PublishedRevisions | undefined;

  constructor(environment: InForceEnvironment) {
    this.#environment = environment;
    this.#published = environment.applied && new PublishedRevisions(environment.applied);
  }

  /** The last change of the state that this host has in force. */
  get revision(): number {
    return this.#latest;
  }

  /** The tables of this host have everything up to that change of the state, and its datapath gets it. */
  declared(latest: number): void {
    this.#declared = latest;
  }

  /**
   * This host has it in force. It is less than before if the store was restored to that.
   * @param latest the last change of the state up to there
   */
  reached(revision: number, latest: number): void {
    this.#revision = revision;
    this.#latest = latest;
  }

  /** As it was when the hosts were asked last (`look`). */
  report(latest = this.#latest): InForceReport {
    const hosts = this.#environment
      .hosts()
      .map((host): HostInForceReport => this.#reportOf(host, latest))
      .sort((a, b) => compareNames(a.host, b.host));
    return { revision: latest, hosts };
  }

  /** Asks what the hosts have in force. @returns what this one has published @throws WeftError of the store */
  async look(): Promise<number | undefined> {
    await this.#published?.look();
    return this.#published?.of(this.#environment.host);
  }

  /**
   * Waits until everything that was applied here is in force on all hosts that are not down.
   * @param timeoutMs how long at most @param signal aborted when nobody waits any more @returns where it is @throws WeftError that names the hosts where it is not
   */
  async wait(timeoutMs: number, signal?: AbortSignal): Promise<InForceReport> {
    const { after } = this.#environment;
    const published = this.#published;
    if (!published) return this.report();
    let latest = this.#declared;
    let whyCutOff = this.#environment.isCutOff();
    const failure = (): string | undefined => {
      // What this host has written meanwhile had no revision before.
      if (whyCutOff !== undefined) latest = this.#declared;
      whyCutOff = this.#environment.isCutOff();
      return whyCutOff ?? missingText(this.report(latest));
    };
    let isOver = false;
    let wake = (): void => {};
    const end = (): void => {
      isOver = true;
      wake();
    };
    const cancel = after(timeoutMs, end);
    if (signal?.aborted) end();
    signal?.addEventListener('abort', end, { once: true });
    const unfollow = published.follow(() => wake());
    try {
      for (;;) {
        const woken = new Promise<void>((resolve) => (wake = resolve));
        await Promise.race([published.begun(), woken]);
        const why = failure();
        if (why === undefined) return this.report(latest);
        if (isOver)
          throw new WeftError('unreachable', `in force here, but after ${timeoutMs / 1000} s not everywhere: ${why}`);
        const stop = after(LOOK_MS, () => wake());
        await woken;
        stop();
      }
    } finally {
      cancel();
      signal?.removeEventListener('abort', end);
      unfollow();
    }
  }

  #reportOf(
    {
      name,
      isLive,
      goneSinceMs,
    }: { readonly name: string; readonly isLive: boolean; readonly goneSinceMs?: number | undefined },
    wanted: number,
  ): HostInForceReport {
    const { host, isCutOff, isReachable, registeredMs, unreachableMs, whyUnknown } = this.#environment;
    if (name === host) {
      const state = this.#latest >= wanted ? 'in force' : 'lagging';
      return { host: name, state, revision: this.#revision, behind: Math.max(0, wanted - this.#latest) };
    }
    const revision = this.#published?.of(name);
    const since = goneSinceMs === undefined ? {} : { since: new Date(goneSinceMs).toISOString() };
    const known = revision === undefined ? {} : { revision, behind: Math.max(0, this.#latest - revision) };
    // Whoever renews its lease runs, although nothing is heard from it here. While the store is away, no lease ends, and all
    // of them begin anew when it is back.
    const silentMs = Math.min(unreachableMs(name) ?? 0, registeredMs());
    const outlives = isCutOff() === undefined && silentMs > LONGEST_LEASE_MS;
    if (isLive && (isReachable(name) !== false || outlives)) {
      if ((revision ?? 0) >= wanted) return { host: name, state: 'in force', ...known };
      const why = whyUnknown();
      if (why === undefined) return { host: name, state: 'lagging', ...known };
      return { host: name, state: 'unknown', why, ...(revision !== undefined && { revision }) };
    }
    if (isLive) return { host: name, state: 'down', isLive, ...known };
    return { host: name, state: isReachable(name) ? 'cut off' : 'down', ...known, ...since };
  }
}

/** Undefined if it is in force on every host that is not down. */
function missingText({ hosts }: InForceReport): string | undefined {
  const named = (state: HostInForceReport['state']): string[] =>
    hosts
      .filter((one) => one.state === state)
      .map(({ host, since }) => `host "${host}"${since ? ` since ${since}` : ''}`);
  const [lagging, cutOff, down] = [named('lagging'), named('cut off'), named('down')];
  const unknown = unknownText(hosts);
  if (lagging.length === 0 && cutOff.length === 0 && unknown === undefined) return undefined;
  return [
    ...(unknown === undefined ? [] : [unknown]),
    ...(lagging.length > 0 ? [`${lagging.join(', ')} lags behind`] : []),
    ...(cutOff.length > 0 ? [`cut off from the store: ${cutOff.join(', ')}`] : []),
    ...(down.length > 0 ? [`down, and not waited for: ${down.join(', ')}`] : []),
  ].join('; ');
}
