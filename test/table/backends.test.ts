/** The numbers of backends in the records of connections: what they mean, for how long, and after a restart. */
import t from 'tap';
import { routing } from '../../src/cluster/routing.ts';
import { OUTSIDE, type ConnectionTuples } from '../../src/flow/connection.ts';
import { bytesId } from '../../src/flow/key.ts';
import { formatIp, parseIp, type Vni } from '../../src/flow/types.ts';
import { Backends } from '../../src/table/backends.ts';
import type { Backend, Service } from '../../src/table/service.ts';
import type { ClientOrigin } from '../../src/table/service-keys.ts';
import type { Services } from '../../src/table/services.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { Random } from '../support/random.ts';
import {
  backend,
  backends,
  BLUE,
  chosenFor,
  service,
  servicePort,
  serviceTable,
  tuple,
  VIP,
  VIP6,
} from '../support/services.ts';

const seed = Date.now() % 2 ** 32;

/** An open connection, as its record has it. */
interface Open {
  readonly pin: number;
  readonly tuples: ConnectionTuples;
}

/** Opens a connection; undefined if there is no backend. @param from outside: to a node port */
function open(services: Services, slot: number, of = tuple(slot), from: ClientOrigin = BLUE): Open | undefined {
  const published = from === OUTSIDE ? services.findPublished(of.protocol, of.destinationPort) : undefined;
  const choice = published ? services.choose(published, from, of) : chosenFor(services, of);
  if (choice.kind === 'none') return undefined;
  services.opened(slot, choice, from, of, 0);
  const translated = { ...of, destination: choice.backend.address, destinationPort: choice.l4Port };
  const { protocol } = of;
  return { pin: choice.pin, tuples: { kind: 'translated', places: [from, BLUE], protocol, original: of, translated } };
}

/** As `serviceTable`, with a way outside. */
function tableWithOutside(options?: Parameters<typeof serviceTable>[0]) {
  const table = serviceTable(options);
  const routes = routing('blue', ['10.0.0.0/16', 'fd00::/64'], []);
  table.topology.setNetwork({ name: 'blue', vni: BLUE, outside: true, ...routes });
  return table;
}

/** A client outside asks for a node port. */
const fromOutside = (nth: number, nodePort: number) =>
  tuple(nth, { source: parseIp('203.0.113.9'), destination: parseIp('169.254.77.2'), destinationPort: nodePort });

t.test(
  'a backend that is removed has its connections ended at once, and its number goes with the last one',
  async (t) => {
    const { services } = serviceTable();
    services.set(service({ backends: backends(2), balancing: 'round-robin' }), 0);
    const [first, second, third] = [open(services, 0)!, open(services, 1)!, open(services, 2)!];
    t.equal(first.pin, third.pin);
    t.match(services.pinned(first.pin), { service: 'default/web', connections: 2 });
    t.same(services.ended(0), new Set());
    services.set(service({ backends: backends(2).slice(1), balancing: 'round-robin', drainMs: 60_000 }), 0);
    t.same(services.ended(0), new Set([first.pin]), 'it was not drained first');
    services.closed(0, first.pin);
    t.same(services.ended(0), new Set([first.pin]));
    services.closed(2, third.pin);
    t.same(services.ended(0), new Set());
    t.equal(services.pinned(first.pin), undefined);
    t.match(services.pinned(second.pin), { connections: 1 });
    services.remove('default/web');
    t.same(services.ended(0), new Set([second.pin]), 'with the service');
  },
);

