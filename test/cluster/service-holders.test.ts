/** What several services, or a service and an endpoint, say that they have: it is that of one of them, the same on all hosts. */
import t from 'tap';
import { publishedBy } from '../../src/cluster/publishing.ts';
import { formatIp } from '../../src/flow/types.ts';
import { findKind } from '../../src/model/kinds/registry.ts';
import type { ServiceAllotted } from '../../src/model/kinds/service.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

type Plane = Awaited<ReturnType<typeof openControlPlane>>;

const kind = (text: string) => findKind(text)!;
const web = { selector: { app: 'web' }, ports: [{ port: 80 }] };
const dual = { ...web, ipFamilyPolicy: 'RequireDualStack' };
const nodePort = { ...web, type: 'NodePort' };
const service = (name: string, spec: object = web, metadata: object = {}) => manifest('Service', name, spec, metadata);

/** A record that another program has written, without claims. */
const written = (name: string, spec: object, allotted: Partial<ServiceAllotted>, annotations = {}) => ({
  [`services/default/${name}`]: {
    resource: service(name, spec, { annotations }),
    ...{ clusterIps: [], ipFamilies: ['IPv4'], nodePorts: [0], ...allotted },
  },
});
const inForce = ({ forwarding }: Plane, name: string) => forwarding.tables.services.get(`default/${name}`);
const clashes = ({ serving }: Plane): string[] => serving.services.held.clashes().map(({ detail }) => detail);
const owned = (service: string): object => ({ service });

t.test('an address that several records give away is that of one, which is the same on all hosts', async (t) => {
  const store = await openStore(t);
  const left = await openControlPlane(t, undefined, { host: 'left', shared: store });
  const records = ['c', 'b', 'd', 'a'].map((name) => written(name, web, { clusterIps: ['10.96.0.10'] }));
  for (const record of records) await left.write(record);
  const right = await openControlPlane(t, undefined, { host: 'right', shared: store });
  const planes = [left, right];
  const having = async (what: string, ...expected: string[]): Promise<void> => {
    await until(() => planes.every((plane) => plane.serving.services.held.serviceWith('10.96.0.10') === expected[0]), {
      what,
    });
    for (const plane of planes) {
      await plane.cluster.serial.run(() => plane.cluster.enforce());
      const found = ['a', 'b', 'c', 'd'].filter((name) => inForce(plane, name));
      t.same(found, expected, what);
      for (const name of ['a', 'b', 'c', 'd']) {
        const why = `address 10.96.0.10 is that of service "${expected[0]}" already`;
        const failure = plane.serving.services.find(name) && plane.serving.services.failure(name)?.message;
        if (!expected.includes(name) && plane.serving.services.find(name)) t.equal(failure, why);
      }
    }
  };
  await having('the first by name', 'a');
  const detail = 'address 10.96.0.10 is that of service "a", and services "b", "c" and "d" do not have it';
  for (const plane of planes) {
    t.same(clashes(plane), [detail]);
    t.equal(plane.warnings.filter((one) => one === detail).length, 1, 'told once');
  }
  await left.write({ 'vips/10.96.0.10': owned('c') });
  await having('the one with a claim', 'c');
  await left.write({ 'vips/10.96.0.10': owned('nobody') });
  await having('a claim of somebody else says nothing', 'a');
  await left.write({ 'vips/10.96.0.10': 'not readable', 'services/default/a': undefined });
  await having('the next', 'b');
  await left.write({ 'services/default/c': undefined, 'services/default/d': undefined });
  await having('the last', 'b');
  t.same(planes.map(clashes), [[], []]);
});

t.test('a service that has lost its only address is not reached; one that has another is', async (t) => {
  const plane = await openControlPlane(t);
  await plane.cluster.apply([service('web', { ...dual, clusterIP: '10.96.0.10' })]);
  const [, six = ''] = plane.serving.services.get('web').allotted.clusterIps;
  await plane.write({
    ...written('db', web, { clusterIps: ['10.96.0.10'] }),
    ...written('app', dual, { clusterIps: ['10.96.0.11', six], ipFamilies: ['IPv4', 'IPv6'] }),
  });
  const vipsOf = (name: string) => inForce(plane, name)?.vips.map(formatIp);
  t.same(['web', 'db', 'app'].map(vipsOf), [['10.96.0.10', six], undefined, ['10.96.0.11']]);
  await plane.cluster.delete(kind('svc'), { name: 'web' });
  t.same(['web', 'db', 'app'].map(vipsOf), [undefined, ['10.96.0.10'], ['10.96.0.11', six]]);
});

