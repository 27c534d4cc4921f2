/**
 * Records of other programs that this host does not accept: they are told, change nothing, are tried again, and can be
 * replaced or deleted.
 */
import t from 'tap';
import { endpointKind } from '../../src/model/kinds/endpoint.ts';
import { namespaceKind } from '../../src/model/kinds/namespace.ts';
import { networkKind } from '../../src/model/kinds/network.ts';
import { createNetwork } from '../../src/cluster/network-creating.ts';
import type { Vni } from '../../src/flow/types.ts';
import { manifest, openControlPlane } from './control-plane.ts';

const blue = manifest('Network', 'blue', { subnets: ['10.0.0.0/24'], vni: 100 });
const there = manifest('Host', 'there', { underlay: '192.0.2.2' });
const [mac, otherMac] = ['02:00:00:00:00:01', '02:00:00:00:00:02'];

function remote(name: string, address: string, itsMac: string, metadata: object = {}) {
  const spec = { network: 'blue', host: 'there', addresses: [address], mac: itsMac };
  return manifest('Endpoint', name, spec, metadata);
}

function recordOf(name: string, address: string, itsMac: string) {
  return { resource: remote(name, address, itsMac), addresses: [address], mac: itsMac };
}

t.test('an endpoint that does not validate', async (t) => {
  const { cluster, endpoints, warnings, write } = await openControlPlane(t);
  await cluster.apply([blue, there]);
  const good = recordOf('web', '10.0.0.10', mac);
  const { network: _, ...withoutNetwork } = good.resource.spec as { network: string };
  const faulty = {
    'resource.spec.network is missing': { ...good, resource: { ...good.resource, spec: withoutNetwork } },
    'resource is missing': {},
    'resource.metadata.labels.__proto__ is not supported here': {
      ...good,
      resource: {
        ...good.resource,
        metadata: { name: 'web', labels: JSON.parse('{"__proto__":{"app":"db"}}') as object },
      },
    },
    'it is no JSON object': null,
    'addresses is missing': { ...good, addresses: undefined },
    'mac: 02 is not accepted': { ...good, mac: '02' },
    'resource.metadata.name: its key says web, not db': recordOf('db', '10.0.0.10', mac),
  };
  for (const [why, record] of Object.entries(faulty)) {
    await write({ 'endpoints/default/web': record });
    const [refused, ...others] = cluster.refused.report();
    t.match(refused, { kind: 'Endpoint', name: 'web', namespace: 'default' });
    t.ok(refused?.why.startsWith(why.split(':')[0]!), `${why}: ${refused?.why}`);
    t.same(others, []);
    t.equal(endpoints.size, 0);
    t.throws(() => cluster.get(endpointKind, { name: 'web' }), { message: /^endpoint "web" waits: .*apply it again/ });
  }
  t.same(new Set(warnings), new Set(['a record of the store is not accepted']));
  t.match(await cluster.apply([good.resource]), [{ action: 'created' }], 'it can be replaced');
  t.same(cluster.refused.report(), []);
  t.equal(endpoints.get('web').state, 'remote');

  await write({ 'endpoints/default/web': {} });
  t.equal(endpoints.get('web').state, 'remote', 'what is in force stays so');
  t.equal(cluster.refused.report().length, 1);
  t.match(await cluster.apply([good.resource]), [{ action: 'configured' }], 'what it was can be stored again');
  t.same(cluster.refused.report(), []);

  await write({ 'endpoints/default/db': {}, 'endpoints/default/web': {} });
  await cluster.delete(endpointKind, { name: 'db' });
  t.match(cluster.refused.report(), [{ name: 'web' }], 'it can be deleted');
  await write({ 'endpoints/default/web': undefined });
  t.same(cluster.refused.report(), []);
  t.equal(endpoints.size, 0);
});

t.test('the namespace `default` is there, also without its record', async (t) => {
  const { cluster, endpoints, write } = await openControlPlane(t);
  await cluster.apply([blue, there]);
  await write({ 'namespaces/default': undefined });
  await cluster.apply([remote('web', '10.0.0.10', mac)]);
  t.equal(endpoints.get('web').state, 'remote');
  const labels = { 'kubernetes.io/metadata.name': 'default' };
  t.match(cluster.get(namespaceKind), [{ metadata: { name: 'default', labels } }]);
  t.match(await cluster.label(namespaceKind, { name: 'default' }, { tier: 'a' }), { action: 'configured' });
  t.match(cluster.get(namespaceKind), [{ metadata: { name: 'default', labels: { ...labels, tier: 'a' } } }]);
  await t.rejects(cluster.delete(namespaceKind, { name: 'default' }), { message: /is always there/ });
});

