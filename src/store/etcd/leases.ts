/** Leases in etcd. All of them are kept alive over one stream of its own, so that no other traffic delays them. */
import { status } from '@grpc/grpc-js';
import { WeftError } from '../../error.ts';
import type { Connection } from './connection.ts';
import { Failure } from './failure.ts';
import { leaseId, leaseText } from './keys.ts';
import * as etcd from './messages.ts';
import { patiently, type Session, type Stream } from './session.ts';

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: WeftError) => void;
}

export class Leases {
  readonly #connection: Connection;
  readonly #after: (delayMs: number, work: () => void) => () => void;
  readonly #callMs: number;
  /** Those whose answer has not come yet, by lease. */
  readonly #waiting = new Map<string, Set<Waiting>>();
  #stream: Stream<etcd.LeaseRequest> | undefined;
  #session: Session | undefined;
  readonly #forget: () => void;

  constructor(connection: Connection, after: (delayMs: number, work: () => void) => () => void, callMs: number) {
    this.#connection = connection;
    this.#after = after;
    this.#callMs = callMs;
    this.#forget = connection.onSession((session) => this.#open(session));
  }

  /** @throws Failure or WeftError */
  async grant(ttlMs: number): Promise<string> {
    const { ID } = await this.#connection.call(etcd.leaseGrant, { TTL: Math.ceil(ttlMs / 1000) });
    return leaseText(ID);
  }

  /** @throws WeftError `not_found` if it has ended, `unreachable` */
  keepAlive(lease: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const others = this.#waiting.get(lease) ?? new Set();
      this.#waiting.set(lease, others);
      const settle = (act: () => void) => (): void => {
        cancel();
        cancelPatience();
        others.delete(one);
        if (others.size === 0 && this.#waiting.get(lease) === others) this.#waiting.delete(lease);
        act();
      };
      const cancel = this.#after(this.#callMs, () => {
        const { why } = this.#connection.health();
        const late = `${this.#connection.name}: a lease was not renewed within ${this.#callMs / 1000} s`;
        one.reject(new WeftError('unreachable', why === undefined ? late : `etcd cannot be reached: ${why}`));
      });
      // The stream may be stuck although the member answers everything else.
      const [session, stream] = [this.#session, this.#stream];
      const cancelPatience = patiently(this.#after, this.#callMs / 2, () => {
        if (!stream || this.#stream !== stream) return;
        session?.lose(new Failure(status.DEADLINE_EXCEEDED, `a lease was not renewed within ${this.#callMs / 2000} s`));
      });
      const one: Waiting = {
        resolve: settle(resolve),
        reject: (error) => settle(() => reject(error))(),
      };
      others.add(one);
      this.#stream?.send({ ID: leaseId(lease) });
    });
  }

  /** @throws Failure or WeftError */
  async revoke(lease: string): Promise<void> {
    try {
      await this.#connection.call(etcd.leaseRevoke, { ID: leaseId(lease) });
    } catch (error) {
      if (!(error instanceof Failure && error.isNotFound)) throw error;
    }
  }

  close(): void {
    this.#forget();
    this.#stream?.end();
    const closed = new WeftError('conflict', `${this.#connection.name} is closed`);
    for (const waiting of [...this.#waiting.values()]) for (const { reject } of waiting) reject(closed);
  }

  #open(session: Session): void {
    this.#session = session;
    this.#stream?.end();
    const stream = session.stream(
      etcd.leaseKeepAlive,
      ({ ID, TTL }) => {
        const lease = leaseText(ID);
        for (const { resolve, reject } of this.#waiting.get(lease) ?? []) {
          if (TTL.toNumber() > 0) resolve();
          else reject(endedError(lease));
        }
      },
      (why) => {
        if (this.#stream === stream) this.#stream = undefined;
        if (!session.isLost) session.lose(new Failure(status.UNAVAILABLE, why.text));
      },
    );
    this.#stream = stream;
    for (const lease of this.#waiting.keys()) stream.send({ ID: leaseId(lease) });
  }
}

export function endedError(lease: string): WeftError {
  return new WeftError('not_found', `lease ${lease} has ended`);
}
