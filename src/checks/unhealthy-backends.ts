/**
 * Which backends are unhealthy, as their own hosts say it (`unhealthy/HOST`, under the lease of the host), and what follows from
 * that for services here.
 *
 *   checks of this host ──► this ──► its record in the store ──► the other hosts
 *                            ├─────► services here
 *   records of other hosts ──┘
 *
 * What a host says counts for backends that are on it, so nothing stays of one that has moved. When a host is gone, so is its
 * record; its backends are out anyway then. A record of a host that is not declared does not count: it is nobody's who could
 * take it back. What cannot be stored is stored later, and counts here at once. For some seconds after
 * a start, what the daemon before it has said counts as well: by then, everything has been checked once.
 */
import { keyOf } from '../cluster/keys.ts';
import { UNHEALTHY } from '../cluster/membership/registration.ts';
import type { Keys, Register } from '../cluster/register.ts';
import { hostKind } from '../model/kinds/host.ts';
import type { ClashReport } from '../model/report.ts';
import { unhealthyRecord } from '../model/records.ts';
import { formatIp, parseIp } from '../flow/types.ts';
import type { Change, Store } from '../store/store.ts';
import type { Service } from '../table/service.ts';
import type { BackendFault } from '../table/services.ts';
import type { BackendVerdict } from './backend-checks.ts';

/** What the keys of hosts begin with. */
const HOSTS = keyOf(hostKind, '');
/** How many backends a record names: about 400 KB. The others are known here only. */
const MOST_PUBLISHED = 4096;
/** The least time between two writes: what changes meanwhile is written together. */
const PAUSE_MS = 1000;
const FORMER_MS = 5000;

/** Why, by address, by the id of the service. */
type Unhealthy = ReadonlyMap<string, ReadonlyMap<string, string>>;

export interface UnhealthyBackendsOptions {
  readonly hostName: string;
  /** Undefined if no store is shared. */
  readonly store: Store | undefined;
  /** The lease of this host; undefined while it is not registered. */
  readonly lease: () => string | undefined;
  readonly service: (id: string) => Service | undefined;
  readonly setHealth: (id: string, faults: readonly BackendFault[]) => void;
  readonly warn: (details: object, message: string) => void;
  readonly after: (delayMs: number, work: () => void) => () => void;
}

export class UnhealthyBackends implements Register {
  readonly prefix = UNHEALTHY;
  readonly #options: UnhealthyBackendsOptions;
  readonly #own = new Map<string, Map<string, string>>();
  /** What the daemon before this one has said. */
  #former: Unhealthy = new Map();
  readonly #hosts = new Map<string, Unhealthy>();
  /** The hosts that are declared. */
  readonly #declared = new Set<string>();
  /** Those that are not, and of which that was said. */
  readonly #strangers = new Set<string>();
  /** What is in force: the addresses, by service. */
  readonly #inForce = new Map<string, ReadonlyMap<string, string>>();
  /** What the record in the store says, and under which lease. */
  #published: { readonly text: string; readonly lease: string } | undefined;
  #isStored = false;
  #hasBegun = false;
  #writing = false;
  #cancel: (() => void) | undefined;
  #isClosed = false;

  constructor(options: UnhealthyBackendsOptions) {
    this.#options = options;
  }

  /** A check of this host has found something out. */
  set({ service, address, why }: BackendVerdict): void {
    const addresses = this.#own.get(service) ?? new Map<string, string>();
    if (why === undefined) addresses.delete(address);
    else addresses.set(address, why);
    if (addresses.size > 0) this.#own.set(service, addresses);
    else this.#own.delete(service);
    this.follow(service);
    this.publish();
  }

  see(changes: readonly Change[]): void {
    for (const { key, entry } of changes) this.#note(key.slice(UNHEALTHY.length), entry?.value);
    this.#tellStrangers();
  }

