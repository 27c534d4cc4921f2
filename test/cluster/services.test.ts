/** Services: what is allotted to them, and what others must not take from them. Two hosts share a store, or there is one. */
import t, { type Test } from 'tap';
import { parseIp } from '../../src/flow/types.ts';
import { findKind } from '../../src/model/kinds/registry.ts';
import type { ServiceAllotted } from '../../src/model/kinds/service.ts';
import { parseResource } from '../../src/model/manifest.ts';
import { unlimited } from '../../src/store/staged.ts';
import type { Store } from '../../src/store/store.ts';
import { within } from '../../src/store/within.ts';
import { openStoreOf } from '../support/etcd-store.ts';
import { startEtcd } from '../support/etcd.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { Switchable } from '../support/switchable.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

type Plane = Awaited<ReturnType<typeof openControlPlane>>;

const kind = (text: string) => findKind(text)!;
const web = { selector: { app: 'web' }, ports: [{ port: 80 }] };
const dual = { ...web, ipFamilyPolicy: 'RequireDualStack' };
const nodePort = { ...web, type: 'NodePort' };
const service = (name: string, spec: object = web, metadata: object = {}) => manifest('Service', name, spec, metadata);
interface Shown {
  readonly spec: Record<string, unknown> & {
    readonly clusterIPs: readonly string[];
    readonly ports: readonly { readonly nodePort?: number }[];
  };
}
/** As `weft get -o json` shows it. */
const shown = ({ cluster }: Plane, name: string) =>
  JSON.parse(JSON.stringify(cluster.get(kind('svc'), { name })[0])) as Shown;
const keysOf = async ({ store }: Plane, prefix: string): Promise<string[]> =>
  (await store.list(prefix)).entries.map(({ key }) => key.slice(prefix.length));

t.test('an address of each family, which stays, and is given back', async (t) => {
  const plane = await openControlPlane(t);
  const { cluster } = plane;
  t.match(await cluster.apply([service('web', dual)]), [{ action: 'created' }]);
  const { spec } = shown(plane, 'web');
  const [ip4, ip6] = spec.clusterIPs;
  t.match(ip4, /^10\.96\./);
  t.match(ip6, /^fd77:6566:7460::/);
  t.match(spec, {
    clusterIP: ip4,
    ipFamilies: ['IPv4', 'IPv6'],
    ipFamilyPolicy: 'RequireDualStack',
    type: 'ClusterIP',
  });
  t.same(await keysOf(plane, 'vips/'), [ip4, ip6]);

  t.match(await cluster.apply([service('web', dual)]), [{ action: 'unchanged' }]);
  t.match(await cluster.apply([parseResource(shown(plane, 'web'))]), [{ action: 'unchanged' }], 'as it is shown');
  t.match(await cluster.apply([service('web', { ...dual, ports: [{ port: 81 }] })]), [{ action: 'configured' }]);
  t.same(shown(plane, 'web').spec.clusterIPs, [ip4, ip6]);
  await cluster.label(kind('svc'), { name: 'web' }, { tier: 'a' });
  t.same(shown(plane, 'web').spec.clusterIPs, [ip4, ip6]);
  t.match(await cluster.apply([service('web')]), [{ action: 'configured' }]);
  t.same(await keysOf(plane, 'vips/'), [ip4], 'one family less');

  await cluster.delete(kind('svc'), { name: 'web' });
  t.same(await keysOf(plane, 'vips/'), []);
  t.equal(plane.forwarding.tables.services.size, 0);
  await cluster.apply([service('web')]);
  t.equal(shown(plane, 'web').spec['clusterIP'], ip4, 'the same service gets the same address');
});

