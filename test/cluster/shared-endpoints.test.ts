/** Endpoints of hosts that share a store: each host has its own in force, and knows those of the others from the store. */
import t, { type Test } from 'tap';
import { parseIp, parseMac, formatIp, type PortNo, type Vni } from '../../src/flow/types.ts';
import { endpointKind, type EndpointResource } from '../../src/model/kinds/endpoint.ts';
import { hostKind } from '../../src/model/kinds/host.ts';
import { parseResource } from '../../src/model/manifest.ts';
import type { Resource } from '../../src/model/resource.ts';
import { announcement } from '../../src/pipeline/reply.ts';
import { until } from '../support/process.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

const VNI = 100 as Vni;
const underlays = { left: '192.0.2.1', right: '192.0.2.2', third: '192.0.2.3' };
type HostName = keyof typeof underlays;

const idOf = (host: string): string => Buffer.from(host).toString('hex').padEnd(32, '0');
const hostRecord = (host: HostName) => ({
  resource: manifest('Host', host, { underlay: underlays[host] }),
  host,
  id: idOf(host),
  mac: `0000${underlays[host].slice(-1).padStart(2, '0')}`,
  since: '2026-01-01T00:00:00Z',
});
const liveRecord = (host: HostName) => ({
  ...{ host, id: idOf(host), version: '1.0.0', capabilities: [], startedAt: '2026-01-01T00:00:00Z', clock: 0 },
  process: { bootId: 'b', pidNamespace: 'pid:[1]', pid: 1, startTicks: '1', stateDirectory: '8/1' },
});
const record = (host: HostName, name: string, n: number, spec: object = {}) => ({
  resource: manifest('Endpoint', name, { network: 'blue', netns: `/run/${name}`, ...spec }),
  addresses: [`10.0.0.${n}`],
  mac: macOf(n),
  host,
});
const macOf = (n: number): string => `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`;
const network = { resource: manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] }), vni: VNI, mtu: 1450 };

/** Three hosts, two of which run. `web` is on the left, `db` on the right, `app` on the third. */
async function lab(t: Test) {
  const store = await openStore(t);
  await store.transact({
    put: [
      { key: 'networks/blue', value: network },
      ...(Object.keys(underlays) as HostName[]).map((host) => ({ key: `hosts/${host}`, value: hostRecord(host) })),
      { key: 'live/right', value: liveRecord('right'), lease: await store.grant(600_000) },
      { key: 'endpoints/default/web', value: record('left', 'web', 11) },
      { key: 'endpoints/default/db', value: record('right', 'db', 12, { trust: false }) },
      { key: 'endpoints/default/app', value: record('third', 'app', 13, { allowedAddresses: ['10.0.0.99'] }) },
    ],
  });
  const left = await openControlPlane(t, undefined, { host: 'left', shared: store });
  const right = await openControlPlane(t, undefined, { host: 'right', shared: store });
  return { store, left, right };
}

type Plane = Awaited<ReturnType<typeof openControlPlane>>;

const whereIs = ({ forwarding }: Plane, n: number): string | undefined => {
  const where = forwarding.tables.fdb.lookup(VNI, parseMac(macOf(n)))?.where;
  return where?.kind === 'vtep' ? formatIp(where.vtep) : where?.kind;
};

t.test('each host knows the endpoints of the others where they are, and its own as its own', async (t) => {
  const { left, right } = await lab(t);
  t.same([whereIs(left, 11), whereIs(left, 12), whereIs(left, 13)], [undefined, '192.0.2.2', '192.0.2.3']);
  t.same([whereIs(right, 11), whereIs(right, 12), whereIs(right, 13)], ['192.0.2.1', undefined, '192.0.2.3']);
  t.same(
    left.endpoints.all().map(({ name, host, state }) => ({ name, host, state })),
    [
      { name: 'app', host: 'third', state: 'remote' },
      { name: 'db', host: 'right', state: 'remote' },
      { name: 'web', host: undefined, state: 'waiting' },
    ],
    'its own waits for its namespace',
  );
  const { topology, neighbors } = left.forwarding.tables;
  t.same(topology.vteps.all().map(formatIp), ['192.0.2.2', '192.0.2.3'], 'it is no VTEP of its own');
  t.ok(topology.vteps.all().every((vtep) => topology.vteps.isSharing(vtep)));
  t.ok(topology.workloads.mayCarry(VNI, parseIp('192.0.2.3'), parseIp('10.0.0.99')));
  t.same(neighbors.lookup(VNI, parseIp('10.0.0.12')), parseMac(macOf(12)));
});

