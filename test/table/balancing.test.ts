/** Which of the candidates a new connection gets, by each method. */
import t from 'tap';
import { backendOf, type BalancingTable } from '../../src/flow/balancing.ts';
import { formatIp, parseIp, type Vni } from '../../src/flow/types.ts';
import { Affinity } from '../../src/table/affinity.ts';
import { tableOf, type BackendSelection, type Scope } from '../../src/table/balancer.ts';
import { KeptChoices } from '../../src/table/kept-choices.ts';
import { Scopes } from '../../src/table/scopes.ts';
import type { BalancingMethod, Service } from '../../src/table/service.ts';
import type { Choice } from '../../src/table/service-choices.ts';
import type { Services } from '../../src/table/services.ts';
import { Random } from '../support/random.ts';
import {
  backend,
  backends,
  BLUE,
  chosenFor,
  connect,
  service,
  servicePort,
  serviceTable,
  tuple,
} from '../support/services.ts';

const seed = Date.now() % 2 ** 32;
const METHODS: readonly BalancingMethod[] = ['maglev', 'round-robin', 'least-connections', 'random', 'source-hash'];

/** How many of the first connections get each backend, in the order of their addresses. */
function shares(services: Services, connections: number): number[] {
  const counts = new Map<string, number>();
  for (let nth = 0; nth < connections; nth++) {
    const of = tuple(nth, { source: parseIp(`10.0.${200 + (nth >> 8)}.${nth & 255}`) });
    const address = connect(services, nth, { of });
    counts.set(address, (counts.get(address) ?? 0) + 1);
  }
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, count]) => count);
}

/** The backend of each of the first connections, none of which is opened. */
function owners(services: Services, connections: number): string[] {
  return Array.from({ length: connections }, (_, nth) => {
    const choice = chosenFor(services, tuple(nth));
    return choice.kind === 'none' ? choice.why : formatIp(choice.backend.address);
  });
}

t.test('weights 90 and 10: within 1 % of 10,000 connections, by every method', async (t) => {
  for (const balancing of METHODS) {
    const { services } = serviceTable();
    services.set(service({ balancing, backends: backends(2, (at) => ({ weight: at === 0 ? 90 : 10 })) }), 0);
    const [ninety = 0, ten = 0] = shares(services, 10_000);
    t.ok(Math.abs(ninety - 9000) <= 100 && Math.abs(ten - 1000) <= 100, `${balancing}: ${ninety} and ${ten}`);
  }
});

t.test('a backend without weight gets nothing', async (t) => {
  for (const balancing of METHODS) {
    const { services } = serviceTable();
    services.set(service({ balancing, backends: backends(3, (at) => ({ weight: at })) }), 0);
    t.notOk(owners(services, 300).includes('10.0.1.1'), balancing);
  }
});

t.test('deciding changes nothing, whatever the method; opening does', async (t) => {
  for (const balancing of METHODS) {
    const { services } = serviceTable();
    services.set(service({ balancing, backends: backends(10) }), 0);
    const before = owners(services, 50);
    t.same(owners(services, 50), before, balancing);
    for (let slot = 0; slot < 5; slot++) connect(services, slot);
    const isStateful = balancing !== 'maglev' && balancing !== 'source-hash';
    t.equal(owners(services, 50).join() !== before.join(), isStateful, balancing);
  }
});

t.test(
  'maglev: a backend that is down moves nothing of the others; when it is back, it takes only its share',
  async (t) => {
    const { services } = serviceTable();
    const all = (given: (at: number) => object): void => services.set(service({ backends: backends(100, given) }), 0);
    all(() => ({}));
    const down = '10.0.1.8';
    let last = owners(services, 20_000);
    /** How many connections get another backend than before, although they had none that is down and get none that is back. */
    const moved = (): number => {
      const before = last;
      last = owners(services, 20_000);
      return before.filter((was, at) => was !== down && last[at] !== down && was !== last[at]).length;
    };
    all((at) => (at === 7 ? { ready: false } : {}));
    t.equal(moved(), 0, 'not ready');
    t.notOk(last.includes(down));
    all(() => ({}));
    t.equal(moved(), 0, 'ready again');
    const share = last.filter((is) => is === down).length;
    t.ok(share > 100 && share < 300, `which then has ${share} of 20,000`);
    services.setHealth('default/web', 'check_failed', [[parseIp(down), 'no answer']]);
    t.equal(moved(), 0, 'its checks fail');
    services.setHealth('default/web', 'check_failed', [[parseIp(down), undefined]]);
    t.equal(moved(), 0, 'no more');
    services.set(service({ backends: backends(100).filter((_, at) => at !== 7) }), 0);
    t.equal(moved(), 0, 'removed');
  },
);

