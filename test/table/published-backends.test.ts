/** To whom packets from outside may come by other hosts, against a naive twin. */
import t from 'tap';
import { formatIp, parseIp, type Vni } from '../../src/flow/types.ts';
import type { Backend, RouteDestination, Routing, Service } from '../../src/table/service.ts';
import { publishedPortsOf } from '../../src/table/published-backends.ts';
import { routedServices, routedTo } from '../../src/table/service-routes.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { Random } from '../support/random.ts';
import { randomService } from '../support/random-services.ts';
import { backends, BLUE, servicePort, service, serviceTable } from '../support/services.ts';

const seed = Number(process.env['SEED'] ?? (process.hrtime.bigint() % 1_000_000n).toString());

t.test('the ports of a backend are its own, also those of a range', async (t) => {
  const ports = [
    servicePort(2, { nodePort: 30_080, targets: [8080, 0] }),
    servicePort(2, { l4Port: 81, targets: [8081, 8081] }),
    servicePort(2, { l4Port: 5060, lastL4Port: 5062, nodePort: 31_000, targets: [7060, 7060] }),
    servicePort(2, { protocol: IP_UDP, l4Port: 53, nodePort: 30_053, targets: [5353, 5353] }),
  ];
  const services = [service({ ports, backends: backends(2) })];
  const portsOf = (ip: string, protocol: number, vni = BLUE) =>
    publishedPortsOf(services, { vni, address: parseIp(ip), protocol }, () => undefined);
  const range = { first: 7060, last: 7062 };
  t.same(portsOf('10.0.1.1', IP_TCP), [{ first: 8080, last: 8080 }, range]);
  t.same(portsOf('10.0.1.2', IP_TCP), [range], 'it does not have the first one');
  t.same(portsOf('10.0.1.1', IP_UDP), [{ first: 5353, last: 5353 }]);
  t.same(portsOf('10.0.1.3', IP_TCP), []);
  t.same(portsOf('10.0.1.1', IP_TCP, 7 as Vni), [], 'the same address in another network');
});

t.test('an address with several ports of slices is several backends, all of which are published', async (t) => {
  const twice = [...backends(1), ...backends(1)];
  const ports = [servicePort(2, { nodePort: 30_080, targets: [8080, 9090] })];
  const place = { vni: BLUE, address: parseIp('10.0.1.1'), protocol: IP_TCP };
  const found = publishedPortsOf([service({ ports, backends: twice })], place, () => undefined);
  t.same(found, [
    { first: 8080, last: 8080 },
    { first: 9090, last: 9090 },
  ]);
});

t.test('a route leads to another service, by any port of a range, or by one', async (t) => {
  const ranged = servicePort(1, { l4Port: 5060, lastL4Port: 5069, nodePort: 31_000 });
  const destination = { service: 'default/media', subset: undefined, l4Port: undefined, weight: 1 };
  const found = (given: Partial<RouteDestination>, ports: Service['ports']) => {
    const routing = { rule: 'a/rule', routes: [{ matches: [], destinations: [{ ...destination, ...given }] }] };
    const front = service({ ports: [ranged], backends: [], routing });
    const media = service({ id: 'default/media', ports, backends: backends(1) });
    const place = { vni: BLUE, address: parseIp('10.0.1.1'), protocol: IP_TCP };
    return publishedPortsOf([front], place, (id) => (id === media.id ? media : undefined));
  };
  const range = servicePort(1, { l4Port: 5065, lastL4Port: 5080, targets: [7065] });
  const [single, other] = [servicePort(1, { l4Port: 80, targets: [8080] }), servicePort(1, { l4Port: 81 })];
  t.same(found({}, [range]), [{ first: 7065, last: 7069 }], 'what both ranges have');
  t.same(found({ l4Port: 5070 }, [range]), [{ first: 7070, last: 7070 }]);
  t.same(found({}, [single]), [{ first: 8080, last: 8080 }], 'the only one');
  t.same(found({}, [single, other]), []);
  t.same(found({ l4Port: 80 }, [single, other]), [{ first: 8080, last: 8080 }]);
  t.same(found({ subset: 'v1' }, [single]), [], 'it is not in that subset');
});

