/** A host that starts anew keeps in force what it had accepted before, where the store has what it does not accept. */
import t, { type Test } from 'tap';
import { parseIp } from '../../src/flow/types.ts';
import type { Store } from '../../src/store/store.ts';
import { Switchable } from '../support/switchable.ts';
import { attach, blocksIn, blue, openHost, type Plane, settled } from './block-hosts.ts';
import { manifest, openStore } from './control-plane.ts';

t.setTimeout(120_000);

const WEB = 'endpoints/default/b1';
const BLUE = 'networks/blue';
const GUARD = 'networkpolicies/default/guard';
const OPEN = 'networkpolicies/default/open';

const policy = (name: string, ingress: readonly object[]) =>
  manifest('NetworkPolicy', name, { podSelector: {}, policyTypes: ['Ingress'], ingress });

/** What the first host declared, and the second one has in force, with an endpoint of its own. */
async function twoHosts(t: Test) {
  const shared = await openStore(t);
  const [a, b] = [await openHost(t, shared, 'a'), await openHost(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/24')]);
  await attach(a, 'a1');
  await settled(a, b);
  await attach(b, 'b1');
  await a.cluster.apply([policy('open', [{ ports: [{ port: 80 }] }]), policy('guard', [{ ports: [{ port: 81 }] }])]);
  await settled(a, b);
  return { shared, a, b };
}

const again = (t: Test, shared: Store, before: Plane): Promise<Plane> => openHost(t, shared, 'b', before.directory);

function away(shared: Store): Store {
  const link = new Switchable(shared);
  link.away();
  return link;
}

/** What is in force of it all. */
function inForce({ networks, endpoints, cluster, forwarding }: Plane) {
  const { policies } = forwarding.tables;
  const blueNetwork = networks.find('blue');
  const ports = [80, 81, 82].filter((port) => {
    const set = policies.setOf('b1', 'ingress');
    const peer = policies.peerAt(parseIp('10.0.0.2'), blueNetwork!.vni as never);
    return set?.judge(peer, 6, port).verdict === 'allow';
  });
  return {
    network: blueNetwork && { vni: blueNetwork.vni, mtu: blueNetwork.mtu },
    endpoints: ['a1', 'b1'].map((name) => {
      const { addresses, mac, host, revision } = endpoints.find(name) ?? {};
      return { addresses, mac, host, revision };
    }),
    ports,
    refused: cluster.refused
      .report()
      .map(({ kind, name }) => `${kind} ${name}`)
      .sort(),
  };
}

const garbage = { [BLUE]: 'garbage', [WEB]: { host: 'b', resource: 'garbage' }, 'endpoints/default/a1': 7 };

t.test('with the store and without it', async (t) => {
  const { shared, b } = await twoHosts(t);
  t.strictSame(inForce(b).ports, [80, 81]);
  const { refused: _, ...before } = inForce(b);
  const blocks = await blocksIn(shared);
  await b.write(garbage);
  const during = inForce(b);
  t.strictSame(during, { ...before, refused: ['Endpoint a1', 'Endpoint b1', 'Network blue'] });
  let host = b;
  for (const store of [shared, away(shared), shared, away(shared), shared]) {
    await host.close();
    host = await again(t, store, host);
    t.strictSame(inForce(host), during);
  }
  await settled(host);
  t.strictSame(await blocksIn(shared), blocks);

  // Damaged once more, and otherwise.
  await host.write({ [BLUE]: 'other garbage', [WEB]: 'garbage' });
  await host.close();
  host = await again(t, away(shared), host);
  t.strictSame(inForce(host), during);
});

t.test('damaged while the host does not run, and again', async (t) => {
  const { shared, b } = await twoHosts(t);
  const { refused: _, ...before } = inForce(b);
  await b.close();
  await shared.transact({ put: Object.entries(garbage).map(([key, value]) => ({ key, value })) });
  let host = await again(t, shared, b);
  const refused = ['Endpoint a1', 'Endpoint b1', 'Network blue'];
  t.strictSame(inForce(host), { ...before, refused });
  await host.close();
  await shared.transact({ put: [{ key: BLUE, value: { resource: {} } }] });
  host = await again(t, shared, host);
  t.strictSame(inForce(host), { ...before, refused });
  await host.close();
  host = await again(t, away(shared), host);
  t.strictSame(inForce(host), { ...before, refused });
});

t.test('what is accepted again, or deleted, counts', async (t) => {
  const { shared, b } = await twoHosts(t);
  const network = (await shared.get(BLUE))!.value as { mtu: number };
  await b.write(garbage);
  await b.close();
  await shared.transact({ put: [{ key: BLUE, value: { ...network, mtu: 1400 } }], delete: ['endpoints/default/a1'] });
  let host = await again(t, shared, b);
  t.match(inForce(host), { network: { mtu: 1400 }, refused: ['Endpoint b1'] });
  t.notOk(host.endpoints.find('a1'));
  await host.write({ [BLUE]: 'garbage' });
  await host.close();
  host = await again(t, away(shared), host);
  t.match(inForce(host), { network: { mtu: 1400 }, refused: ['Endpoint b1', 'Network blue'] });
  await host.close();
  await shared.transact({ delete: [BLUE] });
  host = await again(t, shared, host);
  t.notOk(host.networks.find('blue'));
  await host.close();
  await shared.transact({ put: [{ key: BLUE, value: 'garbage' }] });
  host = await again(t, shared, host);
  t.notOk(host.networks.find('blue'), 'what was deleted does not come back');
});

t.test('what clashed and was accepted later is what stays', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  await a.cluster.apply([manifest('Network', 'red', { subnets: ['10.1.0.0/24'], vni: 77 })]);
  await settled(a, b);
  const red = (await shared.get('networks/red'))!.value as { resource: { spec: object }; mtu: number };
  const green = { ...red, resource: manifest('Network', 'green', { subnets: ['10.2.0.0/24'], vni: 78 }), vni: 78 };
  await b.write({ 'networks/green': green });
  const { vni: _, ...spec } = green.resource.spec as { vni?: number };
  // With the VNI of the other one.
  await b.write({ 'networks/green': { ...green, vni: 77, mtu: 1300, resource: { ...green.resource, spec } } });
  t.match(b.networks.find('green'), { vni: 78 });
  await b.write({ 'networks/red': undefined });
  t.match(b.networks.find('green'), { vni: 77, mtu: 1300 });
  await b.write({ 'networks/green': 'garbage' });
  await b.close();
  const host = await again(t, away(shared), b);
  t.match(host.networks.find('green'), { vni: 77, mtu: 1300 });
});

t.test('a policy that is not accepted is as closed as before, and opens nothing', async (t) => {
  const { shared, b } = await twoHosts(t);
  await b.write({ [OPEN]: 'garbage', [BLUE]: 'garbage' });
  const during = inForce(b);
  t.strictSame(during.ports, [81]);
  await b.close();
  let host = await again(t, away(shared), b);
  t.strictSame(inForce(host), during);
  await host.close();
  host = await again(t, shared, host);
  t.strictSame(inForce(host), during);
  await host.write({ [GUARD]: { resource: {} } });
  const both = inForce(host);
  t.strictSame(both.ports, []);
  await host.close();
  host = await again(t, shared, host);
  t.strictSame(inForce(host), both);
});
