/**
 * Hosts that share blocks of addresses, without switches: a store whose answers and reports come when the test says so or
 * not at all, daemons that end at any moment and start again from what they have kept, and a twin that knows every address
 * that is in force.
 */
import { REST_MS } from '../../src/cluster/addresses/block.ts';
import { Blocks } from '../../src/cluster/addresses/blocks.ts';
import type { BlockPool } from '../../src/cluster/addresses/block-pool.ts';
import { PlanAgain } from '../../src/cluster/plan-again.ts';
import type { Draft } from '../../src/cluster/reconciler.ts';
import { WeftError } from '../../src/error.ts';
import { conflictError, type Entry, type Store, type Transaction } from '../../src/store/store.ts';

export const NETWORK = 'blue';
const NETWORK_KEY = `networks/${NETWORK}`;

/** A store without a disk: what is written is there at once. */
class Entries {
  readonly entries = new Map<string, Entry>();
  revision = 0;
  onChange: (key: string, entry: Entry | undefined, revision: number) => void = () => {};

  transact({ expect = [], put = [], delete: deleted = [] }: Transaction): number {
    for (const { key, revision } of expect) {
      const actual = this.entries.get(key)?.revision ?? 0;
      if (actual !== revision) throw conflictError(key, actual, revision);
    }
    this.revision++;
    for (const { key, value } of put) {
      const entry = { key, value: JSON.parse(JSON.stringify(value)) as unknown, revision: this.revision };
      this.entries.set(key, entry);
      this.onChange(key, entry, this.revision);
    }
    for (const key of deleted) if (this.entries.delete(key)) this.onChange(key, undefined, this.revision);
    return this.revision;
  }

  list(prefix: string) {
    const entries = [...this.entries.values()].filter(({ key }) => key.startsWith(prefix));
    return { revision: this.revision, history: 'one', entries };
  }
}

/** `late`: its sender gives up, and it arrives later nevertheless. */
type Outcome = 'done' | 'lost' | 'answer lost' | 'late';

/** Something that was sent, and that arrives when the test says so. */
interface Request {
  readonly host: Host;
  readonly what: string;
  readonly arrive: (outcome: Outcome) => void;
}

export class World {
  /** Milliseconds, the same on all hosts. */
  now = 0;
  readonly shared = new Entries();
  readonly hosts: Host[];
  readonly requests: Request[] = [];
  /** When an address was given back, by which endpoint; undefined where its host has forgotten that in a crash. */
  readonly rested = new Map<string, { readonly endpoint: string; readonly at: number }>();
  readonly subnet: string;

  constructor(names: readonly string[], subnet: string) {
    this.subnet = subnet;
    const keys = [NETWORK_KEY, ...names.map((name) => `hosts/${name}`)];
    this.shared.transact({ put: keys.map((key) => ({ key, value: {} })) });
    this.hosts = names.map((name) => new Host(this, name));
    this.shared.onChange = (key, entry, revision) => {
      for (const host of this.hosts) host.reports.push({ key, entry, revision });
    };
  }

  /** @throws if an address is in force twice */
  check(): void {
    const holders = new Map<string, string>();
    for (const { name, inForce } of this.hosts) {
      for (const [endpoint, address] of inForce) {
        const other = holders.get(address);
        if (other !== undefined) throw new Error(`${address} is in force as ${other} and as ${endpoint} on ${name}`);
        holders.set(address, `${endpoint} on ${name}`);
      }
    }
  }
}

class MiniDraft {
  readonly undos: (() => void)[] = [];
  readonly onDone: ((revision: number) => void)[] = [];
  onUndo(undo: () => void): void {
    this.undos.push(undo);
  }
  onStored(stored: (revision: number) => void): void {
    this.onDone.push(stored);
  }
}

interface Report {
  readonly key: string;
  readonly entry: Entry | undefined;
  readonly revision: number;
}

export class Host {
  readonly name: string;
  readonly world: World;
  /** What its disk has. */
  own = new Entries();
  /** Its endpoints and their addresses, on its disk. */
  readonly declared = new Map<string, string>();
  /** Its copy of the store, on its disk. */
  readonly copy = new Map<string, Entry>();
  copyRevision = 0;
  /** What the watch has for it. */
  readonly reports: Report[] = [];
  /** What its containers can be reached at. */
  readonly inForce = new Map<string, string>();
  isCutOff = false;
  isRemoved = false;
  /** Undefined while its daemon does not run. */
  daemon: Daemon | undefined;