t.test('a backend that terminates keeps its connections until its deadline, which begins once', async (t) => {
  const { services } = serviceTable();
  const value = (terminating: boolean, given: Partial<Service> = {}) =>
    service({
      backends: backends(2, (at) => (at === 0 ? { terminating, ready: !terminating } : {})),
      drainMs: 1000,
      ...given,
    });
  services.set(value(false, { balancing: 'round-robin' }), 0);
  const { pin } = open(services, 0)!;
  services.set(value(true), 5000);
  t.same(services.ended(5999), new Set());
  services.set(value(true, { affinityMs: 1 }), 5500);
  t.same(services.ended(5999), new Set());
  t.same(services.ended(6000), new Set([pin]));
  services.set(value(false), 6000);
  t.same(services.ended(1e9), new Set(), 'it has changed its mind');
  services.set(value(true), 7000);
  t.same(services.ended(8000), new Set([pin]), 'and then a new one begins');
});

t.test('while no other is ready, a backend that terminates keeps its connections, old and new', async (t) => {
  const { services } = serviceTable();
  const leaving = { terminating: true, ready: false };
  const value = (other: object) => service({ backends: backends(2, (at) => (at === 0 ? leaving : other)) });
  services.set(service({ backends: [backend('10.0.1.1')] }), 0);
  const { pin } = open(services, 0)!;
  services.set(value({ ready: true, terminating: true }), 500);
  t.same(services.ended(1e9), new Set(), 'one that terminates as well is no other');
  services.set(value({ ready: false, serving: false }), 1000);
  t.equal(open(services, 1)?.pin, pin, 'it is chosen again');
  t.same(services.ended(1e9), new Set());
  const six = backend('fd00::1');
  services.set(service({ backends: [backend('10.0.1.1', leaving), six] }), 2000);
  t.same(services.ended(1e9), new Set(), 'one of the other family does not help');
  services.set(value({}), 3000);
  t.same(services.ended(3000), new Set([pin]), 'its time begins when there is another one');
});

const LEAVING = { terminating: true, ready: false };

t.test('so it is if others are ready, but not for all clients who get it', async (t) => {
  const drained = (given: Partial<Backend>, other: Partial<Backend>) =>
    backends(2, (at) => (at === 0 ? { ...given, ...LEAVING } : other));
  const cases: Readonly<
    Record<string, readonly [given: Partial<Service>, first: Partial<Backend>, other: Partial<Backend>]>
  > = {
    'the other one is on another host, and the policy is Local': [
      { internalPolicy: 'local' },
      { host: 'here' },
      { host: 'there' },
    ],
    'the other one is in a network that its clients do not reach': [{}, {}, { vni: 200 as Vni }],
    'the other one does not have the port': [{ ports: [servicePort(2, { targets: [8080, 0] })] }, {}, {}],
    'the other one has no weight': [{}, {}, { weight: 0 }],
  };
  for (const [what, [given, first, other]] of Object.entries(cases)) {
    const { services } = serviceTable();
    services.setHost('here', undefined);
    services.set(service({ ...given, backends: backends(2, (at) => (at === 0 ? first : other)), drainMs: 1000 }), 0);
    const { pin } = open(services, 0)!;
    services.set(service({ ...given, backends: drained(first, other), drainMs: 1000 }), 5000);
    t.same(services.ended(7000), new Set(), what);
    t.equal(open(services, 1)?.pin, pin, 'new ones go there, too');
    t.same(services.ended(8000), new Set(), 'and stay');
    services.set(service({ backends: drained({}, {}), drainMs: 1000 }), 9000);
    t.same(services.ended(9000), new Set([pin]), 'until there is another one for them: its time was over');
  }
});

