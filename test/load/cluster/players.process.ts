/**
 * Plays the control planes of many hosts against a real etcd: what they write, and nothing else. Registration, leases, signs of
 * life and what is in force are written by the code of weft that writes them on a host (`Presence`); endpoints and blocks come
 * and go as `endpoint-records.ts` says.
 *
 * One process with one connection stands for all of them. What a daemon hears of them is what it would hear of real ones.
 *
 *   node --import=tsx players.process.ts HOST:PORT       driven by messages (`players.ts`)
 */
import { openEtcdStore } from '../../../src/store/etcd/etcd.ts';
import { within } from '../../../src/store/within.ts';
import { Presence } from '../../../src/cluster/membership/presence.ts';
import { Registration } from '../../../src/cluster/membership/registration.ts';
import type { Put, Store, Transaction } from '../../../src/store/store.ts';
import { WeftError } from '../../../src/error.ts';
import { monotonicMs } from '../../support/process.ts';
import {
  Addresses,
  endpointKey,
  endpointRecord,
  hostName,
  identityOf,
  NETWORKS,
  networksOf,
  underlayOf,
  type PlayedEndpoint,
} from './endpoint-records.ts';
import type { PlayerAnswer, PlayerOrder } from './players.ts';

/** How many hosts register, and how many transactions are under way at once. */
const AT_ONCE = 24;
/** How many records one transaction of the filling has; later changes have one each, as on a host. */
const FILLED_AT_ONCE = 100;
/** How long a new endpoint stays at least. */
const STAYING_SECONDS = 5;
/** How often something is written again, and how long after each other. */
const ATTEMPTS = 20;
const RETRY_MS = 500;
/** How often the hosts notice what is new. */
const FOLLOW_MS = 500;

const [endpoint = ''] = process.argv.slice(2);
const after = (delayMs: number, work: () => void): (() => void) => {
  const timeout = setTimeout(work, delayMs);
  return () => clearTimeout(timeout);
};
const root = openEtcdStore({
  endpoints: [endpoint],
  prefix: 'weft/',
  after,
  clock: monotonicMs,
  wallClock: Date.now,
  random: Math.random,
  onWarning: (message) => console.error(message),
});
const store = within(root, 'state/', () => root.close());
const applied = within(root, 'applied/');
const addresses = Array.from({ length: NETWORKS }, (_, network) => new Addresses(network));
const hosts: Presence[] = [];
const endpoints: PlayedEndpoint[] = [];
let names = 0;
let touches = 0;
let writes = 0;
let lastRevision = 0;

/** The store, with a count of what is written. */
function counted(from: Store): Store {
  return {
    operationLimit: from.operationLimit,
    lengthLimitBytes: from.lengthLimitBytes,
    get: (key) => from.get(key),
    list: (prefix, at, knownKey) => from.list(prefix, at, knownKey),
    transact: async (transaction) => {
      writes++;
      return from.transact(transaction);
    },
    watch: (prefix, at, listener) => from.watch(prefix, at, listener),
    grant: (ttlMs) => from.grant(ttlMs),
    keepAlive: (lease) => {
      writes++;
      return from.keepAlive(lease);
    },
    revoke: (lease) => from.revoke(lease),
    health: () => from.health(),
    onHealth: (listener) => from.onHealth(listener),
    close: () => from.close(),
  };
}

const shared = counted(store);
const published = counted(applied);

/** Writes a change of the state, again if etcd does not answer: the hosts have it in force soon after. */
async function write(transaction: Transaction): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      lastRevision = Math.max(lastRevision, await shared.transact(transaction));
      return;
    } catch (error) {
      const isAway = error instanceof WeftError && error.code === 'unreachable';
      if (!isAway || attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

async function register(host: number): Promise<void> {
  const id = identityOf(host).toString('hex');
  const mac = host.toString(16).padStart(6, '0');
  const now = (): string => new Date().toISOString();
  const own = { bootId: `boot-${host}`, pidNamespace: 'pid:[4026531836]', pid: 1000 + host, startTicks: String(host) };
  const process = { ...own, stateDirectory: `1/${host}` };
  const registration = new Registration({
    store: shared,
    host: hostName(host),
    id,
    mac: () => mac,
    keepMac: async () => {},
    randomMac: () => mac,
    now,
    process,
    isRunning: () => true,
    state: '/var/lib/weft',
  });
  const presence = new Presence({
    store: shared,
    applied: published,
    registration,
    host: hostName(host),
    id,
    version: '0.1.0',
    capabilities: ['move'],
    process,
    startedAt: now(),
    underlay: () => underlayOf(host),
    mtu: async () => 1500,
    mustWait: () => undefined,
    hosts: () => hosts.length,
    clock: monotonicMs,
    wallClock: Date.now,
    after,
    onChange: ({ state, why }) => {
      if (state !== 'registered') console.error(`${hostName(host)}: ${state}: ${why}`);
    },
  });
  hosts[host] = presence;
  await presence.start();
}

/** Runs `work` on all, some at once. */
async function all<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  let at = 0;
  const run = async (): Promise<void> => {
    while (at < items.length) await work(items[at++]!);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, run));
}