t.test('an endpoint that clashes waits until it does not', async (t) => {
  const { cluster, endpoints, write } = await openControlPlane(t);
  await cluster.apply([blue, there, remote('web', '10.0.0.10', mac)]);
  await write({
    'endpoints/default/address': recordOf('address', '10.0.0.10', otherMac),
    'endpoints/default/mac': recordOf('mac', '10.0.0.11', mac),
  });
  t.match(endpoints.problems(), {
    address: [/ip 10\.0\.0\.10 is taken by endpoint "web"/],
    mac: [`endpoint "mac": mac ${mac} is taken by endpoint "web"`],
  });
  t.equal(endpoints.get('mac').state, 'waiting');
  t.equal(endpoints.get('web').state, 'remote');
  await t.rejects(
    cluster.apply([remote('late', '10.0.0.11', '02:00:00:00:00:77')]),
    { message: /10\.0\.0\.11 is taken by endpoint "mac"/ },
    'one that waits for its MAC keeps its address',
  );
  await cluster.delete(endpointKind, { name: 'web' });
  await endpoints.renew();
  t.same(endpoints.problems(), {});
  t.equal(endpoints.get('mac').state, 'remote');
});

t.test('a network that clashes does not take the place of another', async (t) => {
  const { cluster, networks, forwarding, write } = await openControlPlane(t);
  await cluster.apply([blue]);
  const red = manifest('Network', 'red', { subnets: ['10.1.0.0/24'], vni: 100 });
  const wide = manifest('Network', 'wide', { subnets: ['10.0.0.0/16'] });
  await write({
    'networks/red': { resource: red, vni: 100, mtu: 1450 },
    'networks/wide': { resource: wide, vni: 7, mtu: 1450 },
  });
  t.match(cluster.refused.report(), [
    { kind: 'Network', name: 'red', why: 'VNI 100 is taken by network "blue"' },
    { kind: 'Network', name: 'wide', why: 'subnet 10.0.0.0/16 overlaps 10.0.0.0/24 of network "blue"' },
  ]);
  const hint = 'apply it again with another VNI (left out, weft chooses one) or subnet, or delete one of the two';
  for (const refused of cluster.refused.report()) t.equal(refused.hint, hint);
  const accepted = [
    { name: 'network "red"', change: 'returned' },
    { name: 'network "blue"', change: 'changed' },
  ] as const;
  const why = `it waits: VNI 100 is taken by network "blue": ${hint}`;
  t.same(
    cluster.refused.explained(accepted),
    [{ ...accepted[0], why }, accepted[1]],
    'so it is told when it is accepted',
  );
  t.equal(networks.size, 1);
  t.equal(forwarding.tables.topology.networkNamed('blue')?.vni, 100);
  await write({ 'networks/faulty': { resource: {} } });
  const triedAgain = (kind: string) => cluster.refused.clashing(new Set([kind])).map(({ key }) => key);
  t.same(triedAgain('Network'), ['networks/red', 'networks/wide'], 'what is faulty is not tried again');
  t.same(triedAgain('Endpoint'), [], 'nor is anything when others have changed');
  await write({ 'networks/faulty': undefined });
  const { vni: _, ...anyVni } = red.spec as { readonly vni: number };
  await cluster.apply([{ ...red, spec: anyVni }]);
  t.match(cluster.refused.report(), [{ name: 'wide' }], 'without its VNI, it gets another one');
  await write({ 'networks/red': { resource: red, vni: 100, mtu: 1450 } });
  await cluster.delete(networkKind, { name: 'blue' });
  t.same(cluster.refused.report(), [], 'without it they are accepted');
  t.equal(networks.size, 2);
});