t.test('what is asked for is given, or refused with the reason', async (t) => {
  const plane = await openControlPlane(t);
  const { cluster } = plane;
  await cluster.apply([service('web', { ...web, clusterIP: '10.96.0.10' })]);
  t.equal(shown(plane, 'web').spec['clusterIP'], '10.96.0.10');
  for (const [spec, message] of [
    [
      { ...web, clusterIP: '10.96.0.10' },
      'service "db": clusterIP: 10.96.0.10: provided IP is already allocated: service "web" has it',
    ],
    [
      { ...web, clusterIP: '10.97.0.10' },
      'service "db": clusterIP: 10.97.0.10: the provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/16',
    ],
    [
      { ...web, clusterIP: '10.96.0.0' },
      /10.96.0.0: the provided IP is not in the valid range. .* without its first and/,
    ],
    [
      { ...web, clusterIP: '10.96.255.255' },
      /10.96.255.255: the provided IP is not in .* without its first and its last/,
    ],
    [
      { ...web, type: 'LoadBalancer', loadBalancerIP: '10.96.3.3' },
      'service "db": loadBalancerIP: 10.96.3.3 is one of those that services have within the cluster: give one of the network outside',
    ],
  ] as const) {
    const error = await cluster.apply([service('db', spec)]).catch((why: Error) => why.message);
    if (typeof message === 'string') t.equal(error, message);
    else t.match(error, message);
  }
  const other = service('web', { ...web, clusterIP: '10.96.0.11' });
  await t.rejects(cluster.apply([other]), {
    code: 'conflict',
    message:
      'service "web": clusterIP: it is 10.96.0.10, and may not change to 10.96.0.11 once set: delete the service first',
  });
  const none = service('web', { ...web, clusterIP: 'None' });
  await t.rejects(cluster.apply([none]), { message: /it is 10.96.0.10, and may not change once set/ });
  const twice = [service('a', { ...web, clusterIP: '10.96.0.12' }), service('b', { ...web, clusterIP: '10.96.0.12' })];
  await t.rejects(cluster.apply(twice), { message: /^service "b": .* already allocated: service "a" has it$/ });
  t.same(await keysOf(plane, 'vips/'), ['10.96.0.10'], 'and nothing is half done');
  t.same(await keysOf(plane, 'services/'), ['default/web']);
  await cluster.apply([service('head', { ...web, clusterIP: 'None' })]);
  t.match(shown(plane, 'head').spec, { clusterIP: 'None', clusterIPs: ['None'], ipFamilies: ['IPv4'] });
  await cluster.apply([service('bare', { ports: [{ port: 80 }], clusterIP: 'None' })]);
  t.same(shown(plane, 'bare').spec['ipFamilies'], ['IPv4', 'IPv6'], 'without a selector, of either family');
});

t.test('a service that is applied again when the store was emptied keeps what it had for itself', async (t) => {
  const link = new Switchable(await openStore(t));
  const plane = await openControlPlane(t, undefined, { host: 'a', shared: link });
  const { cluster, feed } = plane;
  await cluster.apply([service('web', nodePort), service('db')]);
  const claims = async () => [await keysOf(plane, 'vips/'), await keysOf(plane, 'node-ports/')];
  const { spec } = shown(plane, 'web');
  const [before, empty] = [await claims(), await openStore(t)];
  link.back(empty, 'empty');
  await until(() => (feed.report()?.held.length ?? 0) > 0, { what: 'that to be noticed' });
  await cluster.apply([service('web', nodePort), service('db')]);
  await cluster.acceptStore();
  t.same((await empty.list('vips/')).entries.length, 2);
  t.same(await claims(), before);
  t.same(shown(plane, 'web').spec, spec);
  await cluster.apply([service('more', nodePort)]);
  t.equal((await empty.list('vips/')).entries.length, 3, 'others get other addresses');
});