t.test('nothing is opened on the host for a service that is not reached', async (t) => {
  const plane = await openControlPlane(t);
  await plane.cluster.apply([service('web', { ...web, clusterIP: '10.96.0.10' })]);
  const opened = () => {
    const { ports, addresses } = plane.serving.services.entries;
    return [ports.map(({ hostPort }) => hostPort), addresses.map(({ address }) => address)];
  };
  const balanced = { ...nodePort, type: 'LoadBalancer', loadBalancerIP: '192.0.2.80' };
  await plane.write(written('db', balanced, { clusterIps: ['10.96.0.10'], nodePorts: [30_007] }));
  t.equal(inForce(plane, 'db'), undefined);
  t.same(opened(), [[], []]);
  await plane.cluster.delete(kind('svc'), { name: 'web' });
  t.same(opened(), [[30_007], ['192.0.2.80']]);
  await plane.write(written('an', web, { clusterIps: ['10.96.0.10'] }));
  t.same(opened(), [[], []], 'another one has its address now');
});

t.test('a service that is not reached keeps nothing outside from others', async (t) => {
  const plane = await openControlPlane(t);
  const balanced = { ...nodePort, type: 'LoadBalancer', loadBalancerIP: '192.0.2.80' };
  const [mine, other, third] = ['10.96.0.10', '10.96.0.11', '10.96.0.12'].map((one) => ({ clusterIps: [one] }));
  const ports = { nodePorts: [30_007] };
  await plane.write({
    ...written('web', web, mine!),
    ...written('db', balanced, { ...mine, ...ports }),
    ...written('shop', balanced, { ...other, ...ports }),
    ...written('zoo', balanced, { ...third, ...ports }),
    ...{ 'vips/10.96.0.10': owned('web'), 'vips/192.0.2.80': owned('db'), 'node-ports/30007': owned('db') },
  });
  /** The node port and the address outside of each: of one that is not in force, undefined. */
  const outside = () =>
    ['db', 'shop', 'zoo'].map((name) => {
      const service = inForce(plane, name);
      return service && [service.ports[0]?.nodePort, ...service.externalAddresses.map(formatIp)];
    });
  const opened = () => plane.serving.services.entries.ports.map(({ hostPort }) => hostPort);
  const [all, nothing] = [[30_007, '192.0.2.80'], [undefined]];
  t.same(outside(), [undefined, all, nothing], 'the claims of one that is not reached say nothing');
  t.same(opened(), [30_007]);
  t.same(clashes(plane), [
    'address 10.96.0.10 is that of service "web", and service "db" does not have it',
    'address 192.0.2.80 (and 1 more) is that of service "shop", and service "zoo" does not have it',
  ]);
  await plane.write({ 'vips/10.96.0.10': owned('db') });
  t.same(outside(), [all, nothing, nothing], 'it is reached by a claim');
  await plane.write({ 'vips/10.96.0.10': undefined });
  t.same(outside(), [all, nothing, nothing], 'by its name');
  await plane.write(written('an', web, mine!));
  t.same(outside(), [undefined, all, nothing], 'not any more');
  await plane.write({ 'services/default/shop': undefined });
  t.same(outside(), [undefined, undefined, all]);
  await plane.write({ 'services/default/an': undefined });
  t.same(outside(), [all, undefined, nothing], 'others are gone');
  t.same(opened(), [30_007]);
});

t.test('a record with an address that services do not have is refused', async (t) => {
  const plane = await openControlPlane(t);
  await plane.cluster.apply([service('first')]);
  const balanced = { ...web, type: 'LoadBalancer', loadBalancerIP: '10.96.0.12' };
  const why: Record<string, RegExp> = {
    outside: /clusterIP 10\.0\.0\.1 is not in 10\.96\.0\.0\/16 and fd77:6566:7460::\/112, where services get/,
    balanced: /10\.96\.0\.12 is one of the addresses that services have within the cluster/,
    opened: /node port 30100: a service of type ClusterIP has none/,
  };
  await plane.write({
    ...written('outside', web, { clusterIps: ['10.0.0.1'] }),
    ...written('balanced', balanced, { clusterIps: ['10.96.0.13'], nodePorts: [30_101] }),
    ...written('opened', web, { clusterIps: ['10.96.0.14'], nodePorts: [30_100] }),
  });
  for (const [name, message] of Object.entries(why)) {
    t.throws(() => plane.cluster.get(kind('svc'), { name }), { message }, name);
    t.equal(inForce(plane, name), undefined);
  }
  t.equal(plane.warnings.length, 3);
});