t.test('so it is if the check of all others fails, and while routes lead to a subset without others', async (t) => {
  const { services } = serviceTable();
  const all = (given: object) => backends(2, (at) => ({ subsets: [`v${at + 1}`], ...(at === 0 && given) }));
  const to = (subset: string): Pick<Service, 'routing'> => ({
    routing: {
      rule: 'default/r',
      routes: [{ matches: [], destinations: [{ service: 'default/web', subset, l4Port: undefined, weight: 1 }] }],
    },
  });
  const subsets = ['v1', 'v2'].map((name) => ({ ...service(), name }));
  services.set(service({ backends: all({}), subsets, ...to('v1') }), 0);
  const { pin } = open(services, 0)!;
  services.set(service({ backends: all(LEAVING), subsets, ...to('v1') }), 0);
  t.same(services.ended(1e9), new Set());
  services.set(service({ backends: all(LEAVING), subsets, ...to('v2') }), 0);
  t.same(services.ended(1e9), new Set([pin]), 'nobody is led there any more');

  services.set(service({ backends: all({}) }), 0);
  services.setHealth('default/web', 'check_failed', [[all({})[1]!.address, 'refused']]);
  t.equal(open(services, 1)?.pin, pin);
  services.set(service({ backends: all(LEAVING) }), 0);
  t.same(services.ended(1e9), new Set());
  services.setHealth('default/web', 'check_failed', [[all({})[1]!.address, undefined]]);
  t.same(services.ended(1e9), new Set([pin]));
});

/** A service of UDP, in which the first backend is as given. */
const udp = (first: Partial<Backend>, given: Partial<Service> = {}, others: Partial<Backend> = {}): Service =>
  service({
    ports: [servicePort(2, { protocol: IP_UDP })],
    backends: backends(2, (at) => (at === 0 ? first : others)),
    balancing: 'round-robin',
    ...given,
  });
const asksUdp = (nth: number) => tuple(nth, { protocol: IP_UDP });
const OUT = { ready: false, serving: false };

t.test('UDP leaves a backend that is out, as soon as there is another one; TCP stays', async (t) => {
  const outs: Readonly<Record<string, readonly [Partial<Backend>, (services: Services, isOut: boolean) => void]>> = {
    'it is not ready': [OUT, () => {}],
    'it terminates and does not serve any more': [{ ...OUT, terminating: true }, () => {}],
    'its check fails': [
      {},
      (services, isOut) =>
        services.setHealth('default/web', 'check_failed', [[parseIp('10.0.1.1'), isOut ? 'refused' : undefined]]),
    ],
  };
  for (const [what, [first, check]] of Object.entries(outs)) {
    const { services } = serviceTable();
    const drainMs = 60_000;
    services.set(udp({}, { drainMs }), 0);
    const { pin } = open(services, 0, asksUdp(0))!;
    const { pin: other } = open(services, 1, asksUdp(1))!;
    services.set(udp(first, { drainMs }), 0);
    check(services, true);
    t.same(services.ended(0), new Set([pin]), what);
    services.set(udp({}, { drainMs }), 0);
    check(services, false);
    t.same(services.ended(0), new Set(), `${what}: it is back before they have ended`);

    services.set(udp(first, { drainMs }, OUT), 0);
    check(services, true);
    t.same(services.ended(0), new Set(), `${what}: so is the other one`);
    t.equal(services.nextEndMs(0), undefined, 'nothing is waited for');
    services.set(udp(first, { drainMs }), 0);
    t.same(services.ended(0), new Set([pin]), `${what}: the other one is ready first`);
    services.setHealth('default/web', 'check_failed', [[parseIp('10.0.1.2'), 'refused']]);
    t.same(services.ended(0), new Set(), `${what}: and its check fails`);
    services.set(udp({}, { drainMs }, {}), 0);
    check(services, false);
    t.same(services.ended(0), new Set([other]), `${what}: this one is ready first`);
  }
  const { services } = serviceTable();
  services.set(service({ backends: backends(2), balancing: 'round-robin' }), 0);
  open(services, 0);
  services.set(service({ backends: backends(2, (at) => (at === 0 ? OUT : {})) }), 0);
  services.setHealth('default/web', 'check_failed', [[parseIp('10.0.1.1'), 'refused']]);
  t.same(services.ended(1e9), new Set());
});