t.test('types follow each other: what one does not need is given back', async (t) => {
  const plane = await openControlPlane(t);
  const { cluster } = plane;
  await cluster.apply([service('web', nodePort)]);
  const chosen = shown(plane, 'web').spec.ports[0]?.nodePort ?? 0;
  t.ok(chosen >= 30_086 && chosen <= 32_767, 'the lowest are left to those who ask for one');
  t.same(await keysOf(plane, 'node-ports/'), [String(chosen)]);
  t.equal(shown(plane, 'web').spec['externalTrafficPolicy'], 'Cluster');
  await cluster.apply([service('web', { ...nodePort, ports: [{ port: 80, targetPort: 8080 }] })]);
  t.equal(shown(plane, 'web').spec.ports[0]?.nodePort, chosen, 'it stays');
  await cluster.apply([service('web', { ...nodePort, ports: [{ port: 80, nodePort: 30_007 }] })]);
  t.same(await keysOf(plane, 'node-ports/'), ['30007']);

  const annotations = { 'weft.dev/load-balancer-ips': '192.0.2.10,2001:db8::10' };
  await cluster.apply([service('web', { ...dual, type: 'LoadBalancer' }, { annotations })]);
  t.match(shown(plane, 'web'), {
    spec: { ports: [{ nodePort: 30_007 }] },
    status: { loadBalancer: { ingress: [{ ip: '192.0.2.10' }, { ip: '2001:db8::10' }] } },
  });
  t.match(await cluster.apply([parseResource(shown(plane, 'web'))]), [{ action: 'unchanged' }]);
  for (const address of ['192.0.2.10', '2001:db8::10'])
    t.ok(plane.forwarding.tables.services.isVip(parseIp(address)), 'from inside, it is an address as the others');
  const thief = service('db', { ...web, type: 'LoadBalancer', loadBalancerIP: '192.0.2.10' });
  await t.rejects(cluster.apply([thief]), { message: /192.0.2.10: provided IP is already allocated: service "web"/ });

  await cluster.apply([service('web', { type: 'ExternalName', externalName: 'db.example' })]);
  t.same([await keysOf(plane, 'vips/'), await keysOf(plane, 'node-ports/')], [[], []]);
  t.match(plane.forwarding.tables.services.get('default/web'), { externalName: 'db.example', vips: [], ports: [] });
});

t.test('ports that change their names or numbers have node ports of their own', async (t) => {
  const plane = await openControlPlane(t);
  const apply = async (...ports: object[]): Promise<number[]> => {
    await plane.cluster.apply([service('web', { ...nodePort, ports })]);
    return shown(plane, 'web').spec.ports.map((port) => port.nodePort!);
  };
  const [first] = await apply({ name: 'a', port: 80 });
  const [renamed, kept] = await apply({ name: 'a', port: 81 }, { name: 'b', port: 80 });
  t.equal(kept, first, 'the number counts before the name');
  t.not(renamed, first);
  t.same(await apply({ name: 'b', port: 81 }, { name: 'c', port: 80 }), [renamed, kept]);
  t.same(
    await apply({ name: 'c', port: 90 }, { name: 'x', port: 91, nodePort: kept }).then(([, other]) => other),
    kept,
  );
  const all = shown(plane, 'web').spec.ports.map((port) => port.nodePort);
  t.equal(new Set(all).size, 2, 'also if another one asks for it');
  t.same((await apply({ name: 'x', port: 92 }))[0], kept, 'else the name');
});

t.test('it is known where services are reached from outside', async (t) => {
  const { cluster, serving } = await openControlPlane(t);
  t.same(serving.services.entries, { ports: [], addresses: [] });
  const ports = [
    { name: 'dns', port: 53, nodePort: 30_053, protocol: 'UDP' },
    { name: 'http', port: 80, nodePort: 30_080 },
  ];
  await cluster.apply([service('plain'), service('web', { ...dual, type: 'NodePort', ports })]);
  const published = [
    { family: 4, protocol: 'UDP', hostPort: 30_053 },
    { family: 4, protocol: 'TCP', hostPort: 30_080 },
    { family: 6, protocol: 'UDP', hostPort: 30_053 },
    { family: 6, protocol: 'TCP', hostPort: 30_080 },
  ];
  const { entries } = serving.services;
  t.same(entries, { ports: published, addresses: [] });
  await cluster.apply([service('other')]);
  t.equal(serving.services.entries, entries, 'what is not reached from outside changes nothing');

  await cluster.apply([service('web', { ...web, type: 'LoadBalancer', ports, loadBalancerIP: '192.0.2.10' })]);
  const address = { family: 4, address: '192.0.2.10' };
  t.same(serving.services.entries, {
    ports: published.slice(0, 2),
    addresses: [
      { ...address, protocol: 'UDP', l4Port: 53, nodePort: 30_053 },
      { ...address, protocol: 'TCP', l4Port: 80, nodePort: 30_080 },
    ],
  });
  const six = { ...web, type: 'LoadBalancer', loadBalancerIP: '2001:db8::10' };
  await t.rejects(cluster.apply([service('six', six)]), {
    message:
      'service "six": loadBalancerIP: 2001:db8::10: the service has no IPv6 (ipFamilies): give an IPv4 address, or write ipFamilyPolicy: PreferDualStack',
  });
  await cluster.delete(kind('svc'), { name: 'web' });
  t.same(serving.services.entries, { ports: [], addresses: [] });
});