t.test('a node port that several have is that of one, and all say which', async (t) => {
  const plane = await openControlPlane(t);
  const nodePortOf = (name: string) => inForce(plane, name)?.ports[0]?.nodePort;
  const entries = () => plane.serving.services.entries.ports.map(({ hostPort }) => hostPort);
  const of = (...names: string[]) =>
    Object.assign({}, ...names.map((name) => written(name, nodePort, { nodePorts: [30_007] })));
  await plane.write(of('b'));
  await plane.write(of('a'));
  t.same(['a', 'b'].map(nodePortOf), [30_007, undefined], 'the first by name');
  const detail = 'node port 30007 is that of service "a", and service "b" does not have it';
  t.same([clashes(plane), plane.warnings], [[detail], [detail]]);
  await plane.write({ 'node-ports/30007': owned('b') });
  t.same(['a', 'b'].map(nodePortOf), [undefined, 30_007], 'the one with a claim');
  t.same(entries(), [30_007]);
  t.match(plane.serving.services.failure('a'), { message: 'node port 30007 is that of service "b" already' });
  await plane.write({ 'services/default/b': undefined });
  t.equal(nodePortOf('a'), 30_007);
  t.same(clashes(plane), []);

  const range = { 'weft.dev/ports': '5060-5069' };
  await plane.write({
    ...written('m', nodePort, { nodePorts: [0, 30_100] }, range),
    ...written('n', nodePort, { nodePorts: [0, 30_105] }, range),
  });
  t.same(clashes(plane), ['node port 30105 (and 4 more) is that of service "m", and service "n" does not have it']);
  t.same(inForce(plane, 'n')?.ports.at(-1)?.nodePort, undefined, 'a part of a range is none');
});

t.test('a node port that an endpoint publishes as well is that of one of them', { skip: needsRoot }, async (t) => {
  const inside = await openLab(t).namespace('c');
  const store = await openStore(t);
  const left = await openControlPlane(t, undefined, { host: 'left', shared: store });
  const right = await openControlPlane(t, undefined, { host: 'right', shared: store });
  const ports = [{ port: 80, nodePort: 30_007 }];
  await left.cluster.apply([
    service('first'),
    manifest('Host', 'right', { underlay: '192.0.2.2' }),
    manifest('Network', 'front', { subnets: ['10.0.0.0/24'], outside: true }),
  ]);
  const publish = [
    { hostPort: 30_007, port: 80 },
    { hostPort: 30_007, port: 53, protocol: 'UDP' },
  ];
  const app = manifest('Endpoint', 'app', { network: 'front', netns: inside.name, publish });
  const db = service('db', { ...nodePort, ports });
  /** What is in force: the port of the endpoint, and of the service on both hosts. */
  const inForceOf = async (): Promise<unknown[]> => {
    const revision = (await store.list('')).revision;
    const planes = [left, right];
    for (const { cluster } of planes) await cluster.serial.run(() => cluster.enforce());
    await until(() => planes.every(({ feed }) => (feed.report()?.revision ?? 0) >= revision), {
      what: 'both to follow',
    });
    for (const { cluster } of planes) await cluster.serial.run(() => cluster.enforce());
    const published = publishedBy(left.endpoints.find('app')!, left.serving.nodePortBefore).map(
      ({ protocol, hostPort }) => `${hostPort}/${protocol}`,
    );
    return [published, ...planes.map((plane) => inForce(plane, 'db')?.ports[0]?.nodePort)];
  };
  const [ofEndpoint, ofService] = [
    [['30007/TCP', '30007/UDP'], undefined, undefined],
    [['30007/UDP'], 30_007, 30_007],
  ];
  await Promise.allSettled([left.cluster.apply([app]), right.cluster.apply([db])]);
  const found = await inForceOf();
  t.same(found, found[1] === undefined ? ofEndpoint : ofService, 'declared at once');
  await right.write({ 'services/default/db': undefined, 'node-ports/30007': undefined });
  await left.cluster.apply([app]);
  t.same(await inForceOf(), ofEndpoint);

  await right.write(written('db', { ...nodePort, ports }, { nodePorts: [30_007] }));
  t.same(await inForceOf(), ofEndpoint, 'a service without a claim');
  const lost = 'host port 30007/tcp is published by endpoint "app", and service "db" does not have it';
  t.same([left, right].map(clashes), [[lost], [lost]]);
  await right.write({ 'node-ports/30007': owned('db') });
  t.same(await inForceOf(), ofService, 'with its claim');
  const detail = 'host port 30007/tcp is the node port of service "db", and endpoint "app" does not have it';
  t.same([left, right].map(clashes), [[detail], [detail]]);
  t.ok([left, right].every(({ warnings }) => warnings.includes(detail)));
  await right.cluster.delete(kind('svc'), { name: 'db' });
  t.same(await inForceOf(), [['30007/TCP', '30007/UDP'], undefined, undefined], 'it is free again');
  await left.cluster.delete(kind('ep'), { name: 'app' });
});
