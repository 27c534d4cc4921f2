/**
 * Large changes go in turns of the event loop, so that upcalls and other requests are answered in between. What is
 * done from one turn to the next is counted.
 */
import t from 'tap';
import { AddressPool } from '../../src/cluster/addresses/ipam.ts';
import { formatIp } from '../../src/flow/types.ts';
import { unlimited } from '../../src/store/staged.ts';
import type { Entry, Listing, Store } from '../../src/store/store.ts';
import { within } from '../../src/store/within.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

const MANY = 300;
/** The most of one thing that may be done in one turn. */
const MOST = 16;

/** Counts calls by turn. */
class Turns {
  readonly #most = new Map<string, number>();
  #counts = new Map<string, number>();
  #isOver = false;

  constructor() {
    const turn = (): void => {
      this.#counts = new Map();
      if (!this.#isOver) setImmediate(turn);
    };
    turn();
  }

  /** Counts the calls of a method of `object` from now on, or what each of them does. */
  watch<K extends string>(
    object: Record<K, (...parameters: never[]) => unknown>,
    method: K,
    countOf: (first: unknown) => number = () => 1,
  ): void {
    const original = object[method].bind(object) as (...parameters: unknown[]) => unknown;
    Object.assign(object, {
      [method]: (...parameters: unknown[]): unknown => {
        const count = (this.#counts.get(method) ?? 0) + countOf(parameters[0]);
        this.#counts.set(method, count);
        this.#most.set(method, Math.max(count, this.#most.get(method) ?? 0));
        return original(...parameters);
      },
    });
  }

  /** The most calls in one turn. */
  most(method: string): number {
    return this.#most.get(method) ?? 0;
  }

  end(): void {
    this.#isOver = true;
  }
}

t.test('a large file is planned, put into force and removed in turns', async (t) => {
  const { cluster, endpoints, forwarding, networks, store } = await openControlPlane(t);
  const turns = new Turns();
  t.teardown(() => turns.end());
  turns.watch(networks, 'plan');
  turns.watch(forwarding, 'setNetwork');
  turns.watch(forwarding, 'removeNetwork');
  turns.watch(forwarding.remote, 'removeEndpoint');

  await cluster.apply([
    manifest('Host', 'there', { underlay: '192.0.2.2' }),
    ...Array.from({ length: MANY }, (_, n) =>
      manifest('Network', `n${n}`, { subnets: [`10.${n >> 8}.${n & 255}.0/24`] }),
    ),
  ]);
  t.equal(networks.size, MANY);
  for (const method of ['plan', 'setNetwork']) {
    t.ok(turns.most(method) > 0 && turns.most(method) <= MOST, `${method}: ${turns.most(method)} in a turn at most`);
  }

  const remotes = Array.from({ length: 200 }, (_, n) => {
    const mac = `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`;
    return manifest('Endpoint', `e${n}`, { network: 'n0', host: 'there', addresses: [`10.0.0.${n + 10}`], mac });
  });
  await cluster.apply(remotes);
  t.equal(endpoints.size, remotes.length);
  const { entries } = await store.list('');
  const keys = entries.map(({ key }) => key).filter((key) => /^(?:networks|endpoints)\//.test(key));
  await store.transact({ delete: keys });
  await cluster.serial.run(() => cluster.enforce());
  t.same([endpoints.size, networks.size], [0, 0]);
  for (const method of ['removeEndpoint', 'removeNetwork']) {
    t.ok(turns.most(method) > 0 && turns.most(method) <= MOST, `${method}: ${turns.most(method)} in a turn at most`);
  }
});

t.test('what somebody has written that is no resource is seen, and looked after, in turns', async (t) => {
  const shared = await openStore(t);
  const { blocks, cluster, membership, store, write } = await openControlPlane(t, undefined, { shared });
  const turns = new Turns();
  t.teardown(() => turns.end());
  await cluster.apply([manifest('Network', 'wide', { subnets: ['10.0.0.0/16'] })]);
  turns.watch(membership.live, 'see', (changes) => (changes as unknown[]).length);
  const live = (n: number) => ({
    ...{ host: `h${n}`, id: '00'.repeat(16), version: '1', capabilities: [], startedAt: '', clock: 0 },
    process: { bootId: '', pidNamespace: '', pid: 1, startTicks: '', stateDirectory: '' },
  });
  const lease = await shared.grant(600_000);
  await shared.transact({
    put: Array.from({ length: MANY }, (_, n) => ({ key: `live/h${n}`, value: live(n), lease })),
  });
  await cluster.serial.run(() => cluster.enforce());
  t.equal(membership.live.size, MANY);
  t.ok(turns.most('see') <= 64, `${turns.most('see')} signs of life in a turn at most`);

  // Each look at a block asks for the state of the store.
  const count = 1000;
  // This host has given an address of each back, and the host of the block has not taken it yet.
  const back = { host: 'here', endpoint: 'gone', isFree: true };
  const records = (network: string) =>
    Object.fromEntries(
      Array.from({ length: count }, (_, n) => {
        const [first, given] = [0, 5].map((offset) => `10.0.${n >> 4}.${(n & 15) * 16 + offset}`) as [string, string];
        return [`blocks/${network}/4-${first}`, { host: 'there', claimed: { [given]: back } }];
      }),
    );
  let looks = 0;
  turns.watch(store, 'health', () => (looks++, 1));
  await write(records('nowhere'));
  await blocks?.keep();
  t.ok(looks < 100, `${looks} looks at the blocks of a network that does not exist`);
  await write(records('wide'));
  await blocks?.keep();
  t.ok(looks >= count, 'those of this host are looked after');
  // A pass may end, and the next one begin, in one turn.
  t.ok(turns.most('health') <= 2 * 256, `${turns.most('health')} looks in a turn at most`);
});

t.test('services are taken in turns, and of slices the fewer the more endpoints they have', async (t) => {
  const shared = await openStore(t);
  const { serving, write } = await openControlPlane(t, undefined, { shared });
  const turns = new Turns();
  t.teardown(() => turns.end());
  turns.watch(serving.enforcement, 'serviceChanged');
  const service = (n: number) => {
    const resource = manifest('Service', `s${n}`, { clusterIP: 'None' });
    return [`services/default/s${n}`, { resource, clusterIps: [], ipFamilies: ['IPv4'], nodePorts: [] }];
  };
  const services = Array.from({ length: 1000 }, (_, n) => service(n));
  await write(Object.fromEntries(services));
  t.equal(serving.services.all().length, services.length);
  await write(Object.fromEntries(services.map(([key]) => [key, undefined])));
  t.equal(serving.services.all().length, 0);
  t.ok(turns.most('serviceChanged') <= 256, `${turns.most('serviceChanged')} services in a turn at most`);

  turns.watch(serving.slices, 'find');
  const slice = (n: number) => {
    const metadata = { name: `w${n}`, namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } };
    const endpoints = Array.from({ length: 1000 }, (_, at) => ({ addresses: [`10.${n}.${at >> 8}.${at & 255}`] }));
    const resource = { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata };
    return [`endpointslices/default/w${n}`, { resource: { ...resource, addressType: 'IPv4', endpoints } }];
  };
  const slices = Array.from({ length: 10 }, (_, n) => slice(n));
  await write(Object.fromEntries(slices));
  t.equal(serving.slices.all().length, slices.length);
  t.ok(turns.most('find') > 0 && turns.most('find') <= 10, `${turns.most('find')} looks at slices in a turn at most`);
});

t.test('of a change that is put in turns, a service gets all or nothing', async (t) => {
  const shared = await openStore(t);
  const { cluster, forwarding, serving, write } = await openControlPlane(t, undefined, { shared });
  await cluster.apply([
    manifest('Network', 'n', { subnets: ['10.0.0.0/16'] }),
    manifest('Service', 'web', { ports: [{ port: 80 }] }),
  ]);
  const addressOf = (n: number, at: number): string => `10.0.${4 * n + (at >> 8)}.${at & 255}`;
  const moving = addressOf(0, 100);
  /** @param holder the slice that has the one that moves */
  const slices = (holder: number) =>
    Object.fromEntries(
      Array.from({ length: 10 }, (_, n) => {
        const own = Array.from({ length: 999 }, (__, at) => addressOf(n + 1, at));
        const addresses = n === holder ? [...own, moving] : own;
        const metadata = { name: `w${n}`, namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } };
        const endpoints = addresses.map((address) => ({ addresses: [address] }));
        const resource = { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata, addressType: 'IPv4' };
        return [`endpointslices/default/w${n}`, { resource: { ...resource, endpoints, ports: [{ port: 80 }] } }];
      }),
    );
  await write(slices(0));
  const seen: boolean[] = [];
  const setService = forwarding.setService.bind(forwarding);
  forwarding.setService = (service) => {
    seen.push(service.backends.some(({ address }) => formatIp(address) === moving));
    setService(service);
  };
  const put = serving.slices.put.bind(serving.slices);
  serving.slices.put = (stored) => {
    // Whatever else may concern a service, in the turns in between.
    const mark = (): void => {
      serving.enforcement.heldOtherwise('web');
      if (!isPut) setImmediate(mark);
    };
    let isPut = false;
    setImmediate(mark);
    return put(stored).finally(() => (isPut = true));
  };
  await write(slices(9));
  t.ok(seen.length > 0);
  t.notOk(seen.includes(false), 'it never lacks what moves from one slice to another');
});

t.test('a large listing passes through all layers of the store in turns', async (t) => {
  const turns = new Turns();
  t.teardown(() => turns.end());
  const count = 20_000;
  const all = Array.from({ length: count }, (_, n): Entry => ({ key: `state/k${n}`, value: {}, revision: n + 1 }));
  const root = {
    operationLimit: 128,
    lengthLimitBytes: Infinity,
    list: async (): Promise<Listing> => ({ revision: count, history: 'one', entries: counted(all, turns), known: [] }),
  } as unknown as Store;
  const part = within(root, 'state/');
  const { entries } = await part.list('');
  t.same([entries.length, entries[0]!.key, entries.at(-1)!.key], [count, 'k0', `k${count - 1}`]);
  t.ok(turns.most('next') > 0 && turns.most('next') <= 1024 + 1, `${turns.most('next')} entries in a turn at most`);
  const staged = new Turns();
  t.teardown(() => staged.end());
  const whole = {
    ...root,
    list: async (): Promise<Listing> => ({ revision: 1, history: '', entries: counted(all, staged), known: [] }),
  };
  t.equal((await unlimited(whole as unknown as Store).list('')).entries.length, count);
  t.ok(staged.most('next') > 0 && staged.most('next') <= 4096 + 1, `${staged.most('next')} in a turn at most`);
});

t.test('what there is of addresses is compared with a listing in turns', async (t) => {
  const shared = await openStore(t);
  const { blocks, cluster, write } = await openControlPlane(t, undefined, { shared });
  await cluster.apply([manifest('Network', 'wide', { subnets: ['10.0.0.0/16'] })]);
  const records = Array.from({ length: 2000 }, (_, n): [string, unknown] => [
    `blocks/wide/4-10.0.${n >> 4}.${(n & 15) * 16}`,
    { host: 'there', claimed: {} },
  ]);
  await write(Object.fromEntries(records));
  const turns = new Turns();
  t.teardown(() => turns.end());
  const keys = new Set(records.map(([key]) => key));
  turns.watch(keys, 'has');
  await blocks!.listed(keys, Number.MAX_SAFE_INTEGER);
  t.ok(turns.most('has') > 0 && turns.most('has') <= 256, `${turns.most('has')} blocks in a turn at most`);

  const pool = new AddressPool({ network: 'n', subnet: '10.1.0.0/16' });
  for (let n = 0; n < 2000; n++) pool.claim(`e${n}`, `10.1.${1 + (n >> 7)}.${n & 127}`);
  const owners = { is: () => true };
  turns.watch(owners, 'is');
  await pool.keep(() => owners.is());
  t.ok(turns.most('is') > 0 && turns.most('is') <= 512, `${turns.most('is')} addresses in a turn at most`);
});

/** The same entries, which are counted as they are read. */
function counted(entries: readonly Entry[], turns: Turns): readonly Entry[] {
  const copy = [...entries];
  return Object.defineProperty(copy, Symbol.iterator, {
    value: () => {
      const iterator = entries[Symbol.iterator]();
      turns.watch(iterator, 'next');
      return iterator;
    },
  });
}