t.test(
  'UDP stays with a backend that is ejected, and where no other one has the port, the family or the network',
  async (t) => {
    const cases: Readonly<Record<string, readonly [given: Partial<Service>, other: Partial<Backend>]>> = {
      'another port': [{ ports: [servicePort(2, { protocol: IP_UDP, targets: [8080, 0] }), servicePort(2)] }, {}],
      'another port of UDP': [
        {
          ports: [
            servicePort(2, { protocol: IP_UDP, targets: [8080, 0] }),
            servicePort(2, { protocol: IP_UDP, l4Port: 81, lastL4Port: 81 }),
          ],
        },
        {},
      ],
      'another family': [{}, { address: parseIp('fd00::1') }],
      'another network': [{}, { vni: 200 as Vni }],
      'another host': [{ internalPolicy: 'local' }, { host: 'there' }],
    };
    for (const [what, [given, other]] of Object.entries(cases)) {
      const { services } = serviceTable();
      services.setHost('here', undefined);
      services.set(udp({ host: 'here' }, given, other), 0);
      const { pin } = open(services, 0, asksUdp(0))!;
      // Who asks another port gets it.
      for (const { protocol, l4Port } of given.ports?.slice(1) ?? []) {
        open(services, 1, tuple(1, { protocol, destinationPort: l4Port }));
      }
      services.set(udp({ host: 'here', ...OUT }, given, other), 0);
      t.notOk(services.ended(1e9).has(pin), what);
      services.set(udp(OUT), 0);
      t.ok(services.ended(0).has(pin), `${what}: and now it has`);
    }
    const { services } = serviceTable();
    services.set(udp({}), 0);
    open(services, 0, asksUdp(0));
    services.setHealth('default/web', 'ejected', [[parseIp('10.0.1.1'), '3 connections refused']]);
    t.same(services.ended(1e9), new Set());
  },
);

t.test('after a restart, UDP leaves a backend that is out', async (t) => {
  const { services: before } = serviceTable();
  before.set(udp({}), 0);
  const { pin, tuples } = open(before, 0, asksUdp(0))!;
  const { services } = serviceTable({ isLoaded: false });
  services.recovered(tuples, pin);
  services.set(udp(OUT, {}, OUT), 0);
  services.loaded(0);
  t.same(services.ended(0), new Set(), 'there is no other one');
  services.set(udp(OUT), 0);
  t.same(services.ended(0), new Set([pin]));

  const { services: again } = serviceTable({ isLoaded: false });
  again.recovered(tuples, pin);
  again.set(udp({}), 0);
  again.loaded(0);
  again.setHealth('default/web', 'check_failed', [[parseIp('10.0.1.1'), 'refused']]);
  t.same(again.ended(0), new Set([pin]), 'what checks say is known later');
});

t.test('after a restart, a backend that terminates has its time to drain anew', async (t) => {
  const of = (given: object) =>
    service({ backends: backends(2, (at) => (at === 0 ? given : {})), balancing: 'round-robin', drainMs: 1000 });
  const { services: before } = serviceTable();
  before.set(of({}), 0);
  const { pin, tuples } = open(before, 0)!;
  const { services } = serviceTable({ isLoaded: false });
  services.recovered(tuples, pin);
  services.set(of(LEAVING), 5000);
  services.loaded(5000);
  t.same(services.ended(5999), new Set());
  t.equal(services.nextEndMs(5000), 6000);
  t.same(services.ended(6000), new Set([pin]));

  const { services: again } = serviceTable({ isLoaded: false });
  again.setHost('here', undefined);
  again.recovered(tuples, pin);
  const local = backends(2, (at) => (at === 0 ? { ...LEAVING, host: 'here' } : { host: 'there' }));
  again.set(service({ backends: local, internalPolicy: 'local' }), 0);
  again.loaded(0);
  t.same(again.ended(1e9), new Set(), 'as long as its clients get nobody else');
});