t.test('a range of ports has as many node ports in a row', async (t) => {
  const plane = await openControlPlane(t);
  const { cluster, serving } = plane;
  const sip = (annotation: string, type = 'NodePort', port = 5060) =>
    service(
      'sip',
      { ...web, type, ports: [{ port, protocol: 'UDP' }] },
      { annotations: { 'weft.dev/ports': annotation } },
    );
  await cluster.apply([sip('5060-5160')]);
  const claimed = async (): Promise<number[]> => (await keysOf(plane, 'node-ports/')).map(Number);
  const own = shown(plane, 'sip').spec.ports[0]!.nodePort!;
  const block = (await claimed()).filter((port) => port !== own);
  t.equal(block.length, 101);
  const [first = 0] = block;
  t.same(
    block,
    block.map((_, at) => first + at),
  );
  t.match(shown(plane, 'sip'), { status: { nodePorts: [`${first}-${first + 100}`] } });
  const { ports } = serving.services.entries;
  t.same(
    ports.map(({ hostPort }) => hostPort),
    [own, ...block.slice(1)],
    'the port of the range that it declares has its own',
  );
  t.match(plane.forwarding.tables.services.get('default/sip')?.ports, [
    { l4Port: 5060, nodePort: own },
    { l4Port: 5061, lastL4Port: 5160, nodePort: first + 1 },
  ]);

  t.match(await cluster.apply([parseResource(shown(plane, 'sip'))]), [{ action: 'unchanged' }]);
  await cluster.apply([sip('5060-5160, 7000-7009', 'NodePort', 5059)]);
  t.ok((await claimed()).includes(first + 100), 'a range keeps its own');
  t.equal((await claimed()).length, 112);
  await cluster.apply([sip('7000-7009')]);
  t.equal((await claimed()).length, 11, 'and what is not needed any more is given back');
  await t.rejects(cluster.apply([sip('10000-20000')]), {
    code: 'exhausted',
    message:
      'service "sip": weft.dev/ports: 10000-20000 needs 10001 node ports in a row, and 30000-32767 has not so many that are free: give a smaller range, or use type ClusterIP',
  });
  await cluster.apply([sip('10000-20000', 'ClusterIP')]);
  t.same(await claimed(), []);
});

t.test('node ports are the whole cluster’s', async (t) => {
  const plane = await openControlPlane(t);
  const { cluster } = plane;
  await cluster.apply([service('web', { ...nodePort, ports: [{ port: 80, nodePort: 30_007 }] })]);
  await t.rejects(cluster.apply([service('db', { ...nodePort, ports: [{ port: 81, nodePort: 30_007 }] })]), {
    message: 'service "db": nodePort: 30007: provided port is already allocated: service "web" has it',
  });
  const both = [
    { name: 'a', port: 53, nodePort: 30_053 },
    { name: 'b', port: 53, nodePort: 30_053, protocol: 'UDP' },
  ];
  await cluster.apply([service('dns', { ...nodePort, ports: both })]);
  t.same(
    shown(plane, 'dns').spec.ports.map((port) => port.nodePort),
    [30_053, 30_053],
  );

  await cluster.apply([manifest('Network', 'front', { subnets: ['10.0.0.0/24'], outside: true })]);
  const resource = (publish: number) =>
    manifest('Endpoint', 'app', {
      network: 'front',
      netns: 'app',
      publish: [{ hostPort: publish, port: 80 }],
    });
  await plane.write({
    'endpoints/default/app': { resource: resource(30_100), addresses: ['10.0.0.5'], mac: '02:00:00:00:00:05' },
  });
  await t.rejects(cluster.apply([service('db', { ...nodePort, ports: [{ port: 81, nodePort: 30_100 }] })]), {
    message: 'service "db": nodePort: host port 30100/tcp is published by endpoint "app" already',
  });
});

