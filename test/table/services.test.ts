/** Which services there are, at which addresses, and what a change of them notes. */
import t from 'tap';
import { prefixOf } from '../../src/cluster/routing.ts';
import { formatIp, parseIp } from '../../src/flow/types.ts';
import type { Backend, Service } from '../../src/table/service.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
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

t.test('a service is found at its addresses, by protocol and port', async (t) => {
  const { services } = serviceTable();
  const ports = [
    servicePort(1, { name: 'web' }),
    servicePort(1, { name: 'dns', protocol: IP_UDP, l4Port: 53 }),
    servicePort(1, { name: 'dns-tcp', l4Port: 53, targets: [5353] }),
    servicePort(1, { name: 'sip', protocol: IP_UDP, l4Port: 5060, lastL4Port: 5160, targets: [7060] }),
  ];
  const external = parseIp('203.0.113.1');
  const vips = [VIP, VIP6];
  services.set(service({ vips, externalAddresses: [external], backends: [backend('10.0.1.1')], ports }), 0);
  for (const address of [VIP, VIP6, external]) {
    t.ok(services.isVip(address), formatIp(address));
    t.equal(services.find(address, IP_TCP, 80)?.port.name, 'web');
    t.equal(services.find(address, IP_UDP, 53)?.port.name, 'dns', 'one port number');
    t.equal(services.find(address, IP_TCP, 53)?.port.name, 'dns-tcp', 'with two protocols');
    t.equal(services.find(address, IP_UDP, 80), undefined);
    for (const l4Port of [5060, 5100, 5160]) t.equal(services.find(address, IP_UDP, l4Port)?.port.name, 'sip');
    for (const l4Port of [5059, 5161]) t.equal(services.find(address, IP_UDP, l4Port), undefined);
  }
  const inRange = tuple(0, { protocol: IP_UDP, destinationPort: 5100 });
  const choice = services.choose(services.find(VIP, IP_UDP, 5100)!, BLUE, inRange);
  t.match(choice, { kind: 'backend', l4Port: 7100 }, 'the ports of a range follow each other');
  services.remove('default/web');
  for (const address of [VIP, VIP6, external]) t.notOk(services.isVip(address));
});

const outlier = {
  failures: 5,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  mostEjectedPercent: 10,
  leastHealthyPercent: 0,
} as const satisfies Service['outlier'];

t.test('each setting about ejections makes another service', async (t) => {
  const { services, changes } = serviceTable();
  for (const key of Object.keys(outlier)) {
    for (const changed of [{}, { [key]: 7 }]) {
      services.set(service({ outlier: { ...outlier, ...changed } }), 0);
      t.notOk(changes.isEmpty, key);
      changes.drain();
      services.set(service({ outlier: { ...outlier, ...changed } }), 0);
      t.ok(changes.isEmpty);
    }
  }
});

t.test('what changes for all services is noted for any number of them', async (t) => {
  const { services, changes } = serviceTable();
  const count = 150_000;
  for (let at = 0; at < count; at++) services.set(service({ id: `default/${at}`, vips: [] }), 0);
  changes.drain();
  services.setHost('hv01', undefined);
  t.equal(changes.drain().changed.length, count, 'the host');
  services.setRanges([prefixOf('10.96.0.0/12')]);
  t.equal(changes.drain().changed.length, count + 1, 'the ranges');
});

