/**
 * The connection to an etcd cluster: one session at a time, with one of its members.
 *
 *   1. the members are tried in turn, beginning with any of them
 *   2. the first one that answers is used until the session is lost (session.ts says when that is)
 *   3. then the next member is tried at once; after all have failed there is a pause, longer each time, with jitter
 *
 * A call waits for a session, and again for the next one, as long as it may take. Where a lost answer cannot be asked for
 * again (a transaction), the error says so. Credentials are read from their files for each session, so that they can be
 * renewed.
 */
import { promises as dns } from 'node:dns';
import { isIP } from 'node:net';
import { status } from '@grpc/grpc-js';
import { WeftError } from '../../error.ts';
import { unansweredError, type StoreHealth } from '../store.ts';
import { Failure, whyText, type Access } from './failure.ts';
import type * as etcd from './messages.ts';
import { hostOf, Session, type SessionOptions } from './session.ts';

export interface EtcdConnectionOptions extends Omit<SessionOptions, 'endpoint' | 'credentials'> {
  /** At least one. */
  readonly endpoints: readonly string[];
  /** All keys begin with it. */
  readonly prefix: string;
  /** @throws WeftError if the files cannot be used */
  readonly credentials: (host: string) => SessionOptions['credentials'];
  readonly tls: Access['tls'];
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly onWarning: (message: string) => void;
}

const BACKOFF = { leastMs: 100, mostMs: 2000 };
/** The pause before a call is made again that a member has no time for. */
const BUSY_MS = 200;
/** How often a call is made again with a new token. */
const MOST_TOKENS = 3;
/** A session that is lost earlier counts as one more member that failed. */
const SETTLED_MS = 1000;

export class Connection {
  /** Names the store in messages. */
  readonly name: string;
  readonly #options: EtcdConnectionOptions;
  readonly #access: Access;
  #session: Session | undefined;
  readonly #waiting = new Set<() => void>();
  readonly #onSession = new Set<(session: Session) => void>();
  readonly #onHealth = new Set<(health: StoreHealth) => void>();
  #health: StoreHealth;
  /** It has been away for as long as a call may take: calls fail at once. */
  #isLongAway = false;
  #cancelLongAway = (): void => {};
  /** Names that are being looked up. */
  readonly #lookups = new Map<string, Promise<boolean>>();
  /** What each member said last. */
  readonly #whys = new Map<string, string>();
  #history: string | undefined;
  #endPause = (): void => {};
  #isRefusing = false;
  #isClosed = false;

  constructor(options: EtcdConnectionOptions) {
    this.#options = options;
    this.#access = { prefix: options.prefix, user: options.user?.name, tls: options.tls };
    this.name = `etcd at ${options.endpoints.join(', ')}`;
    this.#health = { isReachable: false, since: options.wallClock(), why: 'not connected yet' };
    void this.#keep();
  }

  health(): StoreHealth {
    return this.#health;
  }

