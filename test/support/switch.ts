/** A switch in the process of the test, on the reference datapath, so that the test can reach its store. */
import { join } from 'node:path';
import { pino } from 'pino';
import type { Test } from 'tap';
import { loadConfig } from '../../src/config.ts';
import { WeftError } from '../../src/error.ts';
import { parseResource } from '../../src/model/manifest.ts';
import { WEFT_V1 } from '../../src/model/kinds/kind.ts';
import { findKind } from '../../src/model/kinds/registry.ts';
import type { Resource } from '../../src/model/resource.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { unlimited } from '../../src/store/staged.ts';
import type { KnownKey, Listing, Store, StoreHealth, Transaction, WatchEvent } from '../../src/store/store.ts';
import { openSwitch, type Switch } from '../../src/switch.ts';
import type { Lab, Namespace } from './lab.ts';

/** A store with hooks for a test: one that runs right before a transaction, and one that cuts a watch off. */
export class Hooked implements Store {
  readonly operationLimit: number;
  readonly lengthLimitBytes = Infinity;
  readonly store: Store;
  beforeTransact: (transaction: Transaction) => Promise<unknown> = async () => {};
  beforeList: () => Promise<unknown> = async () => {};
  #tell: (event: WatchEvent) => void = () => {};
  isDeaf = false;
  /** Afterwards nothing is written any more. */
  writesLeft = Infinity;

  constructor(store: Store, operationLimit = Infinity) {
    this.store = store;
    this.operationLimit = operationLimit;
  }

  readonly get = (key: string) => this.store.get(key);
  readonly grant = (ttlMs: number) => this.store.grant(ttlMs);
  readonly keepAlive = (lease: string) => this.store.keepAlive(lease);
  readonly revoke = (lease: string) => this.store.revoke(lease);
  readonly health = () => this.store.health();
  readonly onHealth = (listener: (health: StoreHealth) => void) => this.store.onHealth(listener);
  readonly close = () => this.store.close();

  async list(prefix: string, at?: number, knownKey?: KnownKey): Promise<Listing> {
    await this.beforeList();
    return this.store.list(prefix, at, knownKey);
  }

  async transact(transaction: Transaction): Promise<number> {
    if (this.writesLeft-- <= 0) throw new WeftError('system', 'the store is gone');
    await this.beforeTransact(transaction);
    return this.store.transact(transaction);
  }

  watch(prefix: string, from: number, listener: (event: WatchEvent) => void): () => void {
    this.#tell = listener;
    return this.store.watch(prefix, from, (event) => {
      if (!this.isDeaf) listener(event);
    });
  }

  /** Does what a store does when it no longer knows the changes it has not reported yet. */
  compact(): void {
    this.isDeaf = false;
    this.#tell({ kind: 'compacted' });
  }
}

export interface Opened {
  readonly sw: Switch;
  readonly store: Hooked;
  /** The messages that the switch has logged. */
  readonly log: readonly string[];
}

export interface OpenOptions {
  /** Of the store, below one that has no limit. */
  readonly operationLimit?: number;
  /** Called with the store before the switch starts. */
  readonly beforeStart?: (store: Hooked) => void;
}

/** Opens a switch in this process. */
export async function openSwitchOf(
  t: Test,
  lab: Lab,
  { operationLimit, beforeStart = () => {} }: OpenOptions = {},
): Promise<Opened> {
  const directory = join(lab.directory, 'state');
  const embedded = await openEmbeddedStore({
    directory,
    onWarning: (message) => t.fail(message),
    after: () => () => {},
    ...(operationLimit !== undefined && { operationLimit }),
  });
  const store = new Hooked(unlimited(embedded));
  beforeStart(store);
  const config = loadConfig({ host: 'here', state: directory, datapath: 'reference' });
  const log: string[] = [];
  const logger = pino({}, { write: (line) => void log.push((JSON.parse(line) as { msg: string }).msg) });
  const sw = await openSwitch({ ...config, logger }, { own: store, store, applied: undefined, questions: undefined });
  t.teardown(() => sw.close({ purge: true }));
  return { sw, store, log };
}

export const manifest = (kind: string, name: string, spec: object, metadata: object = {}): Resource =>
  parseResource({ apiVersion: findKind(kind)?.apiVersion ?? WEFT_V1, kind, metadata: { name, ...metadata }, spec });

/** The network that tests use if none of its properties matters. */
export const blue = manifest('Network', 'blue', { subnets: ['10.44.0.0/24'] });
export const endpoint = (
  name: string,
  { name: inside }: Namespace,
  address: string,
  metadata: object = {},
  netns = inside,
): Resource => manifest('Endpoint', name, { network: 'blue', netns, addresses: [address] }, metadata);
export const kind = (text: string) => findKind(text)!;
export const stateOf = (sw: Switch, name: string): string | undefined =>
  sw.endpoints().find((one) => one.name === name)?.state;
