/**
 * A model of etcd for a watch (`src/store/etcd/watch.ts`), in memory and without time: one history of changes, of which each
 * has a revision, that can be compacted, emptied and put back to an earlier one. Whoever tests decides when an answer comes,
 * and when a session is lost.
 */
import { status } from '@grpc/grpc-js';
import type { Connection } from '../../src/store/etcd/connection.ts';
import { Failure } from '../../src/store/etcd/failure.ts';
import * as etcd from '../../src/store/etcd/messages.ts';
import type { Session, Stream } from '../../src/store/etcd/session.ts';

/** One revision. */
interface Written {
  readonly key: string;
  /** Undefined if it was deleted. */
  readonly value: string | undefined;
}

const int = (value: number): etcd.Int64 => ({ toNumber: () => value, toString: (radix) => value.toString(radix) });

export class ModelEtcd {
  /** The first one has revision 2, as etcd begins with 1. */
  #history: Written[] = [];
  #compacted = 0;
  #id = 1;
  #session: ModelSession | undefined;
  readonly #listeners = new Set<(session: Session) => void>();

  get revision(): number {
    return this.#history.length + 1;
  }

  get name(): string {
    return String(this.#id);
  }

  write(key: string, value: string | undefined): number {
    if (value === undefined && !this.at(this.revision).has(key)) return this.revision;
    this.#history.push({ key, value });
    this.#session?.told();
    return this.revision;
  }

  /** Everything there was at a revision, by key. */
  at(revision: number): Map<string, { readonly value: string; readonly revision: number }> {
    const there = new Map<string, { value: string; revision: number }>();
    for (const [at, { key, value }] of this.#history.slice(0, revision - 1).entries()) {
      if (value === undefined) there.delete(key);
      else there.set(key, { value, revision: at + 2 });
    }
    return there;
  }

  compact(): void {
    this.#compacted = this.revision;
  }

  snapshot(): readonly unknown[] {
    return [...this.#history];
  }

  /** @param snapshot of this one; without it, it begins with nothing */
  restore(snapshot: readonly unknown[] = [], { sameId = true } = {}): void {
    this.lose();
    this.#history = [...(snapshot as readonly Written[])];
    this.#compacted = 0;
    if (!sameId) this.#id++;
  }

  /** What a watch takes. */
  get connection(): Connection {
    const onSession = (listener: (session: Session) => void): (() => void) => {
      this.#listeners.add(listener);
      if (this.#session) listener(this.#session as unknown as Session);
      return () => void this.#listeners.delete(listener);
    };
    return { onSession } as unknown as Connection;
  }

  connect(): void {
    if (this.#session) return;
    this.#session = new ModelSession(this);
    for (const listener of [...this.#listeners]) listener(this.#session as unknown as Session);
  }

  lose(): void {
    const session = this.#session;
    this.#session = undefined;
    session?.lose();
  }

  /** Lets one answer come, or one change be told. @returns false if nothing is under way */
  answer(): boolean {
    return this.#session?.answer() ?? false;
  }

  range({ key, revision: asked = 0 }: etcd.RangeRequest): etcd.RangeResponse {
    const revision = asked === 0 ? this.revision : asked;
    if (revision > this.revision || revision < this.#compacted) throw new Failure(status.OUT_OF_RANGE, 'not there');
    const text = Buffer.from(key).toString();
    const entry = this.at(revision).get(text);
    const kvs = entry ? [keyValue(text, entry.value, entry.revision)] : [];
    return { header: { clusterId: int(this.#id), revision: int(this.revision) }, kvs, more: false };
  }

  /** What a watch is told from a revision on. */
  told(from: number): etcd.WatchResponse {
    const isForgotten = from < this.#compacted;
    const events = this.#history.slice(from - 2).map(({ key, value }, at) => ({
      type: value === undefined ? etcd.DELETED : 0,
      kv: keyValue(key, value ?? '', from + at),
    }));
    return {
      header: { clusterId: int(this.#id), revision: int(this.revision) },
      created: false,
      canceled: isForgotten,
      compactRevision: int(isForgotten ? this.#compacted : 0),
      cancelReason: '',
      fragment: false,
      events: isForgotten ? [] : events,
    };
  }
}

function keyValue(key: string, value: string, revision: number): etcd.KeyValue {
  return { key: Buffer.from(key), value: Buffer.from(value), modRevision: int(revision), lease: int(0) };
}

/** As much of a session as a watch uses. */
class ModelSession {
  readonly history: string;
  readonly #etcd: ModelEtcd;
  /** Answers that have not come yet, and how each of them fails instead. */
  #due: { readonly answer: () => void; readonly fail: (why: Failure) => void }[] = [];
  #streams = new Set<() => void>();
  isLost = false;

  constructor(etcd: ModelEtcd) {
    this.#etcd = etcd;
    this.history = etcd.name;
  }

  unary(_: unknown, request: etcd.RangeRequest): Promise<etcd.RangeResponse> {
    return new Promise((resolve, reject) => {
      const answer = (): void => {
        try {
          resolve(this.#etcd.range(request));
        } catch (error) {
          reject(error);
        }
      };
      this.#due.push({ answer, fail: reject });
    });
  }

  stream(
    _: unknown,
    onMessage: (response: etcd.WatchResponse) => void,
    onEnd: (why: Failure) => void,
  ): Stream<etcd.WatchRequest> {
    let next: number | undefined;
    let isEnded = false;
    const answer = (): void => {
      if (isEnded || next === undefined) return;
      const from = next;
      next = this.#etcd.revision + 1;
      onMessage(this.#etcd.told(from));
    };
    const tell = (): void => void this.#due.push({ answer, fail: () => {} });
    const end = (): void => {
      isEnded = true;
      this.#streams.delete(tell);
    };
    this.#streams.add(tell);
    this.#due.push({
      answer: () => {},
      fail: (why) => {
        if (!isEnded) onEnd(why);
      },
    });
    const send = ({ createRequest }: etcd.WatchRequest): void => {
      next = createRequest?.startRevision ?? next;
      tell();
    };
    return { send, end };
  }

  probe(): void {}

  told(): void {
    for (const tell of this.#streams) tell();
  }

  answer(): boolean {
    const [due] = this.#due.splice(0, 1);
    due?.answer();
    return due !== undefined;
  }

  lose(): void {
    this.isLost = true;
    const due = this.#due;
    this.#due = [];
    for (const { fail } of due) fail(new Failure(status.UNAVAILABLE, 'lost'));
  }
}