t.test('another port, or another target port, is another backend: those of the old one end', async (t) => {
  for (const ports of [[servicePort(1, { targets: [9090] })], [servicePort(1, { l4Port: 81 })]]) {
    const { services } = serviceTable();
    services.set(service({ backends: backends(1) }), 0);
    const { pin } = open(services, 0)!;
    services.set(service({ backends: backends(1), ports }), 0);
    t.same(services.ended(0), new Set([pin]));
  }
  const { services } = serviceTable();
  services.set(service({ backends: backends(1) }), 0);
  open(services, 0);
  const states = { ready: false, weight: 0, host: 'b', zone: '2', endpoint: 'a/b' };
  services.set(service({ backends: backends(1, () => states), ports: [servicePort(1, { name: 'web' })] }), 0);
  t.same(services.ended(1e9), new Set(), 'everything else leaves them alone');
});

t.test('after a restart, numbers mean what they did, whatever order services come back in', async (t) => {
  const ports = [servicePort(3), servicePort(3, { l4Port: 5060, lastL4Port: 5070, targets: [7060, 7060, 7060] })];
  const web = service({ vips: [VIP, VIP6], ports, backends: [...backends(2), backend('fd00::1')] });
  const db = service({ id: 'default/db', vips: [parseIp('10.96.0.2')], backends: backends(3) });
  for (const order of [
    [web, db],
    [db, web],
  ]) {
    const { services: before } = serviceTable();
    for (const value of [web, db]) before.set(value, 0);
    const all = [
      tuple(0),
      tuple(1, { destinationPort: 5061 }),
      tuple(2, { destinationPort: 5069 }),
      tuple(3, { source: parseIp('fd00::2'), destination: VIP6 }),
      ...Array.from({ length: 20 }, (_, nth) => tuple(4 + nth, { destination: db.vips[0]! })),
    ].map((of, slot) => open(before, slot, of)!);

    const { services } = serviceTable({ isLoaded: false });
    for (const { pin, tuples } of all) services.recovered(tuples, pin);
    const [first, second] = order;
    services.set(first!, 0);
    services.set({ ...second!, backends: [], ports: [servicePort(0)] }, 0);
    t.same(services.ended(1e9), new Set(), 'nothing ends while not everything is known');
    services.set(second!, 0);
    services.loaded(0);
    t.same(services.ended(1e9), new Set());
    for (const { pin, tuples } of all) {
      const { service: id, connections, address } = services.pinned(pin)!;
      const { destination } = tuples.translated;
      t.same([id, formatIp(address)], [before.pinned(pin)!.service, formatIp(destination)]);
      t.equal(connections, before.pinned(pin)!.connections);
    }
    for (const [slot, { pin }] of all.entries()) {
      const again = open(services, 100 + slot, { ...all[slot]!.tuples.original, protocol: all[slot]!.tuples.protocol });
      t.equal(again?.pin, pin, 'new connections of the same tuples have the same numbers');
    }
    t.ok(all.some(({ pin }) => services.pinned(pin)!.connections > 2));
    services.set({ ...db, backends: [], ports: [servicePort(0)] }, 0);
    t.same(services.ended(0), new Set(all.slice(4).map(({ pin }) => pin)));
  }
});

t.test('until all services are known, nothing ends; who is there by then keeps its number', async (t) => {
  const { services: before } = serviceTable();
  before.set(service({ backends: backends(2), balancing: 'round-robin' }), 0);
  const all = [open(before, 0)!, open(before, 1)!];
  const { services } = serviceTable({ isLoaded: false });
  for (const { pin, tuples } of all) services.recovered(tuples, pin);
  services.set(service({ backends: backends(2) }), 0);
  services.set(service({ backends: backends(1) }), 0);
  t.same(services.ended(0), new Set());
  services.set(service({ backends: backends(2) }), 0);
  services.loaded(0);
  t.same(services.ended(0), new Set());
  t.match(services.pinned(all[1]!.pin), { service: 'default/web', connections: 1 });
});