t.test('an endpoint of another host is shown where it is, and can be applied so, by any host', async (t) => {
  const { left, right, store } = await lab(t);
  const [own] = right.cluster.get(endpointKind, { name: 'db' });
  t.match(own, { spec: { netns: '/run/db' } });
  t.notMatch(own, { spec: { host: String } });
  const [shown] = left.cluster.get(endpointKind, { name: 'db' });
  t.match(shown, { spec: { host: 'right', addresses: ['10.0.0.12'], mac: macOf(12) } });
  t.notMatch(shown, { spec: { netns: String } });

  const [unchanged] = await left.cluster.apply([parseResource(shown)]);
  t.equal(unchanged!.action, 'unchanged');
  const changed = { ...shown!, spec: { ...shown!.spec, trust: true } };
  const [report] = await left.cluster.apply([parseResource(changed)]);
  t.equal(report!.action, 'configured');
  const { value } = (await store.get('endpoints/default/db'))!;
  t.match(value, { host: 'right', resource: { spec: { netns: '/run/db', trust: true } } });
  t.notMatch(value, { resource: { spec: { host: String } } });
  await until(() => right.endpoints.get('db').resource.spec.trust, { what: 'its host follows' });
  t.ok(left.forwarding.tables.topology.workloads.hasTrusted(VNI, parseIp('192.0.2.2')));

  const named = { ...changed, spec: { ...changed.spec, ports: [{ name: 'http', port: 80 }] } };
  t.match(await left.cluster.apply([parseResource(named)]), [{ action: 'configured' }], 'a name for a port alone');
  await until(() => right.endpoints.get('db').resource.spec.ports?.length === 1, { what: 'its host follows' });

  const again = await right.cluster.apply([parseResource({ ...changed, spec: { ...changed.spec, trust: false } })]);
  t.equal(again[0]!.action, 'configured', 'also by its own host');
});

t.test('any host labels and deletes it, and its host follows', async (t) => {
  const { left, right } = await lab(t);
  await left.cluster.label(endpointKind, { name: 'db' }, { tier: 'data' });
  await until(() => right.endpoints.get('db').resource.metadata.labels['tier'] === 'data', { what: 'it is labelled' });
  t.match(right.endpoints.get('db'), { host: undefined, resource: { spec: { netns: '/run/db' } } });
  await left.cluster.delete(endpointKind, { name: 'db' });
  t.equal(whereIs(left, 12), undefined);
  await until(() => right.endpoints.find('db') === undefined, { what: 'it is gone' });
});

t.test('one that moves between other hosts is found at one of the two places at any moment', async (t) => {
  const { left, right, store } = await lab(t);
  const seen = new Set<string | undefined>();
  const { controller } = left.forwarding;
  const enforce = controller.enforce.bind(controller);
  controller.enforce = () => {
    seen.add(whereIs(left, 12));
    return enforce();
  };
  await store.transact({ put: [{ key: 'endpoints/default/db', value: record('third', 'db', 12) }] });
  await until(() => whereIs(left, 12) === '192.0.2.3', { what: 'it is followed' });
  t.notOk(seen.has(undefined));
  await until(() => whereIs(right, 12) === '192.0.2.3', { what: 'its old host gives it up' });
  t.match(right.endpoints.get('db'), { state: 'remote', host: 'third' });
});

t.test('containers here learn at once who has an address that another one had', async (t) => {
  const { left, store } = await lab(t);
  left.forwarding.addPort(
    {
      portNo: 9 as PortNo,
      name: 'here',
      vni: VNI,
      mac: parseMac(macOf(9)),
      addresses: [],
      allowedAddresses: [],
      allowedEtherTypes: [],
      trust: false,
    },
    { kind: 'memory', name: 'here', transmit: (frame) => received.push(frame.slice()) },
  );
  const received: Uint8Array[] = [];
  await left.endpoints.started(() => true);
  await left.cluster.delete(endpointKind, { name: 'db' });
  t.same(received, []);
  const again = { ...record('right', 'db', 12), mac: macOf(77) };
  await store.transact({ put: [{ key: 'endpoints/default/db', value: again }] });
  await until(() => received.length > 0, { what: 'the announcement' });
  t.same(received, [announcement(parseMac(macOf(77)), parseIp('10.0.0.12'))]);
});