t.test('a setter that changes nothing notes nothing', async (t) => {
  const { services, changes } = serviceTable();
  const value = (given?: Partial<Service>): Service => service({ backends: backends(3), ...given });
  services.set(value(), 0);
  t.same(changes.drain(), { changed: [], added: ['service/default/web', 'vip/10.96.0.1'] });
  services.set(value(), 0);
  services.setHost(undefined, undefined);
  services.setHealth('default/web', 'ejected', [[parseIp('10.0.1.1'), undefined]]);
  services.setHealth('default/web', 'ejected', [[parseIp('10.0.9.9'), 'it is no backend of this service']]);
  services.setHealth('default/other', 'ejected', [[parseIp('10.0.1.1'), 'there is no such service']]);
  services.remove('default/other');
  services.expire(1e9);
  t.ok(changes.isEmpty);
  const differences: Partial<Service>[] = [
    { affinityMs: 1000 },
    { internalPolicy: 'local' },
    { externalPolicy: 'local' },
    { distribution: 'same-zone' },
    { balancing: 'random' },
    { drainMs: 1 },
    { outlier },
    { externalName: 'example.com' },
    { hasWildcard: true },
    { maxConnections: 1 },
    { rule: 'default/web' },
    { portSpreads: new Map([[80, { balancing: 'random', distribution: 'none', maxConnections: undefined }]]) },
    {
      subsets: [
        { name: 'v1', balancing: 'maglev', distribution: 'none', maxConnections: undefined, portSpreads: new Map() },
      ],
    },
    {
      outlier: {
        ...{ failures: 1, intervalMs: 1, baseEjectionMs: 1, mostEjectedPercent: 100, leastHealthyPercent: 0 },
      },
    },
    { backends: backends(2) },
    ...(
      [
        { endpoint: 'a/b' },
        { vni: undefined },
        { host: 'a' },
        { zone: 'a' },
        { hostname: 'a' },
        { ready: false },
        { serving: false },
        { terminating: true },
        { weight: 2 },
        { subsets: ['v1'] },
      ] satisfies Partial<Backend>[]
    ).map((given) => ({ backends: backends(3, (at) => (at === 1 ? given : {})) })),
  ];
  for (const difference of differences) {
    services.set(value(), 0);
    changes.drain();
    services.set(value(difference), 0);
    t.same(changes.drain(), { changed: ['service/default/web'], added: [] }, JSON.stringify(difference));
  }
  const published = value({ ports: [servicePort(3, { nodePort: 30_080 })] });
  services.set(value(), 0);
  changes.drain();
  services.set(published, 0);
  const objects = [1, 2, 3].map((last) => `published-backend/10.0.1.${last}`);
  t.same(changes.drain(), {
    changed: ['service/default/web'],
    added: ['node-port/tcp/30080', 'published-backends', ...objects],
  });
  services.set(published, 0);
  t.ok(changes.isEmpty);
  services.set(value(), 0);
  t.same(changes.drain(), { changed: ['node-port/tcp/30080', ...objects, 'service/default/web'], added: [] });
  services.set(value({ vips: [VIP, VIP6] }), 0);
  t.same(changes.drain().added, ['vip/fd77:6566:7460::1']);
  services.remove('default/web');
  t.same(changes.drain().changed, ['vip/10.96.0.1', 'vip/fd77:6566:7460::1', 'service/default/web']);
});

t.test('of two services with one address, the same one is found on all hosts, whoever came first', async (t) => {
  for (const order of [
    ['a/web', 'b/web'],
    ['b/web', 'a/web'],
  ]) {
    const { services, changes } = serviceTable();
    for (const id of order) services.set(service({ id, backends: backends(1) }), 0);
    services.set(service({ id: 'c/web', ports: [servicePort(1, { l4Port: 443 })], backends: backends(1) }), 0);
    t.equal(services.find(VIP, IP_TCP, 80)?.service.id, 'a/web');
    t.equal(services.find(VIP, IP_TCP, 443)?.service.id, 'c/web');
    t.same(services.servicesAt(VIP), ['service/a/web', 'service/b/web', 'service/c/web']);
    changes.drain();
    services.remove('a/web');
    t.same(changes.drain().changed, ['vip/10.96.0.1', 'service/a/web']);
    t.equal(services.find(VIP, IP_TCP, 80)?.service.id, 'b/web');
    const ports = [servicePort(1, { l4Port: 443 }), servicePort(1)];
    services.set(service({ id: 'a/web', ports, backends: backends(1) }), 0);
    t.equal(services.find(VIP, IP_TCP, 443)?.service.id, 'a/web');
    t.ok(changes.drain().changed.includes('service/c/web'), 'whose port is not found any more');
  }
});