function make(host: number): { readonly made: PlayedEndpoint; readonly puts: Put[] } {
  const choices = networksOf(host);
  const network = choices[names % choices.length]!;
  const { address, claim } = addresses[network]!.take(host);
  const made: PlayedEndpoint = { name: `c${names++}`, host, network, address };
  return { made, puts: [...(claim ? [claim] : []), { key: endpointKey(made), value: endpointRecord(made) }] };
}

async function fill(hostCount: number, endpointCount: number): Promise<void> {
  const first = hosts.length;
  const added = Array.from({ length: Math.max(0, hostCount - first) }, (_, at) => first + at);
  await all(added, register);
  const batches: Put[][] = [[]];
  for (let at = endpoints.length; at < endpointCount; at++) {
    const { made, puts } = make(at % hosts.length);
    endpoints.push(made);
    if (batches.at(-1)!.length + puts.length > FILLED_AT_ONCE) batches.push([]);
    batches.at(-1)!.push(...puts);
  }
  await all(batches, (put) => write({ put }));
}

/** Endpoints come and go, `perSecond` each, on hosts that are drawn evenly. The clock is kept, however long it takes. */
async function churn(perSecond: number, seconds: number, told: number): Promise<PlayerAnswer> {
  const startedMs = monotonicMs();
  const before = writes;
  const pending = new Set<Promise<unknown>>();
  const start = (work: Promise<unknown>): void => {
    pending.add(work);
    void work.finally(() => pending.delete(work));
  };
  const count = perSecond * seconds;
  for (let at = 0; at < count; at++) {
    const dueMs = startedMs + (at * 1000) / perSecond;
    const waitMs = dueMs - monotonicMs();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const { made, puts } = make(Math.floor(Math.random() * hosts.length));
    endpoints.push(made);
    if (at % Math.max(1, Math.round(perSecond / told)) === 0) {
      const { network, address, host } = made;
      tell({ kind: 'added', network, address, underlay: underlayOf(host), atMs: monotonicMs() });
    }
    // A block is claimed before addresses of it are given out.
    const [claim] = puts.length > 1 ? puts : [];
    start((claim ? write({ put: [claim] }) : Promise.resolve()).then(() => write({ put: puts.slice(-1) })));
    // Those that go have been there for some time, so that whoever waits for one finds it.
    const old = Math.max(1, endpoints.length - STAYING_SECONDS * perSecond);
    const gone = endpoints.splice(Math.floor(Math.random() * old), 1)[0]!;
    addresses[gone.network]!.giveBack(gone);
    start(write({ delete: [endpointKey(gone)] }));
  }
  await Promise.all(pending);
  return { kind: 'churned', seconds: (monotonicMs() - startedMs) / 1000, changes: 2 * count, writes: writes - before };
}

function tell(answer: PlayerAnswer): void {
  process.send!(answer);
}

// What is in force on the hosts follows what they have written.
setInterval(() => {
  for (const host of hosts) host?.applied(lastRevision);
}, FOLLOW_MS).unref();

process.on('message', (order: PlayerOrder) => {
  const work = async (): Promise<PlayerAnswer> => {
    switch (order.kind) {
      case 'fill':
        await fill(order.hosts, order.endpoints);
        return { kind: 'done' };
      case 'churn':
        return churn(order.perSecond, order.seconds, order.told);
      case 'touch': {
        const [one] = endpoints;
        for (let time = 0; time < order.times; time++) {
          await write({ put: [{ key: endpointKey(one!), value: endpointRecord(one!, { touched: `${++touches}` }) }] });
        }
        return { kind: 'touched', name: one!.name, label: `${touches}` };
      }
      default:
        throw new Error(`unknown order ${JSON.stringify(order satisfies never)}`);
    }
  };
  work().then(tell, (error: unknown) => tell({ kind: 'failed', why: String(error) }));
});
process.on('disconnect', () => process.exit());
tell({ kind: 'done' });