t.test(
  'after a restart, a connection to a node port goes on with the service that has port and backend by then',
  async (t) => {
    const of = (id: string, nodePort: number) =>
      service({ id, vips: [], ports: [servicePort(1, { nodePort })], backends: backends(1) });
    const { services: before } = tableWithOutside();
    before.set(of('default/web', 30_080), 0);
    const { pin, tuples } = open(before, 0, fromOutside(0, 30_080), OUTSIDE)!;
    for (const [after, isKept] of [
      [of('default/web', 30_080), true],
      [of('default/other', 30_080), true],
      [of('default/web', 30_081), false],
      [service({ id: 'default/web', vips: [tuples.original.destination], backends: backends(1) }), false],
    ] as const) {
      const { services } = tableWithOutside({ isLoaded: false });
      services.recovered(tuples, pin);
      services.set(after, 0);
      services.loaded(0);
      t.same(services.ended(0), isKept ? new Set() : new Set([pin]));
      t.equal(services.pinned(pin)?.service, isKept ? after.id : undefined);
    }
  },
);

t.test('a number that somebody has is never given to another one, also when all have been used', async (t) => {
  const table = new Backends();
  const end = { address: VIP, l4Port: 80 };
  const front = { from: BLUE, front: bytesId(VIP), protocol: IP_TCP, l4Port: 80 };
  for (const pin of [2 ** 32 - 2, 1, 3]) table.recover(pin, front, end);
  const added = Array.from({ length: 4 }, () => table.add('default/web', end));
  t.same(
    added.map(({ pin }) => pin),
    [2 ** 32 - 1, 2, 4, 5],
  );
  table.opened(2);
  table.remove(added[1]!);
  t.ok(table.has(added[1]!));
  table.closed(2);
  t.notOk(table.has(added[1]!));
  table.recover(2, front, end);
  table.closed(2);
  table.remove(added[1]!);
  t.ok(table.of(2), 'who is removed again takes it from nobody');
});

t.test('after a restart, connections end whose backend or service is not there any more', async (t) => {
  const { services: before } = serviceTable();
  before.set(service({ backends: backends(2), balancing: 'round-robin' }), 0);
  before.set(service({ id: 'default/db', vips: [parseIp('10.96.0.2')], backends: backends(1) }), 0);
  const all = [open(before, 0)!, open(before, 1)!, open(before, 2, tuple(2, { destination: parseIp('10.96.0.2') }))!];
  const { services } = serviceTable({ isLoaded: false });
  for (const { pin, tuples } of all) services.recovered(tuples, pin);
  services.set(service({ backends: backends(1) }), 0);
  services.loaded(0);
  t.same(services.ended(0), new Set([all[1]!.pin, all[2]!.pin]));
});

t.test('after a restart, a backend is found by any address of its service that connections have come by', async (t) => {
  const of = (...vips: Uint8Array[]) => service({ vips, backends: backends(1) });
  const [first, second] = [VIP, parseIp('10.96.0.2')];
  const { services: before } = serviceTable();
  before.set(of(first, second), 0);
  const all = [open(before, 0)!, open(before, 1, tuple(1, { destination: second }))!];
  t.equal(all[0]!.pin, all[1]!.pin);
  for (const left of [first, second]) {
    const { services } = serviceTable({ isLoaded: false });
    for (const { pin, tuples } of all) services.recovered(tuples, pin);
    services.set(of(left), 0);
    services.loaded(0);
    t.same(services.ended(0), new Set());
    t.match(services.pinned(all[0]!.pin), { service: 'default/web', connections: 2 });
  }
});