  constructor(world: World, name: string) {
    this.world = world;
    this.name = name;
  }

  /** That the network and this host are what they were. */
  expectations() {
    const entries = [NETWORK_KEY, `hosts/${this.name}`].map((key) => this.copy.get(key));
    if (entries.some((entry) => !entry)) return undefined;
    return entries.map((entry) => ({ key: entry!.key, revision: entry!.revision }));
  }

  /** Starts its daemon, from the store or from its own copy. */
  async start(): Promise<void> {
    const daemon = new Daemon(this);
    await daemon.start();
    this.daemon = daemon;
    await daemon.renew(true);
    daemon.blocks.start();
  }

  /** Ends its daemon without a word. What it has sent may still arrive. */
  crash(): void {
    if (this.daemon) this.daemon.isDead = true;
    this.daemon = undefined;
    for (const [address, { endpoint }] of this.world.rested) {
      if (endpoint.startsWith(`${this.name}-`)) this.world.rested.delete(address);
    }
  }

  /** The machine is gone, and what it was. */
  vanish(): void {
    this.crash();
    this.inForce.clear();
    this.declared.clear();
    this.copy.clear();
    this.own = new Entries();
    this.isRemoved = true;
  }
}

class Daemon {
  readonly blocks: Blocks;
  readonly host: Host;
  readonly pool: BlockPool;
  isDead = false;
  readonly attaching = new Set<string>();
  /** It started from its own copy, and has not read the store since. */
  isBehind = false;
  readonly timers = new Set<{ readonly at: number; readonly work: () => void }>();

  constructor(host: Host) {
    this.host = host;
    const { world } = host;
    this.blocks = new Blocks({
      store: this.#store(),
      own: this.#own(),
      hostName: host.name,
      expectations: () => host.expectations(),
      onLost: async (endpoints) => {
        for (const endpoint of endpoints) host.inForce.delete(endpoint);
      },
      clock: () => world.now,
      after: (delayMs, work) => {
        const timer = { at: world.now + delayMs, work };
        this.timers.add(timer);
        return () => this.timers.delete(timer);
      },
      warn: () => {},
    });
    this.pool = this.blocks.pool(NETWORK, world.subnet);
  }

  async start(): Promise<void> {
    await this.blocks.load();
    await this.read();
  }

  /** Reads everything, as after a break. */
  async read(): Promise<void> {
    const { host } = this;
    this.isBehind = host.isCutOff;
    if (!host.isCutOff) {
      host.reports.length = 0;
      host.copy.clear();
      for (const [key, entry] of host.world.shared.entries) host.copy.set(key, entry);
      host.copyRevision = host.world.shared.revision;
    }
    const changes = [...host.copy.values()].filter(({ key }) => key.startsWith('blocks/'));
    await this.blocks.see(
      changes.map((entry) => ({ key: entry.key, entry })),
      host.copyRevision,
    );
    await this.blocks.listed(new Set(host.copy.keys()), host.copyRevision);
  }

  /** Takes the next report of the watch. */
  async follow(): Promise<void> {
    const { host } = this;
    if (this.isBehind) return this.read();
    const report = host.isCutOff ? undefined : host.reports.shift();
    if (!report) return;
    const { key, entry, revision } = report;
    if (entry) host.copy.set(key, entry);
    else host.copy.delete(key);
    host.copyRevision = revision;
    if (key.startsWith('blocks/')) await this.blocks.see([{ key, entry }], revision);
  }

  /** Puts into force what is declared and is not. */
  async renew(isStart = false): Promise<void> {
    for (const [endpoint, address] of this.host.declared) {
      if (this.host.inForce.has(endpoint) && !isStart) continue;
      try {
        this.pool.claim(endpoint, address, true);
        this.host.inForce.set(endpoint, address);
      } catch {
        this.host.inForce.delete(endpoint);
      }
    }
  }