t.test('a service is found at its node ports, by protocol and port', async (t) => {
  const { services, changes } = serviceTable();
  const ports = [
    servicePort(1, { name: 'web', nodePort: 30_080 }),
    servicePort(1, { name: 'dns', protocol: IP_UDP, l4Port: 53, nodePort: 30_053 }),
    servicePort(1, { name: 'dns-tcp', l4Port: 53, nodePort: 30_053 }),
    servicePort(1, { name: 'within', l4Port: 81 }),
  ];
  services.set(service({ id: 'b/web', vips: [], ports, backends: backends(1) }), 0);
  t.match(services.findPublished(IP_TCP, 30_080), { service: { id: 'b/web' }, port: { name: 'web' }, offset: 0 });
  t.equal(services.findPublished(IP_UDP, 30_053)?.port.name, 'dns', 'one port number');
  t.equal(services.findPublished(IP_TCP, 30_053)?.port.name, 'dns-tcp', 'with two protocols');
  t.equal(services.findPublished(IP_UDP, 30_080), undefined);
  t.equal(services.findPublished(IP_TCP, 80), undefined, 'that is its port at its addresses');
  changes.drain();
  services.set(service({ id: 'a/web', ports: [servicePort(1, { nodePort: 30_080 })], backends: backends(1) }), 0);
  t.equal(services.findPublished(IP_TCP, 30_080)?.service.id, 'a/web', 'the same one on all hosts');
  t.ok(changes.drain().changed.includes('node-port/tcp/30080'));
  services.set(service({ id: 'a/web', backends: backends(1) }), 0);
  t.equal(services.findPublished(IP_TCP, 30_080)?.service.id, 'b/web');
  services.remove('b/web');
  t.ok(changes.drain().changed.includes('node-port/udp/30053'));
  for (const l4Port of [30_080, 30_053]) t.equal(services.findPublished(IP_TCP, l4Port), undefined);
});

t.test('a range of ports has as many node ports, of which each leads to its own port', async (t) => {
  const { services, changes } = serviceTable();
  const range = servicePort(1, { l4Port: 5060, lastL4Port: 5062, nodePort: 31_000, targets: [6060] });
  services.set(service({ id: 'a/sip', vips: [], ports: [range], backends: backends(1) }), 0);
  t.same(
    [30_999, 31_000, 31_001, 31_002, 31_003].map((port) => services.findPublished(IP_TCP, port)?.offset),
    [undefined, 0, 1, 2, undefined],
  );
  changes.drain();
  services.set(service({ id: 'a/sip', vips: [], ports: [{ ...range, lastL4Port: 5061 }], backends: backends(1) }), 0);
  t.same(changes.drain().changed, ['node-port/tcp/31002', 'service/a/sip']);
  services.remove('a/sip');
  const ports = ['node-port/tcp/31000', 'node-port/tcp/31001'];
  t.same(changes.drain().changed, [...ports, 'published-backend/10.0.1.1', 'service/a/sip']);
});

t.test('that all services are known is said after each change, and costs nothing for each of them', async (t) => {
  const { services } = serviceTable();
  let looks = 0;
  const watched = service({ backends: backends(1) });
  Object.defineProperty(watched, 'routing', { get: () => void looks++ });
  services.set(watched, 0);
  looks = 0;
  services.set(service({ id: 'default/other' }), 0);
  services.loaded(0);
  t.equal(looks, 0);
});

t.test('without a backend that is ready, there is nobody to choose', async (t) => {
  const { services } = serviceTable();
  services.set(service(), 0);
  t.match(chosenFor(services, tuple(0)), { kind: 'none', why: 'no_backend' });
  services.set(service({ backends: backends(2, () => ({ ready: false })) }), 0);
  t.match(chosenFor(services, tuple(0)), { kind: 'none', why: 'no_backend' });
  services.set(service({ backends: backends(2, (at) => ({ ready: at === 1 })) }), 0);
  t.match(chosenFor(services, tuple(0)), { kind: 'backend', l4Port: 8080 });
});
