/** Routes of services: who goes where, in which shares, and who is refused rather than sent elsewhere. */
import t, { type Test } from 'tap';
import { OUTSIDE, type ConnectionTuples, type ProtocolTuple } from '../../src/flow/connection.ts';
import { parseIp } from '../../src/flow/types.ts';
import { isRepeated } from '../../src/table/balancer.ts';
import type { RouteDestination, RouteMatch, Routing, Service, ServiceRoute, Subset } from '../../src/table/service.ts';
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
} from '../support/services.ts';

const seed = Date.now() % 2 ** 32;
const to = (given: Partial<RouteDestination> = {}): RouteDestination => ({
  ...{ service: 'default/web', subset: undefined, l4Port: undefined, weight: 1 },
  ...given,
});
const when = (given: Partial<RouteMatch>): RouteMatch => ({
  ...{ l4Port: undefined, namespace: undefined, labels: [] },
  ...given,
});
const route = (destinations: RouteDestination[], matches: RouteMatch[] = []): ServiceRoute => ({
  matches,
  destinations,
});
const routing = (...routes: ServiceRoute[]): Routing => ({ rule: 'default/rule', routes });
const subset = (name: string, given: Partial<Subset> = {}): Subset => ({
  ...{ name, balancing: 'maglev', distribution: 'none', maxConnections: undefined, portSpreads: new Map() },
  ...given,
});
/** v1 has many backends, v2 one, v3 one: 10.0.1.1 … */
const versions = (given: Partial<Service> = {}): Service =>
  service({
    backends: backends(8, (at) => ({ subsets: [at < 6 ? 'v1' : at === 6 ? 'v2' : 'v3'] })),
    subsets: ['v1', 'v2', 'v3'].map((name) => subset(name)),
    ...given,
  });

function lab(_: Test, ...all: Service[]) {
  const { services, changes } = serviceTable();
  for (const one of all) services.set(one, 0);
  const decide = (of: ProtocolTuple, client?: string) =>
    services.choose(services.find(of.destination, of.protocol, of.destinationPort)!, BLUE, of, client);
  /** The subset of the backend, or the name of its service; or why there is none. */
  const ask = (of: ProtocolTuple, client?: string): string => {
    const choice = decide(of, client);
    if (choice.kind === 'none') return choice.detail ?? choice.why;
    return choice.backend.subsets[0] ?? choice.selection.service.id;
  };
  return { services, changes, decide, ask };
}