const ids = ['a/a', 'b/b', 'c/c'];

function randomRouting(random: Random): Routing | undefined {
  if (random.chance(0.5)) return undefined;
  const destination = (): RouteDestination => ({
    service: random.pick([...ids, 'd/none']),
    subset: random.chance(0.3) ? random.pick(['v1', 'none']) : undefined,
    l4Port: random.chance(0.4) ? random.pick([80, 81, 90]) : undefined,
    weight: 1,
  });
  return { rule: 'a/rule', routes: [{ matches: [], destinations: [destination(), destination()] }] };
}

t.test(`as a naive twin has it, and whoever asked is told of each change (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const { services, changes } = serviceTable();
  const declared = new Map<string, Service>();
  const serviceOf = (id: string): Service | undefined => declared.get(id);
  const possible = backends(6).map((one, at) => ({ ...one, subsets: at % 2 === 0 ? ['v1'] : [] }));
  const isBackend = (service: Service | undefined, { address }: Backend): service is Service =>
    service?.externalPolicy === 'cluster' &&
    service.backends.some((one) => formatIp(one.address) === formatIp(address));
  const publishing = (backend: Backend): string[] =>
    [...declared.values()]
      .filter(({ ports }) => ports.some(({ nodePort }) => nodePort))
      .filter((one) => [one.id, ...routedServices(one)].some((id) => isBackend(serviceOf(id), backend)))
      .map(({ id }) => id)
      .sort();
  /** Each TCP number of the backend to which something may be sent that somebody asks a node port for. */
  const portsOf = (backend: Backend): number[] => {
    const found = new Set<number>();
    const placeIn = ({ backends }: Service): number =>
      backends.findIndex(({ address }) => formatIp(address) === formatIp(backend.address));
    for (const service of declared.values()) {
      for (const port of service.ports) {
        if (port.nodePort === undefined || port.protocol !== IP_TCP) continue;
        if (isBackend(service, backend)) found.add(port.targets[placeIn(service)]!);
        for (const destination of service.routing?.routes[0]!.destinations ?? []) {
          const { subset, service: id } = destination;
          const other = serviceOf(id);
          const to = routedTo(destination, other, port.l4Port);
          if ('missing' in to || !isBackend(other, backend)) continue;
          if (subset === undefined || backend.subsets.includes(subset)) {
            found.add((to.port.targets[placeIn(other)] || -to.offset) + to.offset);
          }
        }
      }
    }
    return [...found].filter((port) => port > 0).sort((a, b) => a - b);
  };
  let published = 0;
  let ports = 0;
  for (let round = 0; round < 1000; round++) {
    const before = possible.map((one) => publishing(one).join());
    const id = random.pick(ids);
    if (random.chance(0.2)) {
      declared.delete(id);
      services.remove(id);
    } else {
      const subsets = [{ ...service(), name: 'v1', portSpreads: new Map() }];
      const value = { ...randomService(random, { id, vips: [], possible }), routing: randomRouting(random), subsets };
      declared.set(id, value);
      services.set(value, round);
    }
    const { changed, added } = changes.drain();
    const told = new Set([...changed, ...added]);
    for (const [at, one] of possible.entries()) {
      const now = publishing(one);
      published += now.length;
      t.same([...services.published.servicesOf(one.address)].sort(), now);
      const isIn = services.published.addresses.has(one.address);
      t.equal(isIn, now.length > 0);
      const publishers = now.map((id) => declared.get(id)!);
      const place = { vni: BLUE, address: one.address, protocol: IP_TCP };
      const found = publishedPortsOf(publishers, place, serviceOf).map(({ first }) => first);
      t.same(
        [...new Set(found)].sort((a, b) => a - b),
        portsOf(one),
      );
      ports += found.length;
      if (before[at] === now.join()) continue;
      t.ok(told.has(`published-backend/${formatIp(one.address)}`));
      if (before[at] === '') t.ok(told.has('published-backends'));
    }
  }
  t.ok(published > 1000, `${published} were published`);
  t.ok(ports > 1000, `${ports} ports were`);
});
