/**
 * A session: one connection to one member of etcd, from the moment that the member has answered until it is lost. All
 * calls and streams run on it. It is lost for good: whatever was under way ends, and `connection.ts` opens another one.
 *
 * Three things notice that it is lost: the end of the connection, HTTP/2's keepalive, and a probe, which reads by
 * consensus. So a member that is cut off from the others, or that has stopped with its connections open, is left, too.
 */
import { Client, Metadata, status, type ChannelCredentials } from '@grpc/grpc-js';
import { untilClosed } from './connector.ts';
import { Failure } from './failure.ts';
import * as etcd from './messages.ts';
import { serverNameOptions } from './tls.ts';

export interface Limits {
  /** How long a call may take, with everything that it has to wait for. */
  readonly callMs: number;
  /** How long a member may take to answer a new connection. */
  readonly connectMs: number;
  /** Between two probes. */
  readonly probeMs: number;
  /** How long the answer to a probe may take. */
  readonly probeTimeoutMs: number;
  /** A call that waits so long for its answer causes a probe. */
  readonly impatientMs: number;
  /** After so long a silence, a watch is asked for its progress. */
  readonly silenceMs: number;
  /** How long an answer to that, or to the creation of a watch, may take. */
  readonly answerMs: number;
}

export interface SessionOptions {
  /** `10.0.0.1:2379`. */
  readonly endpoint: string;
  readonly credentials: ChannelCredentials;
  readonly user: { readonly name: string; readonly password: () => string } | undefined;
  /** What a probe reads: one key, because etcd 3.4 looks at all keys of a range, whatever its limit. */
  readonly probed: etcd.RangeRequest;
  readonly limits: Limits;
  readonly after: (delayMs: number, work: () => void) => () => void;
}

/** A stream of requests and answers. */
export interface Stream<Request> {
  readonly send: (request: Request) => void;
  /** Nothing is told any more. */
  readonly end: () => void;
}

/** Many times what etcd accepts as one record. */
const ANSWER_BYTES = 16 << 20;
const OPTIONS = {
  'grpc.max_receive_message_length': ANSWER_BYTES,
  'grpc.max_send_message_length': -1,
  // etcd closes connections with pings more often than every five seconds.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.service_config_disable_resolution': 1,
  // A name may have the addresses of several members, of which the first may be one that answers but has no leader.
  'grpc.service_config': JSON.stringify({ loadBalancingConfig: [{ pick_first: { shuffleAddressList: true } }] }),
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
};
const DRAIN_MS = 50;

export class Session {
  readonly endpoint: string;
  /** Resolves with the reason when it is lost. */
  readonly lost: Promise<Failure>;
  /** Names the history of the member's cluster. */
  history = '';
  readonly #options: SessionOptions;
  readonly #client: Client;
  readonly #underWay = new Set<(why: Failure) => void>();
  #token: string | undefined;
  #authenticating: Promise<void> | undefined;
  #failure: Failure | undefined;
  #setLost!: (why: Failure) => void;
  #isProbing = false;
  #cancelProbe = (): void => {};

  /** @throws Failure if the member does not answer, or refuses */
  static async open(options: SessionOptions): Promise<Session> {
    const session = new Session(options);
    try {
      await session.authenticate();
      const { header } = await session.unary(etcd.range, options.probed, options.limits.connectMs);
      session.history = historyOf(header);
    } catch (error) {
      session.lose(Failure.of(error));
      throw error;
    }
    session.#probeLater();
    return session;
  }