t.test('what only its host can do is refused by name', async (t) => {
  const { left } = await lab(t);
  const refuses = (resource: Resource, message: string | RegExp) =>
    t.rejects(left.cluster.apply([resource]), { message });
  const at = (host: string, name: string, spec: object = {}) =>
    manifest('Endpoint', name, { network: 'blue', host, mac: macOf(99), addresses: ['10.0.0.9'], ...spec });
  await refuses(
    at('right', 'new'),
    'endpoint "new": host "right" attaches its endpoints itself: attach it there, or apply it there with netns or pid',
  );
  await refuses(
    at('left', 'new'),
    'endpoint "new": host "left" attaches its endpoints itself: attach it here, or apply it here with netns or pid',
  );
  await refuses(
    at('third', 'db', { mac: macOf(12), addresses: ['10.0.0.12'] }),
    'endpoint "db" exists with host right, not third: detach it first',
  );
  await refuses(
    manifest('Endpoint', 'db', { network: 'blue', netns: '/proc/self/ns/net' }),
    'endpoint "db" is on host "right": detach it first, or take it over with `weft attach --move`',
  );
});

t.test('a host on which weft does not run is as before', async (t) => {
  const { left, right } = await lab(t);
  await left.cluster.apply([manifest('Host', 'kernel', { underlay: '192.0.2.9' })]);
  const far = { network: 'blue', host: 'kernel', mac: macOf(99), addresses: ['10.0.0.9'] };
  await left.cluster.apply([manifest('Endpoint', 'far', far)]);
  await until(() => whereIs(right, 99) === '192.0.2.9', { what: 'all hosts know it' });
  t.notOk(right.forwarding.tables.topology.vteps.isSharing(parseIp('192.0.2.9')), 'anything can be behind it');
  t.match(right.cluster.get(endpointKind, { name: 'far' })[0], { spec: far });
  await t.rejects(
    left.cluster.apply([manifest('Endpoint', 'far', { ...far, publish: [{ hostPort: 80, port: 80 }] })]),
    { message: 'endpoint "far": publish: an endpoint of another host is published there, not here' },
  );
  await t.rejects(left.cluster.apply([manifest('Endpoint', 'far', { ...far, rateLimit: { ingress: '1mbit' } })]), {
    message: 'endpoint "far": rateLimit: an endpoint of another host is limited there',
  });
});

t.test('a host that has registered itself keeps its address, and may be labelled', async (t) => {
  const { left, store } = await lab(t);
  await t.rejects(left.cluster.apply([manifest('Host', 'right', { underlay: '192.0.2.7' })]), {
    message:
      'host "right" has registered itself with underlay 192.0.2.2, not 192.0.2.7: its address follows its configuration',
  });
  await left.cluster.label(hostKind, { name: 'right' }, { rack: 'b' });
  const { value } = (await store.get('hosts/right'))!;
  t.match(value, { host: 'right', id: idOf('right'), resource: { metadata: { labels: { rack: 'b' } } } });
  const [shown] = left.cluster.get(hostKind, { name: 'right' });
  t.equal((await left.cluster.apply([parseResource(shown)]))[0]!.action, 'unchanged');
});

t.test('an endpoint that says nothing of its host is not accepted', async (t) => {
  const { left, store } = await lab(t);
  const { host: _, ...stranger } = record('right', 'stranger', 77);
  await store.transact({ put: [{ key: 'endpoints/default/stranger', value: stranger }] });
  await until(() => left.cluster.refused.report().length > 0, { what: 'it is refused' });
  t.match(left.cluster.refused.report(), [{ name: 'stranger', why: /host: is missing/ }]);
  t.equal((left.endpoints.all() as readonly { resource: EndpointResource }[]).length, 3);
});

t.test('the endpoints of a host that comes after them are in force as soon as it is known', async (t) => {
  const { left } = await lab(t);
  const numbers = Array.from({ length: 200 }, (_, n) => 20 + n);
  await left.write({ 'hosts/third': undefined });
  await left.write(Object.fromEntries(numbers.map((n) => [`endpoints/default/e${n}`, record('third', `e${n}`, n)])));
  t.same([left.endpoints.find('e20')?.state, whereIs(left, 20)], ['waiting', undefined]);
  await left.write({ 'hosts/third': hostRecord('third') });
  for (const n of [13, ...numbers]) {
    if (whereIs(left, n) !== underlays.third) t.fail(`e${n}: ${whereIs(left, n) ?? 'it waits'}`);
  }
  t.equal(left.endpoints.problems()['e20'], undefined);
});
