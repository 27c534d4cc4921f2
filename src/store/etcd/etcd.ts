/**
 * The store of several hosts: an etcd cluster (3.4 or later), below a prefix of its keys.
 *
 *   connection.ts   one session at a time; calls that wait for it
 *   session.ts      a connection to one member, until it is lost
 *   listing.ts      reads all, or what its caller does not know
 *   watch.ts        goes on from one session to the next
 *   leases.ts       granted, kept alive and revoked
 *   messages.ts     etcd's API, as etcd.proto describes it
 *   failure.ts      what etcd's errors mean
 *
 * A revision of the store is one of etcd, which counts the changes of all prefixes: revisions have gaps.
 */
import { WeftError } from '../../error.ts';
import {
  conflictError,
  type Entry,
  type KnownKey,
  type Listing,
  type Put,
  type Store,
  type StoreHealth,
  type Transaction,
  type WatchEvent,
} from '../store.ts';
import { Connection, type EtcdConnectionOptions } from './connection.ts';
import { checkCredentials, passwordOf, type TlsFiles } from './credential-files.ts';
import { Failure } from './failure.ts';
import { entryOf, leaseId } from './keys.ts';
import { endedError, Leases } from './leases.ts';
import { readListing } from './listing.ts';
import * as etcd from './messages.ts';
import type { Limits } from './session.ts';
import { openCredentials } from './tls.ts';
import { EtcdWatch, type Anchor, type WatchesGivenUp } from './watch.ts';

export interface EtcdStoreOptions
  extends Pick<EtcdConnectionOptions, 'endpoints' | 'after' | 'clock' | 'wallClock' | 'random' | 'onWarning'> {
  /** All keys begin with it, such as `weft/`. Not empty. */
  readonly prefix: string;
  /** The key of a record that names the history: whoever begins one writes it, with a value that no other one has. */
  readonly nameKey?: string;
  /** Without it, connections are not encrypted. */
  readonly tls?: TlsFiles | undefined;
  readonly user?: { readonly name: string; readonly passwordFile: string };
  readonly limits?: Partial<Limits>;
}

/** What a watch that begins there is held against. */
interface Listed {
  readonly revision: number;
  readonly history: string;
  readonly latest: Anchor | undefined;
  readonly name: Anchor | undefined;
}

/** The defaults. A call that cannot be made fails after five seconds; after that, at once until etcd is back. */
const LIMITS: Limits = {
  callMs: 5000,
  connectMs: 2000,
  probeMs: 2000,
  probeTimeoutMs: 1500,
  impatientMs: 500,
  silenceMs: 20_000,
  answerMs: 5000,
};
/** etcd's default (`--max-txn-ops`). */
const OPERATIONS = 128;
/** Less than etcd's default (`--max-request-bytes`, 1.5 MiB), for what is around the values. */
const LENGTH_BYTES = 1 << 20;
/** Of so many prefixes it is remembered what was listed. */
const LISTED = 16;
/** So long after the last write that was not taken, nobody knows whether etcd still takes nothing. */
const FULL_MS = 30_000;
/** How often a list begins again because etcd was compacted meanwhile. */
const LIST_ATTEMPTS = 5;
/** How long a list that nobody waits for rests between two turns, each of which takes about a millisecond. */
const REST_MS = 2;

/**
 * Returns at once, and connects by itself.
 * @throws WeftError if a file cannot be used
 */
export function openEtcdStore(options: EtcdStoreOptions): Store {
  return new EtcdStore(options);
}

class EtcdStore implements Store {
  readonly operationLimit = OPERATIONS;
  readonly lengthLimitBytes = LENGTH_BYTES;
  readonly #connection: Connection;
  readonly #leases: Leases;
  readonly #watches = new Set<EtcdWatch>();
  /** Why nothing was taken that was written last, and when that was. */
  #full: { readonly why: string; readonly atMs: number } | undefined;
  readonly #givenUp: WatchesGivenUp = new Map();
  readonly #options: EtcdStoreOptions;
  readonly #limits: Limits;
  readonly #underWay = new Set<Promise<unknown>>();
  /** What was listed last, by prefix: watches begin there. */
  readonly #listed = new Map<string, Listed>();
  #closing: Promise<void> | undefined;