  private constructor(options: SessionOptions) {
    this.#options = options;
    this.endpoint = options.endpoint;
    const named = serverNameOptions(hostOf(options.endpoint));
    this.#client = new Client(`dns:${options.endpoint}`, untilClosed(options.credentials), { ...OPTIONS, ...named });
    this.lost = new Promise((resolve) => (this.#setLost = resolve));
  }

  get isLost(): boolean {
    return this.#failure !== undefined;
  }

  /** Ends everything that is under way. */
  lose(why: Failure): void {
    if (this.#failure) return;
    this.#failure = why;
    this.#cancelProbe();
    for (const end of [...this.#underWay]) end(why);
    this.#client.close();
    this.#setLost(why);
  }

  /** Gets a new token, if there is a user: one for all who need it now. @throws Failure */
  authenticate(): Promise<void> {
    return (this.#authenticating ??= this.#authenticate().finally(() => (this.#authenticating = undefined)));
  }

  async #authenticate(): Promise<void> {
    const { user, limits } = this.#options;
    if (!user) return;
    // Until it is there, calls that begin meanwhile take the old one, and are made again.
    try {
      const request = { name: user.name, password: user.password() };
      this.#token = (await this.unary(etcd.authenticate, request, limits.connectMs)).token;
    } catch (error) {
      if (!Failure.of(error).text.includes('authentication is not enabled')) throw error;
      // etcd needs none, and accepts none.
      this.#token = undefined;
    }
  }

  /** @throws Failure, also if the session is lost meanwhile */
  unary<Request, Response>(
    { path, encode, decode }: etcd.Method<Request, Response>,
    request: Request,
    timeoutMs: number,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      if (this.#failure) throw this.#failure;
      const { after, limits } = this.#options;
      const end = (settle: () => void): void => {
        if (!this.#underWay.delete(fail)) return;
        cancelImpatience();
        cancelTimeout();
        settle();
      };
      const fail = (why: Failure): void => {
        end(() => reject(why));
        call.cancel();
      };
      this.#underWay.add(fail);
      const call = this.#client.makeUnaryRequest(
        path,
        encode,
        decode,
        request,
        this.#metadata(path),
        (error, response) => end(() => (error ? reject(Failure.of(error)) : resolve(response!))),
      );
      const cancelImpatience = after(Math.min(limits.impatientMs, timeoutMs), () => this.probe());
      const cancelTimeout = patiently(after, timeoutMs, () => {
        fail(new Failure(status.DEADLINE_EXCEEDED, `no answer within ${timeoutMs / 1000} s`));
      });
    });
  }

  /** @param onEnd is called once if the stream ends by itself, or with the session */
  stream<Request, Response>(
    { path, encode, decode }: etcd.Method<Request, Response>,
    onMessage: (message: Response) => void,
    onEnd: (why: Failure) => void,
  ): Stream<Request> {
    const call = this.#client.makeBidiStreamRequest(path, encode, decode, this.#metadata(path));
    const end = (): boolean => {
      const isUnderWay = this.#underWay.delete(fail);
      if (isUnderWay) call.cancel();
      return isUnderWay;
    };
    const fail = (why: Failure): void => {
      if (end()) onEnd(why);
    };
    this.#underWay.add(fail);
    call.on('data', (message: Response) => {
      if (this.#underWay.has(fail)) onMessage(message);
    });
    call.on('error', (error) => {
      const why = Failure.of(error);
      fail(why);
      if (why.isLoss && why.status !== status.CANCELLED) this.lose(why);
    });
    call.on('end', () => fail(new Failure(status.UNAVAILABLE, 'the stream has ended')));
    return { send: (request) => void call.write(request), end };
  }

  /** Finds out now whether the member still answers; if not, the session is lost. */
  probe(): void {
    const { probed, limits } = this.#options;
    if (this.#isProbing || this.#failure || this.history === '') return;
    this.#cancelProbe();
    this.#isProbing = true;
    this.unary(etcd.range, probed, limits.probeTimeoutMs)
      .catch(async (error: unknown) => {
        if (!Failure.of(error).isOldToken) throw error;
        await this.authenticate();
        await this.unary(etcd.range, probed, limits.probeTimeoutMs);
      })
      .catch((error: unknown) => this.lose(Failure.of(error)))
      .finally(() => {
        this.#isProbing = false;
        this.#probeLater();
      });
  }

  #probeLater(): void {
    if (this.#failure) return;
    this.#cancelProbe = this.#options.after(this.#options.limits.probeMs, () => this.probe());
  }

  #metadata(path: string): Metadata {
    const metadata = new Metadata();
    // A member that knows no leader says so, instead of waiting for one.
    metadata.set('hasleader', 'true');
    // An old one would be refused there, too.
    const isAsked = path === etcd.authenticate.path;
    if (this.#token !== undefined && !isAsked) metadata.set('token', this.#token);
    return metadata;
  }
}

/**
 * Does something when a deadline has passed, and what has arrived until then was read: this process may have been what was
 * slow. @returns how to cancel that
 */
export function patiently(after: SessionOptions['after'], delayMs: number, work: () => void): () => void {
  let cancel = after(delayMs, () => {
    cancel = after(DRAIN_MS, work);
  });
  return () => cancel();
}

/** @param endpoint `10.0.0.1:2379`, `[fd00::1]:2379` */
export function hostOf(endpoint: string): string {
  return endpoint.slice(0, endpoint.lastIndexOf(':')).replace(/^\[|\]$/g, '');
}

/** @param header of any answer */
export function historyOf({ clusterId }: { readonly clusterId: etcd.Int64 }): string {
  return clusterId.toString(16);
}