t.test('round robin: one after the other, for the clients of each network', async (t) => {
  const { services, topology } = serviceTable();
  const red = 200 as Vni;
  const subnets = [{ ip: parseIp('10.1.0.0'), length: 16 }];
  const routes = [{ prefix: { ip: parseIp('10.0.0.0'), length: 16 }, kind: 'network', network: 'blue' } as const];
  topology.setNetwork({ name: 'red', vni: red, subnets, routes });
  services.set(service({ balancing: 'round-robin', backends: backends(3) }), 0);
  const turns = Array.from({ length: 6 }, (_, nth) => [
    connect(services, 2 * nth),
    connect(services, 2 * nth + 1, { from: red }),
  ]);
  const expected = [1, 2, 3, 1, 2, 3].map((last) => `10.0.1.${last}`);
  t.same(
    turns.map(([blue]) => blue),
    expected,
  );
  t.same(
    turns.map(([, red]) => red),
    expected,
  );
});

t.test(`least connections: within one of even, however they come and go (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const { services } = serviceTable();
  services.set(service({ balancing: 'least-connections', backends: backends(7) }), 0);
  const open = new Map<number, number>();
  const counts = new Map<number, number>();
  for (let slot = 0; slot < 700; slot++) {
    const choice = chosenFor(services, tuple(slot));
    if (choice.kind === 'none') throw new Error('nobody');
    services.opened(slot, choice, BLUE, tuple(slot), 0);
    open.set(slot, choice.pin);
    counts.set(choice.pin, (counts.get(choice.pin) ?? 0) + 1);
    const all = [...counts.values(), ...(counts.size < 7 ? [0] : [])];
    if (Math.max(...all) - Math.min(...all) > 1) t.fail(`after ${slot}: ${all.join(' ')}`);
  }
  // Then some leave at random, and each new one goes where there are the fewest.
  for (let round = 0; round < 3000; round++) {
    const [slot, pin] = random.pick([...open]);
    services.closed(slot, pin);
    open.delete(slot);
    counts.set(pin, counts.get(pin)! - 1);
    if (random.chance(0.5) && open.size > 100) continue;
    const least = Math.min(...counts.values());
    const choice = chosenFor(services, tuple(random.int(60_000)));
    if (choice.kind === 'none') throw new Error('nobody');
    if (counts.get(choice.pin) !== least) t.fail(`${counts.get(choice.pin)} where another has ${least}`);
    services.opened(slot, choice, BLUE, tuple(slot), 0);
    open.set(slot, choice.pin);
    counts.set(choice.pin, counts.get(choice.pin)! + 1);
  }
  for (const [pin, count] of counts) t.equal(services.pinned(pin)?.connections, count);
});

t.test('random: another connection of the same tuple may get another backend, and all get about as many', async (t) => {
  const { services } = serviceTable();
  services.set(service({ balancing: 'random', backends: backends(4) }), 0);
  const counts = new Map<string, number>();
  for (let slot = 0; slot < 4000; slot++) {
    const address = connect(services, slot, { of: tuple(1) });
    counts.set(address, (counts.get(address) ?? 0) + 1);
  }
  t.equal(counts.size, 4);
  for (const count of counts.values()) t.ok(Math.abs(count - 1000) < 150, String(count));
});

t.test('source hash: all connections of a client, and a client keeps its backend when others leave', async (t) => {
  const { services } = serviceTable();
  services.set(service({ balancing: 'source-hash', backends: backends(10) }), 0);
  const of = (client: number, sourcePort: number): string => {
    const choice = chosenFor(services, tuple(0, { source: parseIp(`10.0.0.${client}`), sourcePort }));
    return choice.kind === 'none' ? choice.why : formatIp(choice.backend.address);
  };
  const clients = Array.from({ length: 100 }, (_, at) => at + 2);
  const first = clients.map((client) => of(client, 1000));
  t.same(
    clients.map((client) => of(client, 2000)),
    first,
  );
  t.equal(new Set(first).size, 10, 'and each backend has clients');
  services.set(service({ balancing: 'source-hash', backends: backends(10).slice(1) }), 0);
  const moved = clients.filter((client, at) => first[at] !== '10.0.1.1' && of(client, 1000) !== first[at]);
  t.same(moved, []);
});

t.test('session affinity: per client and port of the service, refreshed by new connections', async (t) => {
  for (const balancing of METHODS) {
    const { services } = serviceTable();
    const ports = [servicePort(20), servicePort(20, { name: 'tls', l4Port: 443 })];
    services.set(service({ balancing, backends: backends(20), ports, affinityMs: 10_000 }), 0);
    let slot = 0;
    const from = (client: number, destinationPort = 80, nowMs = 0): string => {
      const source = parseIp(`10.0.0.${client}`);
      const of = tuple(0, { source, sourcePort: 1024 + ++slot, destinationPort });
      return connect(services, slot, { of, nowMs });
    };
    const first = from(2);
    for (let n = 0; n < 20; n++) if (from(2) !== first) t.fail(`${balancing} gives it another backend`);
    const others = new Set(Array.from({ length: 100 }, (_, client) => from(3 + client)));
    t.ok(others.size > 5, `${balancing}: other clients have other backends`);
    t.equal(from(2, 80, 9_000), first);
    services.expire(18_999);
    t.equal(from(2, 80, 18_999), first, 'it was refreshed');
    const kept = chosenFor(services, tuple(0, { source: parseIp('10.0.0.2') }));
    t.match(kept, { by: 'affinity' });
    services.expire(28_999);
    const again = chosenFor(services, tuple(0, { source: parseIp('10.0.0.2') }));
    t.match(again, { by: balancing }, 'then it is over');
  }
});

t.test('session affinity: when the backend has gone, there is a new choice at once, which then stays', async (t) => {
  const { services } = serviceTable();
  const value = (missing?: string) =>
    service({
      balancing: 'round-robin',
      affinityMs: 10_000,
      backends: backends(5, (at) => ({ ready: `10.0.1.${at + 1}` !== missing })),
    });
  services.set(value(), 0);
  const first = connect(services, 0, { of: tuple(0) });
  services.set(value(first), 0);
  const second = connect(services, 1, { of: tuple(0) });
  t.not(second, first);
  services.set(value(), 0);
  t.equal(connect(services, 2, { of: tuple(0) }), second);
});

t.test('session affinity: each port of a service has its own, and who is known takes nobody’s turn', async (t) => {
  const { services } = serviceTable();
  const ports = [servicePort(4), servicePort(4, { name: 'tls', l4Port: 443 })];
  services.set(service({ balancing: 'round-robin', backends: backends(4), ports, affinityMs: 10_000 }), 0);
  let slot = 0;
  const from = (client: number, destinationPort: number): string =>
    connect(services, ++slot, { of: tuple(slot, { source: parseIp(`10.0.0.${client}`), destinationPort }) });
  t.equal(from(2, 80), '10.0.1.1');
  t.equal(from(2, 80), '10.0.1.1');
  t.equal(from(3, 80), '10.0.1.2');
  t.equal(from(3, 443), '10.0.1.1');
  t.equal(from(2, 443), '10.0.1.2');
  t.same([from(2, 80), from(3, 80)], ['10.0.1.1', '10.0.1.2']);
});

t.test('the clients that are remembered are limited: who was refreshed the longest ago is forgotten', async (t) => {
  const affinity = new Affinity(3);
  for (const client of ['a', 'b', 'c']) affinity.set(client, 1, 1000);
  affinity.set('a', 2, 2000);
  affinity.set('d', 1, 1000);
  t.same(
    ['a', 'b', 'c', 'd'].map((client) => affinity.of(client)),
    [2, undefined, 1, 1],
  );
  affinity.expire(1000);
  t.same([affinity.size, affinity.of('a')], [1, 2]);
});

t.test(
  'tables together are limited: who was used the longest ago is forgotten, and made again when it is needed',
  async (t) => {
    const scopes = new Scopes(10_000);
    const scope = (count: number): Scope => {
      const candidates = backends(count).map((one, at) => ({
        backend: one,
        weight: 1,
        target: 80,
        pinned: {
          ...{ pin: at + 1, service: 'a', address: one.address, l4Port: 80, connections: 0 },
          ...{ portId: undefined, endsAtMs: undefined, isOut: false, replies: undefined, ports: [] },
        },
      }));
      const value = service({ backends: backends(count) });
      const selection = {
        service: value,
        port: value.ports[0]!,
        subset: undefined,
        spread: value,
        candidates,
        excluded: [],
        refusal: undefined,
        consulted: [],
      };
      return { selection, table: undefined, tableOf: undefined, position: 0, balancing: undefined };
    };
    for (const id of ['a', 'b', 'c', 'd', 'e']) {
      const one = scope(2);
      tableOf(one);
      scopes.use(id, one);
    }
    t.equal(scopes.size, 5);
    scopes.use('a', scopes.get('a')!);
    const large = scope(30);
    tableOf(large);
    t.equal(large.table!.lengthBytes, 2 * 4093);
    scopes.use('f', large);
    t.ok(scopes.lengthBytes <= 10_000 || scopes.size === 1);
    t.equal(scopes.get('b'), undefined);

    const { services } = serviceTable({ scopesBytes: 100_000 });
    for (let n = 0; n < 200; n++) {
      services.set(service({ id: `default/s${n}`, vips: [parseIp(`10.96.1.${n}`)], backends: backends(3) }), 0);
    }
    const of = (n: number): string => {
      const choice = chosenFor(services, tuple(0, { destination: parseIp(`10.96.1.${n}`) }));
      return choice.kind === 'none' ? choice.why : formatIp(choice.backend.address);
    };
    const first = Array.from({ length: 200 }, (_, n) => of(n));
    t.ok(services.scopesBytes <= 100_000, String(services.scopesBytes));
    t.ok(services.scopesBytes > 50_000);
    t.same(
      Array.from({ length: 200 }, (_, n) => of(n)),
      first,
    );
  },
);

t.test('a kept choice says among whom it was, and who was excluded and why', async (t) => {
  const { services } = serviceTable();
  const all = [
    backend('10.0.1.1'),
    backend('10.0.1.2', { ready: false }),
    backend('10.0.1.3', { weight: 3 }),
    backend('fd00::1'),
    backend('10.9.0.1', { vni: 300 as Vni }),
    backend('10.0.1.6'),
  ];
  services.set(service({ backends: all }), 0);
  services.setHealth('default/web', 'check_failed', [[parseIp('10.0.1.6'), 'no answer to 3 connections']]);
  const address = connect(services, 7);
  services.set(service({ backends: all.slice(1) }), 0);
  const kept = services.kept(7)!;
  t.same(
    kept.selection.candidates.map(({ backend, weight }) => [formatIp(backend.address), weight]),
    [
      ['10.0.1.1', 1],
      ['10.0.1.3', 3],
    ],
    'as it was then',
  );
  t.same(
    kept.selection.excluded.map(({ backend, why, detail }) => [formatIp(backend.address), why, detail]),
    [
      ['10.0.1.2', 'not_ready', undefined],
      ['fd00::1', 'other_family', undefined],
      ['10.9.0.1', 'unreachable', undefined],
      ['10.0.1.6', 'check_failed', 'no answer to 3 connections'],
    ],
  );
  t.equal(formatIp(services.pinned(kept.pin)!.address), address);
  services.closed(7, kept.pin);
  t.equal(services.kept(7), undefined);
});

t.test('kept choices are limited: the oldest of former generations are forgotten', async (t) => {
  const kept = new KeptChoices(10);
  const selection = (count: number): BackendSelection => ({
    ...chosen.selection,
    candidates: chosen.selection.candidates.slice(0, count),
  });
  const { services } = serviceTable();
  services.set(service({ backends: backends(11) }), 0);
  const chosen = chosenFor(services, tuple(0));
  const [a, b, c] = [selection(4), selection(4), selection(4)];
  kept.set(1, { selection: a, pin: 1, by: 'maglev', route: undefined });
  kept.set(2, { selection: a, pin: 1, by: 'maglev', route: undefined });
  kept.set(3, { selection: b, pin: 1, by: 'maglev', route: undefined });
  t.same(
    [1, 2, 3].map((slot) => kept.of(slot)?.selection === (slot < 3 ? a : b)),
    [true, true, true],
  );
  kept.set(4, { selection: c, pin: 1, by: 'maglev', route: undefined });
  t.same(
    [1, 2, 3, 4].map((slot) => kept.of(slot) !== undefined),
    [false, false, true, true],
  );
  kept.delete(3);
  kept.set(5, { selection: selection(4), pin: 1, by: 'maglev', route: undefined });
  t.ok(kept.of(4), 'a choice that no connection refers to any more takes no room');
  kept.delete(1);
  kept.set(6, { selection: selection(11), pin: 1, by: 'affinity', route: undefined });
  t.ok(kept.of(6) === undefined, 'more than all of them may have');
});

t.test('tables for the datapath: as JavaScript chooses, and gone as soon as anything changes', (t) => {
  const { services } = serviceTable({ scopesBytes: 20_000 });
  const tables = new Map<number, BalancingTable>();
  let left = 1;
  const store = {
    addTable: (id: number, table: BalancingTable) => void tables.set(id, table),
    removeTable: (id: number) => void tables.delete(id),
    balancedTo: () => 0,
    balancedBy: () => left,
  };
  services.balanceWith({ store, quota: 7, unprovenQuota: 3 }, { balancedAt: () => undefined });
  services.setHost('here', undefined);
  const here = { vni: BLUE, endpoint: 'default/one', host: 'here' };
  const declare = (given: Partial<Service> = {}): void =>
    services.set(
      service({ backends: [backend('10.0.0.1', here), backend('10.0.0.2', { ...here, host: 'there' })], ...given }),
      0,
    );
  const choice = (slot = 0): Choice => chosenFor(services, tuple(slot)) as Choice;
  declare();
  const first = services.tableFor(choice(), BLUE)!;
  t.match(tables.get(first), { byClient: false, firstPort: 80, quota: 7, unprovenQuota: 3 });
  t.same(
    tables.get(first)!.backends.map(({ replies }) => replies),
    [BLUE, BLUE],
    'both are in one network: replies from another host come in there, too',
  );
  for (let slot = 0; slot < 50; slot++) t.equal(backendOf(tables.get(first)!, tuple(slot)).pin, choice(slot).pin);
  t.equal(services.tableFor(choice(), BLUE), first);
  const before = choice();
  declare({ backends: [backend('10.0.0.1', here)] });
  t.same([...tables.keys()], [], 'before anybody decides again');
  t.equal(services.tableFor(before, BLUE), undefined, 'it is not added again for a choice of before');
  t.not(services.tableFor(choice(), BLUE), first);
  services.setHealth('default/web', 'check_failed', [[parseIp('10.0.0.1'), 'refused']]);
  t.same([...tables.keys()], []);
  declare();
  services.tableFor(choice(), BLUE);
  services.remove('default/web');
  t.same([...tables.keys()], []);
  declare();
  for (let n = 0; n < 60; n++) {
    services.set(service({ id: `default/s${n}`, vips: [parseIp(`10.96.1.${n}`)], backends: backends(3) }), 0);
    const of = { ...tuple(n), destination: parseIp(`10.96.1.${n}`) };
    services.tableFor(chosenFor(services, of) as Choice, BLUE);
  }
  t.ok(tables.size < 30, 'with the scopes that are forgotten');
  t.ok(services.scopesBytes <= 20_000);
  left = 0;
  services.expire(0);
  for (const given of [
    { balancing: 'random' },
    { affinityMs: 1 },
    { maxConnections: 1 },
  ] satisfies Partial<Service>[]) {
    declare(given);
    t.equal(services.tableFor(choice(), BLUE), undefined);
  }
  t.end();
});