  constructor(options: EtcdStoreOptions) {
    this.#options = options;
    const { tls, user } = options;
    const limits = { ...LIMITS, ...options.limits };
    this.#limits = limits;
    // Now, so that files that cannot be used are told at once; and later again.
    checkCredentials(options);
    this.#connection = new Connection({
      ...options,
      limits,
      credentials: (host) => openCredentials(tls, host, options.wallClock()),
      tls: tls && { hasCa: tls.ca !== undefined, hasCertificate: tls.certificate !== undefined },
      user: user && { name: user.name, password: () => passwordOf(user.passwordFile) },
      probed: { key: Buffer.from(options.prefix) },
    });
    this.#leases = new Leases(this.#connection, options.after, limits.callMs);
  }

  async get(key: string): Promise<Entry | undefined> {
    const { prefix } = this.#options;
    const { kvs } = await this.#call(() => this.#connection.call(etcd.range, { key: Buffer.from(prefix + key) }));
    return kvs[0] && entryOf(kvs[0], prefix.length);
  }

  async list(prefix: string, at?: number, knownKey?: KnownKey): Promise<Listing> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#call(() => this.#list(prefix, at, knownKey));
      } catch (error) {
        const isCompacted = error instanceof WeftError && error.code === 'not_found';
        if (!isCompacted || at !== undefined || attempt === LIST_ATTEMPTS) throw error;
      }
    }
  }

  async #list(prefix: string, at: number | undefined, knownKey: KnownKey | undefined): Promise<Listing> {
    const { listing, latest, name } = await readListing({
      ...{ connection: this.#connection, prefix, at, knownKey },
      own: this.#options.prefix,
      nameKey: this.#options.nameKey,
      rest: () => new Promise((resolve) => void this.#options.after(REST_MS, resolve)),
      senseless: (why) => this.#senseless(why),
    });
    const { revision, history } = listing;
    this.#listed.delete(prefix);
    this.#listed.set(prefix, { revision, history, latest, name });
    for (const [oldest] of this.#listed) if (this.#listed.size > LISTED) this.#listed.delete(oldest);
    return listing;
  }

  async transact({ expect = [], put = [], delete: deleted = [] }: Transaction): Promise<number> {
    const changed = [...put.map(({ key }) => key), ...deleted];
    if (new Set(changed).size < changed.length) {
      throw new WeftError('internal', `a transaction changes a key twice: ${changed.join(', ')}`);
    }
    if (Math.max(expect.length, changed.length) > OPERATIONS) {
      const counts = `${changed.length} changes and ${expect.length} expectations`;
      throw new WeftError('internal', `a transaction has ${counts}, and ${OPERATIONS} are possible`);
    }
    const bytesOf = (key: string): Buffer => Buffer.from(this.#options.prefix + key);
    const request = {
      compare: expect.map(({ key, revision }) => ({
        ...etcd.COMPARE_MOD_REVISION,
        key: bytesOf(key),
        modRevision: revision,
      })),
      success: [
        ...put.map((one) => ({ requestPut: { key: bytesOf(one.key), ...content(one) } })),
        ...deleted.map((key) => ({ requestDeleteRange: { key: bytesOf(key) } })),
      ],
      failure: expect.map(({ key }) => ({ requestRange: { key: bytesOf(key), keysOnly: true } })),
    };
    const lease = put.find((one) => one.lease !== undefined)?.lease;
    const { succeeded, header, responses } = await this.#call(
      () => this.#connection.call(etcd.transaction, request, 'once'),
      lease,
    ).catch((error: unknown) => this.#throwNoted(error));
    if (succeeded) {
      if (put.length > 0) this.#full = undefined;
      return header.revision.toNumber();
    }
    const actual = responses.map(({ responseRange }) => responseRange?.kvs[0]?.modRevision.toNumber() ?? 0);
    const at = expect.findIndex(({ revision }, index) => revision !== actual[index]);
    if (at < 0) throw this.#senseless('a transaction failed although all is as expected');
    const { key, revision } = expect[at]!;
    throw conflictError(key, actual[at]!, revision);
  }

  watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void {
    const last = this.#listed.get(prefix);
    const listed = last?.revision === from - 1 ? last : undefined;
    const watch: EtcdWatch = new EtcdWatch({
      connection: this.#connection,
      prefix: this.#options.prefix + prefix,
      skipped: this.#options.prefix.length,
      from,
      history: last?.history,
      latest: listed?.latest,
      name: listed?.name,
      limits: this.#limits,
      after: this.#options.after,
      random: this.#options.random,
      givenUp: this.#givenUp,
      onChanges: (revision, changes) => listener({ kind: 'changes', revision, changes }),
      onBroken: () => {
        this.#watches.delete(watch);
        listener({ kind: 'compacted' });
      },
    });
    this.#watches.add(watch);
    return () => {
      this.#watches.delete(watch);
      watch.end();
    };
  }

  async grant(ttlMs: number): Promise<string> {
    const lease = await this.#call(() => this.#leases.grant(ttlMs)).catch((error: unknown) => this.#throwNoted(error));
    this.#full = undefined;
    return lease;
  }

  keepAlive(lease: string): Promise<void> {
    return this.#call(() => this.#leases.keepAlive(lease));
  }

  revoke(lease: string): Promise<void> {
    return this.#call(() => this.#leases.revoke(lease));
  }

  health(): StoreHealth {
    const health = this.#connection.health();
    if (!health.isReachable || !this.#full || this.#options.clock() - this.#full.atMs > FULL_MS) return health;
    return { ...health, takesNothing: this.#full.why };
  }

  onHealth(listener: (health: StoreHealth) => void): () => void {
    return this.#connection.onHealth(listener);
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    for (const watch of this.#watches) watch.end();
    this.#leases.close();
    this.#connection.refuse();
    await Promise.allSettled([...this.#underWay]);
    this.#connection.close();
  }

  /** Notes that nothing was taken, if it is that. */
  #throwNoted(error: unknown): never {
    if (error instanceof WeftError && error.cause instanceof Failure && error.cause.isFull) {
      this.#full = { why: error.message, atMs: this.#options.clock() };
    }
    throw error;
  }

  #senseless(why: string): WeftError {
    return new WeftError('system', `${this.#connection.name}: its answers make no sense: ${why}`);
  }

  /** @param lease that it needs */
  async #call<T>(work: () => Promise<T>, lease?: string): Promise<T> {
    if (this.#closing) throw new WeftError('conflict', `${this.#connection.name} is closed`);
    const result = work();
    this.#underWay.add(result);
    try {
      return await result;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (error.isCompacted) {
        throw new WeftError('not_found', `${this.#connection.name} does not know that revision any more`, {
          cause: error,
        });
      }
      if (error.isNotFound && lease !== undefined) throw endedError(lease);
      throw this.#connection.errorOf(error);
    } finally {
      this.#underWay.delete(result);
    }
  }
}

function content({ key, value, lease }: Put): { readonly value: Uint8Array; readonly lease?: string } {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new WeftError('internal', `the value of "${key}" is not JSON`);
  return { value: Buffer.from(text), ...(lease !== undefined && { lease: leaseId(lease) }) };
}
