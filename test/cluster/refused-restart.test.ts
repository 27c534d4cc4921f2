/** A host that starts anew keeps in force what it had accepted before, where the store has what it does not accept. */
import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseIp } from '../../src/flow/types.ts';
import type { Store } from '../../src/store/store.ts';
import { Switchable } from '../support/switchable.ts';
import { attach, blocksIn, blue, endpoint, openHost, type Plane, settled } from './block-hosts.ts';
import { manifest, openStore, type ControlPlaneOptions } from './control-plane.ts';

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

const again = (t: Test, shared: Store, before: Plane, options?: ControlPlaneOptions): Promise<Plane> =>
  openHost(t, shared, 'b', before.directory, options);

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

/** As if the host had been killed when what it had written last was not judged yet. */
function cutBeforeJudged(t: Test, { directory }: Plane): void {
  const file = join(directory, 'copy');
  const text = readFileSync(file, 'latin1');
  const at = text.lastIndexOf('"judged":false');
  t.ok(at > 0, 'something was written before it was judged');
  truncateSync(file, text.indexOf('\n', at) + 1);
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

t.test('damaged before a start that is refused, and before one that is killed while it reads', async (t) => {
  const { shared, b } = await twoHosts(t);
  const { refused: _, ...before } = inForce(b);
  await b.close();
  for (const bad of [garbage, { [BLUE]: 'other garbage' }]) {
    await shared.transact({ put: Object.entries(bad).map(([key, value]) => ({ key, value })) });
    const register = (): Promise<void> => Promise.reject(new Error('this name belongs to another host'));
    await t.rejects(again(t, shared, b, { register }), { message: /belongs to another host/ });
  }
  const refused = ['Endpoint a1', 'Endpoint b1', 'Network blue'];
  let host = await again(t, shared, b);
  t.strictSame(inForce(host), { ...before, refused });
  await host.close();
  host = await again(t, away(shared), host);
  t.strictSame(inForce(host), { ...before, refused });
});

t.test('of records that clash, the same ones are in force again, in whatever order they came', async (t) => {
  const { shared, a, b } = await twoHosts(t);
  const of = (name: string, subnet: string, vni: number) => ({
    resource: manifest('Network', name, { subnets: [subnet] }),
    vni,
    mtu: 1450,
  });
  const is = (host: Plane): void => {
    t.match(host.networks.find('green'), { vni: 78 });
    t.match(host.networks.find('red'), { vni: 77 });
    t.notOk(host.networks.find('early'));
    t.strictSame(inForce(host).refused, ['Network early', 'Network green']);
  };
  await a.cluster.apply([manifest('Network', 'red', { subnets: ['10.1.0.0/24'], vni: 77 })]);
  await settled(a, b);
  // Of this one, nothing was ever in force, and the other one is written again after it.
  await b.write({ 'networks/early': of('early', '10.3.0.0/24', 77), 'networks/green': of('green', '10.2.0.0/24', 78) });
  await b.write({ 'networks/red': undefined });
  await b.write({ 'networks/red': of('red', '10.1.0.0/24', 77), 'networks/early': of('early', '10.3.0.0/24', 77) });
  await b.write({ 'networks/early': undefined });
  await b.write({ 'networks/green': of('green', '10.2.0.0/24', 77), 'networks/early': of('early', '10.3.0.0/24', 77) });
  is(b);
  let host = b;
  for (const store of [shared, away(shared), shared]) {
    await host.close();
    host = await again(t, store, host);
    is(host);
  }
});

t.test('what was written while the store was away stays in force if somebody else has damaged it there', async (t) => {
  const { shared, b } = await twoHosts(t);
  await b.close();
  const link = new Switchable(shared);
  let host = await again(t, link, b);
  link.away();
  await host.cluster.apply([endpoint('b2', {})]);
  const labelled = { ...endpoint('b1', {}), metadata: { name: 'b1', labels: { app: 'db' } } };
  await host.cluster.apply([labelled]);
  await shared.transact({ put: [WEB, 'endpoints/default/b2'].map((key) => ({ key, value: 'garbage' })) });
  link.back();
  await settled(host);
  const is = (): void => {
    t.strictSame(inForce(host).refused, ['Endpoint b1', 'Endpoint b2']);
    t.match(host.endpoints.find('b1')?.resource.metadata, { labels: { app: 'db' } });
    t.ok(host.endpoints.find('b2'));
  };
  is();
  for (const store of [away(shared), shared]) {
    await host.close();
    host = await again(t, store, host);
    is();
  }
});

t.test('killed before what it wrote was judged: that is in force, whatever comes after it', async (t) => {
  const { shared, b } = await twoHosts(t);
  await b.close();
  const link = new Switchable(shared);
  let host = await again(t, link, b);
  link.away();
  await host.cluster.apply([endpoint('b2', {})]);
  await host.cluster.apply([{ ...endpoint('b1', {}), metadata: { name: 'b1', labels: { app: 'db' } } }]);
  link.back();
  await settled(host);
  const stored = (await shared.get('endpoints/default/b2'))!.revision;
  await host.close();
  cutBeforeJudged(t, host);
  const is = (...refused: string[]): void => {
    t.strictSame(inForce(host).refused, refused);
    t.match(host.endpoints.find('b1')?.resource.metadata, { labels: { app: 'db' } });
    t.equal(host.endpoints.find('b2')?.revision, stored);
  };
  host = await again(t, away(shared), host);
  is();
  await host.close();
  for (const bad of ['garbage', 'other garbage']) {
    await shared.transact({ put: [WEB, 'endpoints/default/b2'].map((key) => ({ key, value: bad })) });
    for (const store of [shared, shared, away(shared)]) {
      host = await again(t, store, host);
      is('Endpoint b1', 'Endpoint b2');
      await host.close();
    }
  }
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
