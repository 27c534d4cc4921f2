/** What concerns one endpoint costs nothing for each of the others, of which there may be very many. */
import t from 'tap';
import { EndpointIndex } from '../../src/cluster/endpoint-index.ts';
import { Hosts } from '../../src/cluster/membership/hosts.ts';
import { endpointKind } from '../../src/model/kinds/endpoint.ts';
import { hostKind } from '../../src/model/kinds/host.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

const host = (name: string, n: number) => ({
  resource: manifest('Host', name, { underlay: `192.0.2.${n}` }),
  ...{ host: name, id: String(n).padStart(32, '0'), mac: String(n).padStart(6, '0'), since: '2026-01-01T00:00:00Z' },
});
const endpoint = (name: string, n: number) => ({
  resource: manifest('Endpoint', name, { network: 'blue', netns: `/run/${name}` }),
  ...{ addresses: [`10.0.0.${n}`], mac: `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`, host: 'there' },
});

t.test('nobody looks at all endpoints, or at all hosts', async (t) => {
  const store = await openStore(t);
  await store.transact({
    put: [
      {
        key: 'networks/blue',
        value: { resource: manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] }), vni: 7, mtu: 1450 },
      },
      { key: 'hosts/here', value: host('here', 1) },
      { key: 'hosts/there', value: host('there', 2) },
      { key: 'endpoints/default/a', value: endpoint('a', 130) },
      { key: 'endpoints/default/b', value: endpoint('b', 131) },
    ],
  });
  const plane = await openControlPlane(t, undefined, { host: 'here', shared: store });
  plane.blocks!.start();
  const looks: string[] = [];
  for (const [prototype, names] of [
    [EndpointIndex.prototype, ['all', 'values', 'in']],
    [Hosts.prototype, ['all', 'registered']],
  ] as const) {
    for (const name of names) {
      const original = Reflect.get(prototype, name) as (...all: unknown[]) => unknown;
      t.intercept(prototype, name as keyof typeof prototype, {
        value(this: unknown, ...all: unknown[]): unknown {
          looks.push(name);
          return Reflect.apply(original, this, all);
        },
      });
    }
  }
  const { cluster, endpoints, hosts } = plane;
  const quietly = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    looks.length = 0;
    await work();
    t.same(looks, [], what);
  };
  await quietly('a new one of another host', () => plane.write({ 'endpoints/default/c': endpoint('c', 132) }));
  t.equal(endpoints.find('c')?.state, 'remote');
  await quietly('it has changed', () => plane.write({ 'endpoints/default/c': { ...endpoint('c', 133) } }));
  await quietly('it has gone', () => plane.write({ 'endpoints/default/c': undefined }));
  const own = manifest('Endpoint', 'own', { network: 'blue', netns: '/proc/self/ns/uts' });
  await quietly('a new one of this host', () => cluster.apply([own]));
  await quietly('every second', () => cluster.serial.run(() => endpoints.renew()));
  await quietly('what is published', async () => endpoints.published());
  await quietly('whether a network is in use', async () => plane.networks.report(plane.networks.get('blue')));
  await quietly('one is deleted', () => cluster.delete(endpointKind, { name: 'own' }));
  await quietly('another host has another address', () => plane.write({ 'hosts/new': host('new', 3) }));
  t.same(hosts.vteps(), ['192.0.2.1', '192.0.2.3', '192.0.2.2'], 'in the order of their names');
  // That it would be noticed.
  looks.length = 0;
  cluster.get(endpointKind);
  cluster.get(hostKind);
  t.same(looks, ['all', 'all']);
});