t.test('one change does not give a port to an endpoint and to a service', { skip: needsRoot }, async (t) => {
  const inside = await openLab(t).namespace('c');
  const plane = await openControlPlane(t);
  const { cluster } = plane;
  await cluster.apply([manifest('Network', 'front', { subnets: ['10.0.0.0/24'], outside: true })]);
  const app = (hostPort: number) =>
    manifest('Endpoint', 'app', { network: 'front', netns: inside.name, publish: [{ hostPort, port: 80 }] });
  const db = service('db', { ...nodePort, ports: [{ port: 80, nodePort: 30_007 }] });
  await t.rejects(cluster.apply([db, app(30_007)]), {
    code: 'conflict',
    message: 'service "db": nodePort: host port 30007/tcp is published by endpoint "app" already',
  });
  t.same(await keysOf(plane, 'node-ports/'), []);
  await cluster.apply([app(30_007)]);
  await cluster.apply([db, app(30_008)]);
  t.same(await keysOf(plane, 'node-ports/'), ['30007'], 'what is given back in the change can be taken in it');
});

t.test('an endpoint does not publish what is a node port', { skip: needsRoot }, async (t) => {
  const inside = await openLab(t).namespace('c');
  const { cluster } = await openControlPlane(t);
  const ports = [{ port: 80, nodePort: 30_007 }];
  await cluster.apply([
    service('web', { ...nodePort, ports }),
    manifest('Network', 'front', { subnets: ['10.0.0.0/24'], outside: true }),
  ]);
  const publish = [{ hostPort: 30_007, port: 80 }];
  const app = manifest('Endpoint', 'app', { network: 'front', netns: inside.name, publish });
  await t.rejects(cluster.apply([app]), {
    code: 'conflict',
    message: 'endpoint "app": host port 30007/tcp is the node port of service "web" already',
  });
});

t.test(
  'a range of services that takes what a network has is not accepted, and what was in force stays so',
  async (t) => {
    const plane = await openControlPlane(t);
    const { cluster, serving, forwarding } = plane;
    const isOfServices = (...all: readonly string[]) =>
      all.map((ip) => forwarding.tables.services.isInRange(parseIp(ip)));
    await cluster.apply([manifest('Network', 'blue', { subnets: ['10.1.0.0/16'] }), service('web')]);
    const before = (await plane.store.get('allotment/services'))!.value;
    await plane.write({ 'allotment/services': { subnets: ['10.0.0.0/9'] } });
    const why = /10\.0\.0\.0\/9 overlaps subnet 10\.1\.0\.0\/16 of network "blue": write .*10\.96\.0\.0\/16.* there/;
    t.match(serving.clashes(), [{ detail: why, hint: /stores no service/ }]);
    t.match(plane.warnings, [why]);
    t.same(isOfServices('10.96.0.9', '10.1.0.9'), [true, false]);
    await t.rejects(cluster.apply([service('late')]), { code: 'conflict', message: why });
    await plane.close();

    const again = await openControlPlane(t, plane.directory);
    const overlap = /subnet 10\.1\.0\.0\/16 of network "blue" overlaps 10\.0\.0\.0\/9/;
    t.match(again.warnings, [overlap], 'at a start, that is all that is known of it');
    t.notOk(again.forwarding.tables.services.isInRange(parseIp('10.1.0.9')), 'the network keeps its addresses');
    await t.rejects(again.cluster.apply([service('late')]), { code: 'conflict', message: overlap });
    t.ok(again.forwarding.tables.services.get('default/web'), 'the services that there are stay');
    await again.write({ 'allotment/services': before });
    t.same(again.serving.clashes(), []);
    await again.cluster.apply([service('late')]);
  },
);

t.test('a range that is used up says so', async (t) => {
  const plane = await openControlPlane(t, undefined, { serviceCidrs: ['10.50.0.0/29'] });
  const { cluster } = plane;
  await cluster.apply(['a', 'b', 'c', 'd', 'e', 'f'].map((name) => service(name)));
  t.equal((await keysOf(plane, 'vips/')).length, 6, 'all but the first and the last');
  const message =
    'service "g": all addresses of 10.50.0.0/29 are taken: delete a service, or write clusterIP: None if its clients need no address';
  await t.rejects(cluster.apply([service('g')]), { code: 'exhausted', message });
  await cluster.delete(kind('svc'), { name: 'c' });
  await cluster.apply([service('g')]);
  await t.rejects(cluster.apply([service('six', { ...web, ipFamilies: ['IPv6'] })]), {
    message: 'service "six": ipFamilies: IPv6 is not configured on this cluster (--service-cidr 10.50.0.0/29)',
  });
  await t.rejects(cluster.apply([service('six', dual)]), {
    message: 'service "six": ipFamilyPolicy: this cluster is not configured for dual-stack services',
  });
  await cluster.delete(kind('svc'), { name: 'g' });
  await cluster.apply([service('six', { ...web, ipFamilyPolicy: 'PreferDualStack' })]);
  t.equal(shown(plane, 'six').spec.clusterIPs.length, 1, 'which is only a preference');
});

