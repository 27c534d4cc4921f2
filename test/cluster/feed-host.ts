/** A host that has nothing but a feed, and remembers what is in force: the least that follows a shared store. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { Serial } from '../../src/cluster/serial.ts';
import { SharedFeed } from '../../src/cluster/feed/shared-feed.ts';
import type { StorePlace } from '../../src/cluster/feed/store-place.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import type { Entry, Store, Transaction } from '../../src/store/store.ts';
import { Switchable } from '../support/switchable.ts';
import { openStore } from './control-plane.ts';

export const PLACE: StorePlace = { endpoints: ['192.0.2.100:2379'], prefix: 'weft/' };

export class FeedHost {
  readonly name: string;
  readonly directory: string;
  readonly link: Switchable;
  /** Why it must not write, as if it had not registered. */
  barred: string | undefined;
  /** Whether it has tried to register. */
  isDecided = true;
  readonly feed: SharedFeed;
  readonly serial = new Serial();
  /** The records in force, with the revisions with which they are known here. */
  readonly inForce = new Map<string, Entry>();
  readonly log: string[] = [];
  /** Set when everything there was at the start is in force. */
  isStarted = false;
  /** For how long it would have waited for the store at the start. */
  firstWaitMs: number | undefined;
  readonly #own: Store;
  readonly #timers = new Set<() => void>();

  private constructor(
    name: string,
    { idOf, isContinued }: { readonly idOf: string; readonly isContinued: boolean },
    directory: string,
    own: Store,
    link: Switchable,
    place: StorePlace,
  ) {
    this.name = name;
    this.directory = directory;
    this.link = link;
    this.#own = own;
    let ids = 0;
    const tell = (details: object, message: string): void => {
      const { why } = details as { readonly why?: string };
      this.log.push(why === undefined ? message : `${message}: ${why}`);
    };
    this.feed = new SharedFeed({
      store: link,
      place,
      own,
      host: name,
      id: Buffer.from(idOf).toString('hex').padEnd(32, '0'),
      copyFile: join(directory, 'copy'),
      isContinued,
      whyBarred: () => this.barred,
      isDecided: () => this.isDecided,
      newId: () => `cluster-${name}${ids++ === 0 ? '' : `-${ids}`}`,
      // Ticks come from the test; the first answer and reports of the watch are never late.
      after: (delayMs, work) => {
        this.firstWaitMs ??= delayMs;
        this.#timers.add(work);
        const immediate = delayMs === 0 ? setImmediate(work) : undefined;
        return () => {
          this.#timers.delete(work);
          if (immediate) clearImmediate(immediate);
        };
      },
      wallClock: () => 0,
      logger: { info: tell, warn: tell, error: tell },
    });
  }

  /** @param known the directory of a host that is no longer there */
  static async start(
    name: string,
    shared: Store,
    {
      known,
      isAway = false,
      wrap = (own) => own,
      history = '',
      slow,
      idOf = name,
      isContinued = false,
      place = PLACE,
    }: StartOptions = {},
  ): Promise<FeedHost> {
    const directory = known ?? mkdtempSync(join(tmpdir(), `weft-feed-${process.pid}-`));
    const own = await openEmbeddedStore({
      directory,
      onWarning: (message) => {
        throw new Error(message);
      },
      after: () => () => {},
    });
    const link = new Switchable(shared);
    link.history = history;
    if (isAway) link.away();
    if (slow) link.beforeList = () => slow;
    const host = new FeedHost(name, { idOf, isContinued }, directory, wrap(own), link, place);
    try {
      const starting = host.serial.run(() => host.feed.start(() => void host.settle()));
      if (slow) {
        while (link.lists === 0) await new Promise((resolve) => setImmediate(resolve));
        host.passTime();
      }
      await starting;
      await host.settle();
    } catch (error) {
      await host.stop();
      throw error;
    }
    return host;
  }

  /** Puts everything into force that there is. */
  async settle(): Promise<void> {
    await this.serial.run(() => this.#follow()).catch(() => {});
  }

  /** Follows until it has in force what is to be expected. */
  async until(isSo: () => boolean, what: string): Promise<void> {
    for (let turn = 0; !isSo(); turn++) {
      if (turn > 5000)
        throw new Error(
          `${this.name}: in vain for ${what}: ${JSON.stringify(this.report)} ${this.log.slice(-5).join(' | ')}`,
        );
      await this.settle();
      if (turn % 50 === 49) this.feed.tick();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /**
   * Like an operation of the cluster: planned when all that is known is in force, and what it wrote is in force when it
   * returns.
   */
  write(transaction: Transaction | (() => Transaction)): Promise<number> {
    return this.serial.run(async () => {
      await this.#follow();
      const revision = await this.feed.transact(typeof transaction === 'function' ? transaction() : transaction);
      await this.feed.caughtUp(revision);
      await this.#follow();
      return revision;
    });
  }

  /** Sets a record, or deletes it, if it still is as it is known here. */
  set(key: string, value: unknown): Promise<number> {
    return this.write(() => {
      const expect = [{ key, revision: this.inForce.get(key)?.revision ?? 0 }];
      return value === undefined ? { expect, delete: [key] } : { expect, put: [{ key, value }] };
    });
  }

  accept() {
    return this.serial.run(async () => {
      await this.#follow();
      const report = await this.feed.accept();
      await this.#follow();
      return report;
    });
  }

  /** Lets all that waits for a time to pass go on. */
  passTime(): void {
    for (const work of [...this.#timers]) {
      this.#timers.delete(work);
      work();
    }
  }

  values(): Record<string, unknown> {
    const keys = [...this.inForce.keys()].sort((a, b) => (a < b ? -1 : 1));
    return Object.fromEntries(keys.map((key) => [key, this.inForce.get(key)!.value]));
  }

  get report() {
    return this.feed.report();
  }

  async stop(): Promise<void> {
    await this.serial.close();
    await this.feed.close();
    await this.#own.close();
  }

  async #follow(): Promise<void> {
    for (let news = await this.feed.next(); news; news = await this.feed.next()) {
      for (const { key, entry } of news.changes) {
        if (entry) this.inForce.set(key, entry);
        else this.inForce.delete(key);
      }
      if (news.keys) {
        this.isStarted = true;
        const missing = [...news.keys.keys()].filter((key) => !this.inForce.has(key));
        const more = [...this.inForce.keys()].filter((key) => !news.keys!.has(key));
        if (missing.length + more.length > 0) throw new Error(`keys differ: ${missing.join()} / ${more.join()}`);
      }
    }
  }
}

export interface StartOptions {
  readonly known?: string;
  /** The name of the host whose id it has. */
  readonly idOf?: string;
  readonly isAway?: boolean;
  /** It follows another daemon, which has handed over. */
  readonly isContinued?: boolean;
  readonly wrap?: (own: Store) => Store;
  readonly history?: string;
  /** Where the store is. */
  readonly place?: StorePlace;
  /** The store does not answer before this resolves. */
  readonly slow?: Promise<void>;
}

/** All that a store has, by key. */
export async function contents(store: Store): Promise<Record<string, unknown>> {
  return Object.fromEntries((await store.list('')).entries.map(({ key, value }) => [key, value]));
}

/** Stopped and removed at the end of the test. */
export function hostsOf(t: Test, shared: Store) {
  const hosts = new Map<string, FeedHost>();
  const directories = new Set<string>();
  t.teardown(async () => {
    for (const host of hosts.values()) await host.stop().catch(() => {});
    for (const directory of directories) rmSync(directory, { recursive: true, force: true });
  });
  return async (name: string, options: StartOptions = {}): Promise<FeedHost> => {
    await hosts.get(name)?.stop();
    const host = await FeedHost.start(name, shared, options);
    hosts.set(name, host);
    directories.add(host.directory);
    return host;
  };
}

export const WEB = 'endpoints/default/web';
export const DB = 'endpoints/default/db';
export const BLUE = 'networks/blue';
/** The namespace that there always is. */
export const DEFAULT = 'namespaces/default';

/** Two hosts that share a store, with a network and an endpoint each, all of which both have in force. */
export async function twoHosts(t: Test) {
  const shared = await openStore(t);
  const start = hostsOf(t, shared);
  const [a, b] = [await start('a'), await start('b')];
  await a.set(BLUE, { vni: 1 });
  await a.set(WEB, endpointOf('a', '10.0.0.1'));
  await b.set(DB, endpointOf('b', '10.0.0.2'));
  for (const host of [a, b]) await host.until(() => host.inForce.size === 4, 'everything');
  return { shared, start, a, b };
}

/** A record of one host. */
export function endpointOf(host: string, address: string, extra: object = {}) {
  return {
    host,
    resource: { kind: 'Endpoint', spec: { network: 'blue' }, ...extra },
    addresses: [address],
    mac: `02:00:00:00:00:${address.split('.')[3]!.padStart(2, '0')}`,
  };
}