t.test(
  'a network that is not in force because its record is not accepted is not replaced by one that is created',
  async (t) => {
    const { cluster, networks, endpoints, write } = await openControlPlane(t);
    const record = { resource: { ...blue, later: true }, vni: 100, mtu: 1450 };
    await write({ 'networks/blue': record, 'hosts/there': { resource: there } });
    const why = /^network "blue" waits: resource\.later is not supported here: .*: apply it again, or delete it$/;
    await t.rejects(createNetwork({ cluster, networks }, 'blue', { subnets: ['10.9.0.0/24'] }), { message: why });
    t.match(cluster.refused.report(), [{ kind: 'Network', name: 'blue' }], 'the record stays');
    t.throws(() => networks.get('blue'), { message: why }, 'whoever needs it is told');
    await t.rejects(cluster.apply([remote('web', '10.0.0.10', mac)]), { message: why });
    await write({ 'endpoints/default/web': recordOf('web', '10.0.0.10', mac) });
    t.match(endpoints.problems(), { web: [why] });

    t.match(await cluster.apply([blue]), [{ action: 'created' }], 'a manifest, which has all of it, mends it');
    t.same(cluster.refused.report(), []);
    await write({ 'networks/blue': record });
    t.match(
      await createNetwork({ cluster, networks }, 'blue', { mtu: 1400 }),
      { vni: 100, mtu: 1400 },
      'so does a change',
    );
    t.same(cluster.refused.report(), []);
  },
);

t.test('of networks that clash with each other and come together, the first one is in force', async (t) => {
  const { cluster, networks, forwarding, write, directory, close } = await openControlPlane(t);
  const record = (name: string, subnet: string) => ({
    resource: manifest('Network', name, { subnets: [subnet] }),
    vni: name === 'wide' ? 7 : 100,
    mtu: 1450,
  });
  const refused = [
    { name: 'red', why: 'VNI 100 is taken by network "blue"' },
    { name: 'wide', why: 'subnet 10.0.0.0/16 overlaps 10.0.0.0/24 of network "blue"' },
  ];
  await write({
    'networks/blue': record('blue', '10.0.0.0/24'),
    'networks/red': record('red', '10.1.0.0/24'),
    'networks/wide': record('wide', '10.0.0.0/16'),
  });
  t.match(cluster.refused.report(), refused);
  t.equal(networks.size, 1);
  t.equal(forwarding.tables.topology.network(100 as Vni)?.name, 'blue');

  // Also at the next start, which reads all of them.
  await close();
  const again = await openControlPlane(t, directory);
  t.match(again.cluster.refused.report(), refused);
  t.equal(again.forwarding.tables.topology.network(100 as Vni)?.name, 'blue');
  await again.write({ 'networks/pink': record('pink', '10.2.0.0/24') });
  await again.cluster.delete(networkKind, { name: 'blue' });
  t.equal(again.networks.size, 2, 'of those that waited for it, one of each kind');
});

t.test('of very many, policies are named first, and the log ends', async (t) => {
  const { cluster, warnings, write } = await openControlPlane(t);
  const services = Array.from({ length: 200 }, (_, n) => [`services/default/s${n}`, { n }] as const);
  await write(Object.fromEntries(services));
  await write({ 'networkpolicies/default/db': {} });
  t.equal(cluster.refused.count, 201);
  const told = cluster.refused.report();
  t.equal(told.length, 64);
  t.match(told[0], { kind: 'NetworkPolicy', name: 'db' });
  t.equal(warnings.length, 65, 'the last one says that there are more');
  await write(Object.fromEntries(services.map(([key]) => [key, undefined])));
  t.equal(cluster.refused.count, 1);
  await write({ 'services/default/new': {} });
  t.equal(warnings.length, 66, 'there are few again');
});

t.test('a network or a namespace is not deleted while something is in it whose record is not accepted', async (t) => {
  const { cluster, write } = await openControlPlane(t);
  await cluster.apply([blue, there, manifest('Namespace', 'shop', {})]);
  const newer = recordOf('api', '10.0.0.10', mac);
  const record = { ...newer, resource: { ...newer.resource, spec: { ...newer.resource.spec, colour: 'red' } } };
  await write({ 'endpoints/default/api': record });
  await t.rejects(cluster.delete(networkKind, { name: 'blue' }), {
    code: 'conflict',
    message:
      'network "blue" has endpoints (api) whose records this host does not accept, and others may: delete them first, on a host that does',
  });
  await write({ 'networkpolicies/shop/closed': { resource: 'unknown' } });
  await t.rejects(cluster.delete(namespaceKind, { name: 'shop' }), {
    message: /^namespace "shop" has networkpolicies \(shop\/closed\) whose records this host does not accept/,
  });
  await cluster.delete(endpointKind, { name: 'api' });
  t.match(await cluster.delete(networkKind, { name: 'blue' }), { action: 'deleted' });
});