t.test('networks and services have nothing in common', async (t) => {
  const plane = await openControlPlane(t);
  const { cluster } = plane;
  await cluster.apply([manifest('Network', 'early', { subnets: ['10.96.1.0/24'] })]);
  await t.rejects(cluster.apply([service('web')]), {
    code: 'conflict',
    message:
      'services get their addresses from 10.96.0.0/16 and fd77:6566:7460::/112, and subnet 10.96.0.0/16 overlaps 10.96.1.0/24 of network "early": start the hosts with another --service-cidr',
  });
  await cluster.apply([service('name', { type: 'ExternalName', externalName: 'a.example' })]);
  await cluster.delete(kind('net'), { name: 'early' });
  await t.rejects(cluster.apply([manifest('Network', 'early', { subnets: ['10.96.1.0/24'] }), service('web')]), {
    message: /overlaps 10.96.1.0\/24 of network "early"/,
  });
  await cluster.apply([service('web')]);
  await t.rejects(cluster.apply([manifest('Network', 'late', { subnets: ['10.0.0.0/24', 'fd77:6566:7460::/96'] })]), {
    code: 'conflict',
    message:
      'network "late": subnet fd77:6566:7460::/96 overlaps fd77:6566:7460::/112, where services get their addresses (--service-cidr): choose another',
  });
});

t.test('a network that overlaps the range of services is told before there is a service', async (t) => {
  const early = await openControlPlane(t);
  const detail =
    'subnet 10.50.1.0/24 of network "early" overlaps 10.50.0.0/16, where services get their addresses (--service-cidr)';
  await early.cluster.apply([manifest('Network', 'early', { subnets: ['10.50.1.0/24'] })]);
  t.same(early.serving.clashes(), []);
  await early.close();
  const plane = await openControlPlane(t, early.directory, { serviceCidrs: ['10.50.0.0/16'] });
  t.same(plane.warnings, [detail], 'at the start');
  t.match(plane.serving.clashes(), [{ detail, hint: /no service gets an address until then/ }]);
  const isRefused = () => plane.forwarding.tables.services.isInRange(parseIp('10.50.1.7'));
  t.notOk(isRefused(), 'the network keeps its addresses');
  await plane.cluster.delete(kind('net'), { name: 'early' });
  t.same(plane.serving.clashes(), []);
  t.ok(isRefused());

  const { cluster, warnings } = await openControlPlane(t);
  await cluster.apply([manifest('Network', 'late', { subnets: ['10.0.0.0/24', 'fd77:6566:7460::/96'] })]);
  t.match(warnings, [
    'subnet fd77:6566:7460::/96 of network "late" overlaps fd77:6566:7460::/112, where services get their addresses (--service-cidr)',
  ]);
});

t.test('an address for clients outside is in no network', async (t) => {
  const { cluster } = await openControlPlane(t);
  const balanced = service('web', { ...web, type: 'LoadBalancer', loadBalancerIP: '192.0.2.10' });
  const network = (subnet: string) => manifest('Network', 'lan', { subnets: [subnet] });
  await cluster.apply([network('192.0.2.0/24')]);
  const message =
    'service "web": loadBalancerIP: 192.0.2.10 is no address outside: subnet 192.0.2.10/32 overlaps 192.0.2.0/24 of network "lan"';
  await t.rejects(cluster.apply([balanced]), { code: 'conflict', message });
  await cluster.delete(kind('net'), { name: 'lan' });
  await t.rejects(cluster.apply([network('192.0.2.0/24'), balanced]), { message });
  await cluster.apply([balanced]);
  await t.rejects(cluster.apply([network('192.0.2.0/28')]), {
    code: 'conflict',
    message:
      'network "lan": subnet 192.0.2.0/28 contains 192.0.2.10, where clients outside reach service "web": choose another',
  });
  await cluster.apply([network('192.0.2.128/25')]);
});