  /** @returns why not, if it was not possible */
  async attach(endpoint: string, ip?: string): Promise<string | undefined> {
    this.attaching.add(endpoint);
    try {
      return await this.#attach(endpoint, ip);
    } finally {
      this.attaching.delete(endpoint);
    }
  }

  async #attach(endpoint: string, ip: string | undefined): Promise<string | undefined> {
    for (let attempt = 0; attempt < 20; attempt++) {
      const draft = new MiniDraft();
      try {
        if (ip !== undefined) this.pool.check(endpoint, ip);
        const address = this.pool.plan(endpoint, ip, draft as unknown as Draft);
        const written = this.pool.written(draft as unknown as Draft);
        const others = this.host.expectations();
        if (!others) throw new WeftError('not_found', 'its network or its host is gone');
        if (written.length > 0) {
          const revision = await this.#send('attach', {
            expect: [...written.map(({ key, revision: known }) => ({ key, revision: known })), ...others],
            put: written,
          });
          for (const done of draft.onDone) done(revision);
          draft.undos.length = 0;
          // Its own transaction is reported before the endpoint comes into force.
          while (!this.isDead && this.host.copyRevision < revision) await new Promise(setImmediate);
        }
        if (this.isDead || this.host.daemon !== this) return 'crashed';
        this.host.declared.set(endpoint, address);
        await this.renew();
        return undefined;
      } catch (error) {
        for (const undo of draft.undos.reverse()) undo();
        if (this.isDead) return 'crashed';
        if (error instanceof PlanAgain) {
          const failure = await error.ready().then(
            () => undefined,
            (why: Error) => why.message,
          );
          if (failure !== undefined) return failure;
        } else if (!(error instanceof WeftError) || !/has revision/.test(error.message))
          return (error as Error).message;
        else await new Promise(setImmediate);
      }
    }
    return 'tried too often';
  }

  detach(endpoint: string): void {
    const address = this.host.declared.get(endpoint);
    if (address === undefined) return;
    if (this.host.inForce.delete(endpoint)) this.host.world.rested.set(address, { endpoint, at: this.host.world.now });
    this.host.declared.delete(endpoint);
    this.pool.giveBack(endpoint, address);
  }

  fire(): void {
    for (const timer of [...this.timers]) {
      if (timer.at > this.host.world.now) continue;
      this.timers.delete(timer);
      timer.work();
    }
  }

  #send(what: string, transaction: Transaction): Promise<number> {
    const { host } = this;
    const { world } = host;
    const away = new WeftError('unreachable', 'the store is away');
    if (host.isCutOff) return Promise.reject(away);
    const sent = JSON.parse(JSON.stringify(transaction)) as Transaction;
    return new Promise((resolve, reject) => {
      world.requests.push({
        host,
        what,
        arrive: (outcome) => {
          if (outcome === 'lost') return reject(away);
          if (outcome === 'late') {
            world.requests.push({ host, what, arrive: () => attempt(() => world.shared.transact(sent)) });
            return reject(away);
          }
          try {
            const revision = world.shared.transact(sent);
            if (outcome === 'answer lost' || this.isDead) reject(away);
            else resolve(revision);
          } catch (error) {
            reject(error);
          }
        },
      });
    });
  }

  #store(): Store {
    return {
      health: () => ({ isReachable: !this.host.isCutOff, why: 'cut off' }),
      transact: (transaction: Transaction) => this.#send('blocks', transaction),
    } as unknown as Store;
  }

  /** A disk that takes its time: what is under way in a crash may be written or not. */
  #own(): Store {
    const { host } = this;
    const disk = host.own;
    return {
      list: async (prefix: string) => disk.list(prefix),
      transact: (transaction: Transaction) => {
        const written = JSON.parse(JSON.stringify(transaction)) as Transaction;
        return new Promise<number>((resolve) => {
          host.world.requests.push({
            host,
            what: 'own',
            arrive: (outcome) => {
              // After a crash, it is too late: another daemon may have read the disk.
              if (this.isDead) return;
              if (outcome !== 'lost') resolve(disk.transact(written));
            },
          });
        });
      },
    } as unknown as Store;
  }
}

function attempt(work: () => void): void {
  try {
    work();
  } catch {
    // Nobody waits for it.
  }
}

export { REST_MS };