  /** Follows which hosts are declared. */
  get declaredHosts(): Register {
    const set = (host: string, isDeclared: boolean): void => {
      if (isDeclared) this.#declared.add(host);
      else this.#declared.delete(host);
      for (const id of this.#hosts.get(host)?.keys() ?? []) this.follow(id);
    };
    return {
      prefix: HOSTS,
      see: (changes) => {
        for (const { key, entry } of changes) set(key.slice(HOSTS.length), entry !== undefined);
        this.#tellStrangers();
      },
      listed: (keys) => {
        for (const host of [...this.#declared]) if (!keys.has(HOSTS + host)) set(host, false);
        this.#tellStrangers();
      },
    };
  }

  /** The records that do not count. */
  clashes(): ClashReport[] {
    return [...this.#strangers].map((host) => ({ detail: strangerText(host), hint: 'delete it in the store' }));
  }

  listed(keys: Keys): void {
    this.#hasBegun = true;
    for (const host of [...this.#hosts.keys()]) if (!keys.has(UNHEALTHY + host)) this.#note(host, undefined);
    if (!keys.has(UNHEALTHY + this.#options.hostName)) this.#isStored = false;
    this.#tellStrangers();
    this.publish();
  }

  /** A service is set, or has gone: what is known of its backends comes into force. */
  follow(id: string): void {
    const service = this.#options.service(id);
    const after = service ? this.#of(service) : nobody;
    const before = this.#inForce.get(id) ?? nobody;
    if (after.size > 0) this.#inForce.set(id, after);
    else this.#inForce.delete(id);
    const over = [...before.keys()].filter((address) => !after.has(address));
    const faults = [...over.map((address) => [address, undefined] as const), ...after];
    if (faults.length > 0) this.#options.setHealth(id, faults.map(parsed));
  }

  /** Writes what is not in the store yet. Called as well when this host has registered, maybe again. */
  publish(): void {
    const { store, lease } = this.#options;
    const current = lease();
    if (!store || this.#writing || this.#cancel || this.#isClosed || current === undefined) return;
    const backends = this.#record();
    const text = JSON.stringify(backends);
    const isWanted = this.#own.size + this.#former.size > 0;
    if (
      isWanted ? this.#isStored && this.#published?.text === text && this.#published.lease === current : !this.#isStored
    )
      return;
    const key = UNHEALTHY + this.#options.hostName;
    this.#writing = true;
    const value = { host: this.#options.hostName, backends };
    void store
      .transact(isWanted ? { put: [{ key, value, lease: current }] } : { delete: [key] })
      .then(() => {
        this.#published = { text, lease: current };
        this.#isStored = isWanted;
      })
      // The lease has ended, or the store is away: it is tried again.
      .catch(() => {})
      .finally(() => {
        this.#writing = false;
        if (this.#isClosed) return;
        this.#cancel = this.#options.after(PAUSE_MS, () => {
          this.#cancel = undefined;
          this.publish();
        });
      });
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel?.();
  }

  #record(): Record<string, Record<string, string>> {
    let left = MOST_PUBLISHED;
    const record: Record<string, Record<string, string>> = {};
    for (const service of new Set([...this.#own.keys(), ...this.#former.keys()])) {
      const named = [...(this.#hereOf(service) ?? [])].slice(0, left);
      left -= named.length;
      if (named.length > 0) record[service] = Object.fromEntries(named);
    }
    return record;
  }

  #note(host: string, value: unknown): void {
    const { hostName } = this.#options;
    if (host === hostName) return this.#noteOwn(value);
    const before = this.#hosts.get(host);
    const after = readRecord(host, value);
    if (after.size > 0) this.#hosts.set(host, after);
    else this.#hosts.delete(host);
    for (const id of new Set([...(before?.keys() ?? []), ...after.keys()])) this.follow(id);
  }

  /** Their declarations may come with their records, and after them. */
  #tellStrangers(): void {
    if (!this.#hasBegun) return;
    for (const host of this.#strangers) {
      if (!this.#hosts.has(host) || this.#declared.has(host)) this.#strangers.delete(host);
    }
    for (const host of this.#hosts.keys()) {
      if (this.#declared.has(host) || this.#strangers.has(host)) continue;
      this.#strangers.add(host);
      this.#options.warn({ key: UNHEALTHY + host }, strangerText(host));
    }
  }

  #noteOwn(value: unknown): void {
    this.#isStored = value !== undefined;
    if (value !== undefined && !this.#hasBegun && this.#published === undefined) {
      this.#former = readRecord(this.#options.hostName, value);
      const services = [...this.#former.keys()];
      for (const id of services) this.follow(id);
      this.#options.after(FORMER_MS, () => {
        if (this.#isClosed) return;
        this.#former = new Map();
        for (const id of services) this.follow(id);
        this.publish();
      });
    }
    this.#hasBegun = true;
    this.publish();
  }

  /** What is known of the backends of this host. */
  #hereOf(id: string): ReadonlyMap<string, string> | undefined {
    const [own, former] = [this.#own.get(id), this.#former.get(id)];
    return own && former ? new Map([...former, ...own]) : (own ?? former);
  }

  /** The backends of a service that their hosts find unhealthy. */
  #of({ id, backends }: Service): ReadonlyMap<string, string> {
    const here = this.#hereOf(id);
    if (this.#hosts.size === 0 && !here) return nobody;
    const found = new Map<string, string>();
    for (const { host, address } of backends) {
      if (host === undefined) continue;
      const isHere = host === this.#options.hostName;
      const all = isHere ? here : this.#declared.has(host) ? this.#hosts.get(host)?.get(id) : undefined;
      if (!all || all.size === 0) continue;
      const text = formatIp(address);
      const why = all.get(text);
      if (why !== undefined) found.set(text, isHere ? why : `${why}, says host ${host}`);
    }
    return found;
  }
}

const nobody: ReadonlyMap<string, string> = new Map();

function parsed([address, why]: readonly [string, string | undefined]): BackendFault {
  return [parseIp(address), why];
}

function strangerText(host: string): string {
  return `${UNHEALTHY}${host} in the store does not count: there is no host "${host}"`;
}

/** Nothing of one that belongs to another host. */
function readRecord(name: string, value: unknown): Unhealthy {
  const { host, backends: all = {} } = unhealthyRecord.safeParse(value).data ?? {};
  const backends = host === name ? all : {};
  return new Map(Object.entries(backends).map(([id, all]) => [id, new Map(Object.entries(all))]));
}