t.test('a record with node ports that are none is refused: nothing is opened on the host for it', async (t) => {
  const plane = await openControlPlane(t);
  await plane.cluster.apply([service('sip', nodePort, { annotations: { 'weft.dev/ports': '5060-5069' } })]);
  const { value } = (await plane.store.get('services/default/sip'))!;
  const { resource, ...rest } = value as { resource: { metadata: object } };
  const other = {
    ...rest,
    clusterIps: [],
    resource: { ...resource, metadata: { ...resource.metadata, name: 'other' } },
  };
  for (const nodePorts of [
    [-5, 30_100],
    [70_000, 30_100],
    [1.5, 30_100],
    [80, 30_100],
    [30_100, 32_760],
  ]) {
    await plane.write({ 'services/default/other': { ...other, nodePorts } });
    const refused = async () => plane.cluster.get(kind('svc'), { name: 'other' });
    await t.rejects(refused, { message: /node ?ports?/i }, nodePorts.join());
    t.equal(plane.forwarding.tables.services.get('default/other'), undefined);
  }
  await plane.write({ 'services/default/other': { ...other, nodePorts: [0, 32_758] } });
  t.ok(plane.forwarding.tables.services.get('default/other'), 'the last ones');
});

t.test('a range of services that nobody would have written is not accepted', async (t) => {
  const plane = await openControlPlane(t);
  const { cluster, serving } = plane;
  const isOfServices = (...all: readonly string[]) =>
    all.map((ip) => plane.forwarding.tables.services.isInRange(parseIp(ip)));
  const wrong: readonly [value: unknown, why: RegExp][] = [
    [{ subnets: ['0.0.0.0/0'] }, /subnets\[0\]: "0\.0\.0\.0\/0" has prefix length 0: accepted are 8 to 30/],
    [{ subnets: ['127.0.0.0/8'] }, /subnets\[0\]: "127\.0\.0\.0\/8" has addresses that are/],
    [{ subnets: ['10.1.0.0/16', '10.2.0.0/16'] }, /subnets\[1\]: "10\.2\.0\.0\/16" is the second IPv4 subnet/],
    [{ subnets: [] }, /subnets: has no subnet/],
    ['anything', /allotment\/services/],
  ];
  for (const [value, why] of wrong) {
    await plane.write({ 'allotment/services': value });
    t.match(serving.clashes(), [{ detail: why, hint: /stores no service/ }]);
    t.match(plane.warnings.at(-1), why);
    await t.rejects(cluster.apply([service('web')]), { code: 'conflict', message: why });
    t.match(plane.warnings.at(-1), /: delete that record, and start the host .* with the former --service-cidr$/);
    t.same(isOfServices('10.96.0.9', '192.0.2.1'), [false, false], 'nothing is in force');
  }
  await plane.write({ 'allotment/services': undefined });
  t.same(serving.clashes(), []);
  await cluster.apply([service('web')]);
  await plane.write({ 'allotment/services': { subnets: ['0.0.0.0/0'] } });
  t.same(isOfServices('10.96.0.9', '192.0.2.1'), [true, false], 'what was in force stays so');
  t.match(
    plane.warnings.at(-1),
    /: write \{"subnets":\["10\.96\.0\.0\/16","fd77:6566:7460::\/112"\]\} there, which was in force before$/,
  );
  await plane.write({ 'allotment/services': { subnets: ['10.96.0.0/16'] } });
  await cluster.apply([service('other')]);
  t.same(serving.clashes(), []);
});