t.test(`as a naive twin has it, through changes and restarts (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  let { services } = tableWithOutside();
  /** The twin: open connections, and what is declared. */
  const connections = new Map<number, Open & { readonly id: string }>();
  const declared = new Map<string, Service>();
  const vipOf = (id: string): Uint8Array => parseIp(`10.96.0.${id.length}`);
  const isGone = ({ id, tuples: { original, translated } }: Open & { id: string }): boolean => {
    const value = declared.get(id);
    const port = value?.ports.find(({ l4Port, nodePort }) => [l4Port, nodePort].includes(original.destinationPort));
    return !value?.backends.some(
      ({ address }, at) =>
        formatIp(address) === formatIp(translated.destination) && port?.targets[at] === translated.destinationPort,
    );
  };
  const nodePortOf = (id: string, l4Port: number): number => 30_000 + 100 * id.length + l4Port;
  const reached = { gone: 0, restarts: 0, opened: 0, openedFromOutside: 0 };
  let slot = 0;
  for (let round = 0; round < 3000; round++) {
    const id = random.pick(['a', 'bb', 'ccc']);
    switch (random.int(8)) {
      case 0: {
        const all = backends(10).filter(() => random.chance(0.6));
        const ports = [80, 81]
          .filter(() => random.chance(0.9))
          .map((l4Port) =>
            servicePort(all.length, {
              l4Port,
              nodePort: nodePortOf(id, l4Port),
              targets: all.map(() => random.pick([8080, 8080, 8080, 9090])),
            }),
          );
        const balancing = random.pick(['maglev', 'round-robin', 'least-connections', 'random', 'source-hash'] as const);
        const value = service({ id, vips: [vipOf(id)], backends: all, ports, balancing });
        declared.set(id, value);
        services.set(value, 0);
        break;
      }
      case 1:
        if (!random.chance(0.2)) break;
        declared.delete(id);
        services.remove(id);
        break;
      case 2: {
        if (!random.chance(0.1)) break;
        reached.restarts++;
        ({ services } = tableWithOutside({ isLoaded: false }));
        for (const { pin, tuples } of connections.values()) services.recovered(tuples, pin);
        const order = [...declared.values()];
        for (const value of random.chance(0.5) ? order : order.reverse()) services.set(value, 0);
        services.loaded(0);
        break;
      }
      case 3:
        if (connections.size > 0) {
          const [at, { pin }] = random.pick([...connections]);
          services.closed(at, pin);
          connections.delete(at);
        }
        break;
      default: {
        const l4Port = random.pick([80, 81]);
        const isPublished = declared.get(id)?.ports.some((port) => port.l4Port === l4Port) ?? false;
        const found = services.findPublished(IP_TCP, nodePortOf(id, l4Port));
        if (found?.service.id !== (isPublished ? id : undefined)) t.fail(`round ${round}: whose is the node port?`);
        if (!isPublished) break;
        const nth = random.int(1000);
        const opened = random.chance(0.7)
          ? open(services, ++slot, tuple(nth, { destination: vipOf(id), destinationPort: l4Port }))
          : open(services, ++slot, fromOutside(nth, nodePortOf(id, l4Port)), OUTSIDE);
        if (!opened) break;
        connections.set(slot, { ...opened, id });
        reached[opened.tuples.places[0] === OUTSIDE ? 'openedFromOutside' : 'opened']++;
      }
    }
    const ended = services.ended(0);
    for (const [at, connection] of connections) {
      const { pin, tuples } = connection;
      if (isGone(connection) !== ended.has(pin)) t.fail(`round ${round}: ${isGone(connection)}`);
      const known = services.pinned(pin);
      if (!known || formatIp(known.address) !== formatIp(tuples.translated.destination))
        t.fail(`round ${round}: whose is ${pin}?`);
      if (!ended.has(pin)) continue;
      reached.gone++;
      services.closed(at, pin);
      connections.delete(at);
    }
    const counts = new Map<number, number>();
    for (const { pin } of connections.values()) counts.set(pin, (counts.get(pin) ?? 0) + 1);
    for (const [pin, count] of counts) {
      if (services.pinned(pin)?.connections !== count) t.fail(`round ${round}: ${count} connections`);
    }
    if (services.ended(0).size > 0) t.fail(`round ${round}: some have ended, but are not closed`);
  }
  const { gone, restarts, opened, openedFromOutside } = reached;
  t.ok(gone > 20 && restarts > 10 && opened > 200 && openedFromOutside > 100, JSON.stringify(reached));
});