  /** What an answer of etcd means to an operator. */
  errorOf(failure: Failure): WeftError {
    return failure.toWeftError(this.name, this.#access);
  }

  onHealth(listener: (health: StoreHealth) => void): () => void {
    this.#onHealth.add(listener);
    return () => void this.#onHealth.delete(listener);
  }

  /** Calls `listener` with the session that there is, and with each later one. @returns a function that stops that */
  onSession(listener: (session: Session) => void): () => void {
    this.#onSession.add(listener);
    if (this.#session) listener(this.#session);
    return () => void this.#onSession.delete(listener);
  }

  /**
   * @param repeat `once` if making it twice would do harm
   * @throws Failure that etcd answered; WeftError `unreachable` if it does not answer
   */
  async call<Request, Response>(
    method: etcd.Method<Request, Response>,
    request: Request,
    repeat: 'once' | 'freely' = 'freely',
  ): Promise<Response> {
    const { limits, clock, after, random } = this.#options;
    const deadlineMs = clock() + limits.callMs;
    let isLate = false;
    let why = 'it does not answer';
    const cancel = after(limits.callMs, () => {
      isLate = true;
      this.#wake();
    });
    try {
      for (let tokens = 0; ; ) {
        const session = await this.#ready(() => isLate, why);
        try {
          return await session.unary(method, request, Math.max(1, deadlineMs - clock()));
        } catch (error) {
          const failure = Failure.of(error);
          if (failure.isOldToken && tokens++ < MOST_TOKENS) {
            await this.#renewToken(session);
            continue;
          }
          why = whyText(failure, this.#access);
          if (failure.isBusy && !isLate) {
            await new Promise<void>((resolve) => void after(BUSY_MS * (0.5 + random()), resolve));
            continue;
          }
          if (!failure.isLoss) throw failure;
          // Whether a member is only slow is found out by its probe, with which the session is lost.
          if (failure.status === status.DEADLINE_EXCEEDED && !session.isLost) isLate = true;
          else session.lose(failure);
          if (repeat === 'once' && !failure.isCertain) {
            throw unansweredError(`${this.name}: ${why}: the change may have been made, or not`);
          }
        }
      }
    } finally {
      cancel();
    }
  }

  /** Waits for a session. @param why it may be late @throws WeftError('unreachable') if there is none in time */
  async #ready(isLate: () => boolean, why: string): Promise<Session> {
    for (;;) {
      if (this.#isRefusing || this.#isLongAway || isLate()) {
        const { why: whyAway } = this.#health;
        const message = whyAway === undefined ? `${this.name}: ${why}` : `etcd cannot be reached: ${whyAway}`;
        throw new WeftError('unreachable', message);
      }
      if (this.#session && !this.#session.isLost) return this.#session;
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  async #renewToken(session: Session): Promise<void> {
    try {
      await session.authenticate();
    } catch (error) {
      session.lose(Failure.of(error));
    }
  }

  /** Lets calls that have been sent end, and refuses others. */
  refuse(): void {
    this.#isRefusing = true;
    this.#wake();
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelLongAway();
    this.#session?.lose(new Failure(status.CANCELLED, 'closed'));
    this.#endPause();
    this.#wake();
  }

  async #keep(): Promise<void> {
    const { endpoints, random, clock } = this.#options;
    let next = Math.floor(random() * endpoints.length);
    let failures = 0;
    for (; !this.#isClosed; next = (next + 1) % endpoints.length) {
      const endpoint = endpoints[next]!;
      try {
        const session = await this.#open(endpoint);
        if (this.#isClosed) return session.lose(new Failure(status.CANCELLED, 'closed'));
        const openedAtMs = clock();
        const isFirst = this.#history === undefined;
        this.#up(session);
        if (isFirst) for (const other of endpoints) if (other !== endpoint) void this.#compare(session, other);
        const why = await session.lost;
        this.#session = undefined;
        this.#whys.set(endpoint, whyText(why, this.#access));
        failures = clock() - openedAtMs < SETTLED_MS ? failures + 1 : 0;
      } catch (error) {
        this.#whys.set(
          endpoint,
          error instanceof Failure ? whyText(error, this.#access) : (error as WeftError).message,
        );
        failures++;
      }
      if (this.#isClosed) return;
      if (failures < endpoints.length) continue;
      this.#away();
      const rounds = Math.floor(failures / endpoints.length);
      const mostMs = Math.min(BACKOFF.mostMs, BACKOFF.leastMs * 2 ** (rounds - 1));
      await this.#pause(mostMs * (0.5 + random() / 2));
    }
  }

  async #open(endpoint: string): Promise<Session> {
    const host = hostOf(endpoint);
    if (isIP(host) === 0) await this.#lookedUp(host);
    return Session.open({ ...this.#options, endpoint, credentials: this.#options.credentials(host) });
  }

  /**
   * Looks a name up before a channel does: once at a time, however many attempts there are. Where name servers are silent, one takes
   * 20 s, and cannot be called off. @throws Failure if there is no answer for as long as a member may take
   */
  async #lookedUp(host: string): Promise<void> {
    const { after, limits } = this.#options;
    const lookup =
      this.#lookups.get(host) ??
      dns.lookup(host).then(
        () => true,
        // gRPC tells why, when it has tried, too.
        () => true,
      );
    this.#lookups.set(host, lookup);
    void lookup.then(() => this.#lookups.delete(host));
    let cancel = (): void => {};
    const late = new Promise<boolean>((resolve) => (cancel = after(limits.connectMs, () => resolve(false))));
    const isDone = await Promise.race([lookup, late]);
    cancel();
    if (!isDone) throw new Failure(status.UNAVAILABLE, 'Name resolution failed: no answer of name servers');
  }

  /** Tells of a member that belongs to another cluster, before this host ever comes to it. Never throws. */
  async #compare({ endpoint, history }: Session, other: string): Promise<void> {
    try {
      const session = await this.#open(other);
      session.lose(new Failure(status.CANCELLED, 'compared'));
      if (this.#isClosed || session.history === history) return;
      const which = `${other} belongs to another cluster (${session.history}) than ${endpoint} (${history})`;
      this.#options.onWarning(`${this.name}: ${which}: name the members of one cluster only`);
    } catch {
      // Why a member does not answer is told when it is needed.
    }
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.after(delayMs, resolve);
      this.#endPause = () => {
        cancel();
        resolve();
      };
    });
  }

  #up(session: Session): void {
    this.#session = session;
    this.#whys.clear();
    this.#cancelLongAway();
    this.#isLongAway = false;
    if (this.#history !== undefined && this.#history !== session.history) {
      const ids = `${session.history}, and not ${this.#history}`;
      this.#options.onWarning(`${this.name}: ${session.endpoint} belongs to another cluster than before: ${ids}`);
    }
    this.#history = session.history;
    this.#setHealth({ isReachable: true, since: this.#options.wallClock(), history: session.history });
    this.#wake();
    for (const listener of [...this.#onSession]) listener(session);
  }

  /** All members have failed. */
  #away(): void {
    const members = new Map<string, string[]>();
    for (const [endpoint, reason] of this.#whys) members.set(reason, [...(members.get(reason) ?? []), endpoint]);
    const why = [...members].map(([reason, endpoints]) => `${endpoints.join(', ')}: ${reason}`).join('; ');
    const { isReachable, since } = this.#health;
    const isNews = isReachable || since === undefined;
    this.#setHealth({ isReachable: false, since: isNews ? this.#options.wallClock() : since, why });
    if (this.#history === undefined) {
      this.#isLongAway = true;
      this.#wake();
    } else if (isNews) {
      this.#cancelLongAway = this.#options.after(this.#options.limits.callMs, () => {
        this.#isLongAway = true;
        this.#wake();
      });
    }
  }

  #setHealth(health: StoreHealth): void {
    const before = this.#health;
    const isSame = before.isReachable && health.isReachable && before.history === health.history;
    this.#health = isSame ? before : health;
    if (before.isReachable === health.isReachable && before.why === health.why) return;
    for (const listener of [...this.#onHealth]) listener(this.#health);
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) {
      this.#waiting.delete(wake);
      wake();
    }
  }
}