/** What holds on every store that several hosts share. */
async function sharing(t: Test, store: Store, other: Store): Promise<void> {
  const left = await openControlPlane(t, undefined, { host: 'left', shared: store, serviceCidrs: ['10.60.0.0/24'] });
  const right = await openControlPlane(t, undefined, { host: 'right', shared: other });
  await left.cluster.apply([service('first')]);
  t.match(shown(left, 'first').spec['clusterIP'], /^10\.60\.0\./);
  await until(() => right.cluster.get(kind('svc')).length === 1, { what: 'the other host to follow' });
  const isOurs = (address: string) => right.forwarding.tables.services.isInRange(parseIp(address));
  t.same(['10.60.0.77', '10.96.0.1'].map(isOurs), [true, false], 'what nobody has there is refused everywhere');

  // All ask for the few addresses that are left, from two sides at once.
  const all = Array.from({ length: 60 }, (_, n) => `s${n}`);
  const asked = all.map((name, n) => {
    const { cluster } = n % 2 === 0 ? left : right;
    return cluster.apply([service(name, { ...nodePort, ports: [{ port: 80 }] })]);
  });
  await Promise.all(asked);
  const records = (await store.list('services/')).entries.map(({ value }) => value as ServiceAllotted);
  t.equal(records.length, 61);
  const vips = records.flatMap(({ clusterIps }) => clusterIps);
  t.equal(new Set(vips).size, 61, 'no address twice');
  t.ok(
    vips.every((ip) => ip.startsWith('10.60.0.')),
    'the first writer decided on the range',
  );
  const ports = records.flatMap(({ nodePorts }) => nodePorts).filter((port) => port !== 0);
  t.equal(new Set(ports).size, 60, 'no node port twice');
  const both = await Promise.allSettled([
    left.cluster.apply([service('x', { ...web, clusterIP: '10.60.0.3' })]),
    right.cluster.apply([service('y', { ...web, clusterIP: '10.60.0.3' })]),
  ]);
  const lost = both.flatMap((one) => (one.status === 'rejected' ? [String(one.reason.message)] : []));
  t.equal(lost.length, 1, 'of two that ask for one address, one gets it');
  t.match(lost[0], /10.60.0.3: provided IP is already allocated: service "[xy]" has it$/);

  const odd = await openControlPlane(t, undefined, { host: 'odd', shared: store, serviceCidrs: ['10.61.0.0/24'] });
  await t.rejects(odd.cluster.apply([service('other')]), {
    code: 'conflict',
    message:
      '--service-cidr 10.61.0.0/24: the services of this cluster get their addresses from 10.60.0.0/24: start this host with that, or without the option',
  });
  t.equal(odd.forwarding.tables.services.size, 62, 'it has those of the others in force');
}

t.test('two hosts on one store', async (t) => {
  const store = await openStore(t);
  await sharing(t, store, store);
});

t.test('two hosts on etcd', { skip: needsRoot }, async (t) => {
  const etcd = await startEtcd(openLab(t));
  const open = (): Store => {
    const root = openStoreOf(etcd);
    t.teardown(() => root.close());
    return unlimited(within(root, 'state/'));
  };
  await sharing(t, open(), open());
});

t.test('a network and the first service at once, on two hosts: one of them is refused', async (t) => {
  const store = await openStore(t);
  const left = await openControlPlane(t, undefined, { host: 'left', shared: store });
  const right = await openControlPlane(t, undefined, { host: 'right', shared: store });
  const both = await Promise.allSettled([
    left.cluster.apply([service('web')]),
    right.cluster.apply([manifest('Network', 'blue', { subnets: ['10.96.7.0/24'] })]),
  ]);
  t.equal(both.filter(({ status }) => status === 'rejected').length, 1);
  const [lost] = both.flatMap((one) => (one.status === 'rejected' ? [String(one.reason.message)] : []));
  t.match(lost, /overlaps/);
});

t.test('a network and an address outside within it at once, on two hosts: one of them is refused', async (t) => {
  const store = await openStore(t);
  const left = await openControlPlane(t, undefined, { host: 'left', shared: store });
  const right = await openControlPlane(t, undefined, { host: 'right', shared: store });
  await left.cluster.apply([service('first'), manifest('Network', 'red', { subnets: ['10.8.0.0/24'] })]);
  const both = await Promise.allSettled([
    left.cluster.apply([service('web', { ...web, type: 'LoadBalancer', loadBalancerIP: '10.7.0.10' })]),
    right.cluster.apply([manifest('Network', 'blue', { subnets: ['10.7.0.0/24'] })]),
  ]);
  const lost = both.flatMap((one) => (one.status === 'rejected' ? [String(one.reason.message)] : []));
  t.equal(lost.length, 1);
  t.match(lost[0], /overlaps 10\.7\.0\.0\/24 of network "blue"|contains 10\.7\.0\.10/);
});