t.test('weights are those of destinations, however many backends each has', async (t) => {
  for (const balancing of ['maglev', 'round-robin', 'least-connections', 'random', 'source-hash'] as const) {
    const shares = routing(route([to({ subset: 'v1', weight: 90 }), to({ subset: 'v3', weight: 10 })]));
    const { services, decide } = lab(
      t,
      versions({ routing: shares, balancing, subsets: ['v1', 'v3'].map((name) => subset(name, { balancing })) }),
    );
    const counts = new Map<string, number>();
    for (let n = 0; n < 10_000; n++) {
      // With the hash of the client, each client has one destination.
      const of = tuple(n, balancing === 'source-hash' ? { source: parseIp(`10.0.${100 + (n >> 8)}.${n & 255}`) } : {});
      const choice = decide(of);
      if (choice.kind === 'none') throw new Error(choice.why);
      services.opened(n, choice, BLUE, of, 0);
      const name = choice.backend.subsets[0]!;
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    const v1 = counts.get('v1') ?? 0;
    t.ok(Math.abs(v1 - 9000) <= 100, `${balancing}: ${v1} of 10,000`);
    t.equal(v1 + (counts.get('v3') ?? 0), 10_000);
  }
});

t.test(
  'within a subset, all of its backends are used by its method, and the choice is the same on all hosts',
  async (t) => {
    const shares = routing(route([to({ subset: 'v1', weight: 1 }), to({ subset: 'v3', weight: 1 })]));
    const [one, other] = [1, 2].map(() => lab(t, versions({ routing: shares })));
    const used = new Set<number>();
    for (let n = 0; n < 500; n++) {
      const [a, b] = [one!.decide(tuple(n)), other!.decide(tuple(n))];
      if (a.kind === 'none' || b.kind === 'none') throw new Error('none');
      t.same(a.backend, b.backend);
      t.equal(isRepeated(a), true);
      if (a.backend.subsets[0] === 'v1') used.add(a.backend.address.at(-1)!);
    }
    t.equal(used.size, 6);
  },
);

t.test(
  'a share whose destination is not there, or has no backend, is refused, and nobody is sent elsewhere',
  async (t) => {
    const cases: readonly [string, Partial<RouteDestination>, string][] = [
      [
        'no subset',
        { subset: 'v9' },
        'default/rule leads to service default/web, which has no subset v9: no DestinationRule names it',
      ],
      ['no service', { service: 'default/none' }, 'default/rule leads to service default/none, which does not exist'],
      ['no port', { l4Port: 81 }, 'default/rule leads to service default/web, which has no TCP port 81'],
      ['no backend', { subset: 'empty' }, 'no_backend'],
    ];
    for (const [what, given, why] of cases) {
      const shares = (destinations: RouteDestination[]): Service =>
        versions({ routing: routing(route(destinations)), subsets: [subset('v1'), subset('empty')] });
      const { services, ask } = lab(t, shares([to({ subset: 'v1', weight: 1 }), to({ ...given, weight: 1 })]));
      const got = new Set(Array.from({ length: 200 }, (_, n) => ask(tuple(n))));
      t.same([...got].sort(), ['v1', why].sort(), what);
      const found = () => services.find(VIP, IP_TCP, 80)!;
      t.equal(services.selection(found(), BLUE, true).refusal, undefined, 'some are not refused');
      services.set(shares([to(given)]), 0);
      t.equal(services.selection(found(), BLUE, true).refusal, why === 'no_backend' ? why : 'no_route');
      t.equal(ask(tuple(0)), why);
    }
  },
);

t.test(
  'the first route that matches: by port, by labels and namespace of the client; otherwise as without rules',
  async (t) => {
    const rules = routing(
      route(
        [to({ subset: 'v2' })],
        [
          when({
            labels: [
              ['app', 'tester'],
              ['tier', 'a'],
            ],
          }),
        ],
      ),
      route([to({ subset: 'v3' })], [when({ namespace: 'shop' }), when({ l4Port: 81 })]),
    );
    const ports = [servicePort(8), servicePort(8, { l4Port: 81 }), servicePort(8, { protocol: IP_UDP })];
    const { services, changes, ask } = lab(t, versions({ routing: rules, ports }));
    const client = (namespace: string, labels: Record<string, string>): void =>
      services.setClient('client', { namespace, labels });
    const always = (wanted: string, given: Partial<ProtocolTuple> = {}, who: string | null = 'client'): void => {
      const got = new Set(Array.from({ length: 100 }, (_, n) => ask(tuple(n, given), who ?? undefined)));
      t.same([...got].sort(), wanted.split(' '), `${wanted} ${JSON.stringify(given.destinationPort ?? '')}`);
    };
    const any = 'v1 v2 v3';
    always(any);
    always(any, {}, null);
    client('default', { app: 'tester', tier: 'a', more: 'x' });
    always('v2');
    always('v2', { destinationPort: 81 });
    always('v3', { destinationPort: 81 }, null);
    always(any, { protocol: IP_UDP });
    client('shop', { app: 'tester' });
    always('v3');
    client('default', { app: 'other', tier: 'a' });
    always(any);
    changes.drain();
    const found = services.find(VIP, IP_TCP, 80)!;
    t.ok(services.selection(found, BLUE, true, 'client').consulted.includes('client/client'));
    client('shop', {});
    t.same(changes.drain().changed, ['client/client'], 'what was refused because of its labels is decided again');
    services.set(versions({ routing: routing(route([to({ subset: 'v1' })])) }), 0);
    t.notOk(
      services.selection(services.find(VIP, IP_TCP, 80)!, BLUE, true, 'client').consulted.includes('client/client'),
    );
    t.equal(
      services.choose(services.find(VIP, IP_TCP, 80)!, OUTSIDE, tuple(0)).kind,
      'none',
      'and the network has no outside',
    );
  },
);

t.test('another service: its port, its rules, its health; and what it is decides again', async (t) => {
  const there = service({
    ...{ id: 'shop/other', vips: [], backends: backends(2), balancing: 'round-robin', maxConnections: 1 },
    ports: [servicePort(2, { l4Port: 9000 })],
  });
  const { services, decide } = lab(t, versions({ routing: routing(route([to({ service: 'shop/other' })])) }));
  const found = services.find(VIP, IP_TCP, 80)!;
  t.ok(services.selection(found, BLUE, true).consulted.includes('service/shop/other'), 'although it is not there yet');
  services.set(there, 0);
  const open = (slot: number): string => {
    const choice = decide(tuple(slot));
    if (choice.kind === 'none') return choice.why;
    services.opened(slot, choice, BLUE, tuple(slot), 0);
    t.match(choice, { l4Port: 8080, by: 'round-robin', route: { service: 'default/web', rule: 'default/rule' } });
    return String(choice.backend.address.at(-1));
  };
  t.same(
    [open(0), open(1), open(2)],
    ['1', '2', 'full'],
    'its only port, one after the other, and one connection each',
  );
  t.same(
    services.connectionsOf('shop/other', (backend) => backend?.connections ?? 0),
    [1, 1],
  );
  const pin = services.kept(1)!.pin;
  services.setHealth('shop/other', 'check_failed', [[there.backends[0]!.address, 'for the test']]);
  t.match(services.selection(found, BLUE, true), { refusal: undefined });
  services.set({ ...there, backends: there.backends.slice(0, 1), ports: [servicePort(1, { l4Port: 9000 })] }, 0);
  t.ok(services.ended(0).has(pin), 'a backend that has gone ends its connections');
  t.equal(services.selection(found, BLUE, true).refusal, 'no_backend', 'the check of the other one fails');
  const ports = [9000, 9001].map((l4Port) => servicePort(1, { l4Port, targets: [l4Port + 1] }));
  services.set({ ...there, backends: backends(1), ports, maxConnections: undefined }, 0);
  services.setHealth('shop/other', 'check_failed', [[there.backends[0]!.address, undefined]]);
  t.match(decide(tuple(9)), { detail: 'default/rule leads to service shop/other, which has no TCP port 80' });
  services.set(versions({ routing: routing(route([to({ service: 'shop/other', l4Port: 9001 })])) }), 0);
  t.match(decide(tuple(9)), { l4Port: 9002 });
});

t.test(
  'a change of routes is for new connections; a client with affinity stays where a route still leads',
  async (t) => {
    const shares = (...names: string[]): Service =>
      versions({ affinityMs: 1e6, routing: routing(route(names.map((name) => to({ subset: name })))) });
    const { services, decide, ask } = lab(t, shares('v1', 'v3'));
    const of = (n: number): ProtocolTuple => tuple(n, { source: parseIp('10.0.0.9') });
    const first = decide(of(0));
    if (first.kind === 'none') throw new Error(first.why);
    services.opened(0, first, BLUE, of(0), 0);
    const [mine] = first.backend.subsets;
    services.set(shares('v1', 'v2', 'v3'), 0);
    for (let n = 1; n < 50; n++)
      t.match(decide(of(n)), { by: 'affinity', backend: { address: first.backend.address } });
    services.set(shares('v2'), 0);
    t.equal(ask(of(50)), 'v2', 'its last backend is none of the route’s any more');
    t.same(services.ended(1e9), new Set(), 'and the established connection stays');
    t.match(services.kept(0), { route: { destination: { subset: mine } } });
  },
);

t.test('connections from before a restart keep their backends, also those of another service', async (t) => {
  const there = service({ id: 'shop/other', vips: [], backends: [backend('10.0.2.1')] });
  const web = versions({ routing: routing(route([to({ subset: 'v3' }), to({ service: 'shop/other' })])) });
  const original = tuple(0);
  const back = (address: string, destinationPort = 8080) => ({
    ...original,
    destination: parseIp(address),
    destinationPort,
  });
  const record = (translated: ProtocolTuple): ConnectionTuples => ({
    ...{ places: [BLUE, BLUE], protocol: IP_TCP, original, translated },
    kind: 'translated',
    pin: undefined,
  });
  for (const order of [
    [web, there],
    [there, web],
  ]) {
    const { services } = serviceTable({ isLoaded: false });
    services.recovered(record(back('10.0.1.8')), 1);
    services.recovered(record(back('10.0.2.1')), 2);
    services.recovered(record(back('10.0.2.1', 8081)), 3);
    services.recovered(record(back('10.0.2.2')), 4);
    for (const one of order) services.set(one, 0);
    services.loaded(0);
    t.same(
      [...services.ended(0)].sort((a, b) => a - b),
      [3, 4],
      'only those that nobody has end',
    );
    t.same(
      [1, 2].map((pin) => services.pinned(pin)?.service),
      ['default/web', 'shop/other'],
    );
    services.set({ ...there, backends: [], ports: [servicePort(0)] }, 0);
    t.ok(services.ended(0).has(2), 'they belong to the service again');
  }
});

t.test('so do those that a route has led to another port, also one of a range', async (t) => {
  const ports = [
    servicePort(1),
    servicePort(1, { l4Port: 9000, targets: [8090] }),
    servicePort(1, { l4Port: 9100, lastL4Port: 9110, targets: [7000] }),
  ];
  for (const [l4Port, destinationPort] of [
    [undefined, 8080],
    [9000, 8090],
    [9104, 7004],
  ] as const) {
    const web = service({
      backends: backends(1),
      ports,
      routing: routing(route([to({ service: 'default/web', l4Port })])),
    });
    const { services: before } = serviceTable();
    before.set(web, 0);
    const original = tuple(0);
    const choice = chosenFor(before, original);
    if (choice.kind === 'none') throw new Error(choice.why);
    t.equal(choice.l4Port, destinationPort);
    const translated = { ...original, destination: choice.backend.address, destinationPort };
    const { services } = serviceTable({ isLoaded: false });
    services.recovered(
      { kind: 'translated', places: [BLUE, BLUE], protocol: IP_TCP, original, translated },
      choice.pin,
    );
    services.set(web, 0);
    services.loaded(0);
    t.same(services.ended(1e9), new Set(), `to port ${l4Port ?? 'of the client'}`);
    t.equal(services.pinned(choice.pin)?.service, 'default/web');
    const [other] = ports;
    services.set({ ...web, ports: [{ ...other!, targets: [1] }] }, 0);
    t.same(services.ended(0), new Set([choice.pin]), 'it ends with the port that it goes to');
  }
});

t.test(`shares are as a naive count has them (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  for (let round = 0; round < 40; round++) {
    const count = 1 + random.int(4);
    const weights = Array.from({ length: count }, () => 1 + random.int(20));
    const names = weights.map((_, at) => `s${at}`);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const { ask } = lab(
      t,
      service({
        backends: names.flatMap((name, at) =>
          Array.from({ length: 1 + random.int(5) }, (_, n) => backend(`10.0.${at + 1}.${n + 1}`, { subsets: [name] })),
        ),
        ports: [servicePort(64)],
        subsets: names.map((name) => subset(name)),
        routing: routing(route(names.map((name, at) => to({ subset: name, weight: weights[at]! })))),
      }),
    );
    const counts = new Map<string, number>();
    const of = 4000;
    for (let n = 0; n < of; n++) {
      const name = ask(tuple(n + round * of));
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    for (const [at, name] of names.entries()) {
      const share = weights[at]! / total;
      // Six times what chance alone makes of it.
      const slack = 6 * Math.sqrt(of * share * (1 - share)) + 1;
      const got = counts.get(name) ?? 0;
      if (Math.abs(got - of * share) > slack)
        t.fail(`round ${round}: ${name} got ${got} of ${of} for ${weights.join(':')}`);
    }
  }
});
