/**
 * PolicyTests are held against each change before it is stored: what breaks one is refused, and changes nothing. And what a proposed
 * state says is what comes into force when the change is applied.
 */
import t from 'tap';
import { parseIp } from '../../src/flow/types.ts';
import { findKind } from '../../src/model/kinds/registry.ts';
import { parseResource } from '../../src/model/manifest.ts';
import type { Resource } from '../../src/model/resource.ts';
import { manifest, openControlPlane } from './control-plane.ts';

const VNI = 100;
const blue = manifest('Network', 'blue', { subnets: ['10.0.0.0/24', 'fd00::/64'], vni: VNI });
const there = manifest('Host', 'there', { underlay: '192.0.2.2' });
const namespace = (name: string, labels: object = {}) => manifest('Namespace', name, {}, { labels });
const policy = (name: string, spec: object, metadata: object = {}) =>
  manifest('NetworkPolicy', name, { podSelector: {}, ...spec }, metadata);
const test = (name: string, spec: object, metadata: object = {}) =>
  manifest('PolicyTest', name, { port: 80, expect: 'allow', ...spec }, metadata);
/** One of this host; it waits, since this is no network namespace. */
let made = 0;
const here = (name: string, addresses: readonly string[], metadata: object = {}, spec: object = {}) =>
  manifest(
    'Endpoint',
    name,
    { network: 'blue', netns: '/proc/self/ns/uts', interface: `eth${made++}`, addresses, ...spec },
    metadata,
  );
const remote = (name: string, address: string, metadata: object = {}) =>
  manifest(
    'Endpoint',
    name,
    { network: 'blue', host: 'there', addresses: [address], mac: `02:00:00:00:00:${address.slice(-2)}` },
    metadata,
  );
const endpoint = (name: string) => ({ endpoint: name });
const labelled = (app: string, more: object = {}) => ({ selector: { matchLabels: { app } }, ...more });
const fromLabelled = (app: string, port = 80) => ({
  podSelector: { matchLabels: { app: 'db' } },
  ingress: [{ from: [{ podSelector: { matchLabels: { app } } }], ports: [{ port }] }],
});

async function open(t: Parameters<typeof openControlPlane>[0]) {
  const plane = await openControlPlane(t);
  const { cluster, store } = plane;
  await cluster.apply([
    ...[blue, there, namespace('shop', { tier: 'front' }), namespace('ops')],
    here('web', ['10.0.0.10', 'fd00::10'], { labels: { app: 'web' } }),
    here('db', ['10.0.0.11', 'fd00::11'], { labels: { app: 'db' } }),
    remote('far', '10.0.0.12', { labels: { app: 'far' } }),
  ]);
  const everything = async (): Promise<unknown> => (await store.list('')).entries;
  /** Refused with such a message, and the store is unchanged. */
  const refused = async (change: () => Promise<unknown>, message: RegExp | string): Promise<void> => {
    const before = await everything();
    await t.rejects(change(), { code: 'conflict', message });
    t.same(await everything(), before, 'the store is unchanged');
  };
  const tested = (resources: readonly Resource[] = []) =>
    cluster.propose(resources, (change) => plane.policies.tests.run(change));
  const results = async (resources: readonly Resource[] = []): Promise<string[]> =>
    (await tested(resources)).map(({ name, result }) => `${name} ${result}`);
  return { ...plane, refused, tested, results };
}

t.test('a change that breaks a test is refused by name, with the packet and what decides', async (t) => {
  const { cluster, refused, results } = await open(t);
  await cluster.apply([
    policy('db', fromLabelled('web')),
    test('web-reaches-db', { from: endpoint('web'), to: endpoint('db') }),
    test('far-does-not', { from: endpoint('far'), to: endpoint('db'), expect: 'deny' }),
  ]);
  t.same(await results(), ['far-does-not passed', 'web-reaches-db passed']);
  const breaks =
    'policytest "web-reaches-db" expects allow, but tcp from web (10.0.0.10) to db (10.0.0.11) port 80 would be denied: ingress: isolated for ingress by networkpolicy db, of which no rule accepts it; they have no rule for such a peer or protocol; nothing is changed';
  await refused(() => cluster.apply([policy('db', { podSelector: { matchLabels: { app: 'db' } } })]), breaks);
  await refused(() => cluster.apply([policy('db', fromLabelled('web', 81))]), /the nearest, .* is for tcp 81; nothing/);
  await refused(
    () => cluster.apply([policy('db', { podSelector: { matchLabels: { app: 'db' } } })], { dryRun: true }),
    breaks,
  );
  await refused(
    () => cluster.apply([policy('more', fromLabelled('far'))]),
    /"far-does-not" expects deny, but tcp from far \(10.0.0.12\) to db \(10.0.0.11\) port 80 would be allowed: ingress: networkpolicy more, spec.ingress\[0\], accepts it/,
  );
  await refused(
    () => cluster.delete(findKind('netpol')!, { name: 'db' }),
    /"far-does-not" .* no policy selects either end/,
  );
  await refused(() => cluster.label(findKind('ep')!, { name: 'far' }, { app: 'web' }), /"far-does-not"/);
  await refused(() => cluster.label(findKind('ep')!, { name: 'web' }, { app: null }), /"web-reaches-db"/);
  await refused(
    () => cluster.apply([test('wrong', { from: endpoint('far'), to: endpoint('db') })]),
    /^policytest "wrong" expects allow/,
  );
  t.same(await results(), ['far-does-not passed', 'web-reaches-db passed']);
  await cluster.apply([policy('other', { podSelector: { matchLabels: { app: 'web' } } })]);
  await cluster.delete(findKind('ep')!, { name: 'far' });
  t.same(await results(), ['far-does-not undecided', 'web-reaches-db passed'], 'an endpoint may always go');
  await refused(
    () => cluster.apply([remote('far', '10.0.0.12', { labels: { app: 'web' } })]),
    /"far-does-not" expects deny/,
  );
  await cluster.delete(findKind('pt')!, { name: 'far-does-not' });
  await cluster.apply([remote('far', '10.0.0.12', { labels: { app: 'web' } })]);
});

t.test('what a file has in it counts as a whole, also what it declares anew', async (t) => {
  const { cluster, refused, results, tested } = await open(t);
  await cluster.apply([test('web-db', { from: labelled('web'), to: labelled('db') })]);
  const closed = policy('db', { podSelector: { matchLabels: { app: 'db' } } });
  await refused(() => cluster.apply([closed]), /"web-db"/);
  await cluster.apply([closed, policy('web', fromLabelled('web'))]);
  await cluster.apply([closed, test('web-db', { from: labelled('web'), to: labelled('db', {}), port: 80 })]);

  const shop = [
    namespace('new', { tier: 'new' }),
    manifest('Network', 'red', { subnets: ['10.1.0.0/24'], vni: 101 }),
    here('cart', ['10.1.0.10'], { namespace: 'new', labels: { app: 'cart' } }, { network: 'red' }),
    policy(
      'cart',
      { ingress: [{ from: [{ namespaceSelector: { matchLabels: { tier: 'new' } } }] }] },
      { namespace: 'new' },
    ),
    test(
      'in',
      { from: labelled('web', { namespace: 'default' }), to: endpoint('cart'), expect: 'deny' },
      { namespace: 'new' },
    ),
    test('own', { from: endpoint('near'), to: endpoint('cart') }, { namespace: 'new' }),
    here('near', ['10.1.0.11'], { namespace: 'new' }, { network: 'red' }),
  ];
  t.same(await results(shop), ['in passed', 'own passed', 'web-db passed']);
  t.same(await results(), ['web-db passed'], 'nothing of it is declared');
  t.equal(
    cluster.get(findKind('ns')!).some(({ metadata }) => metadata.name === 'new'),
    false,
  );
  await cluster.apply(shop);
  t.same(await results(), ['in passed', 'own passed', 'web-db passed']);
  await refused(() => cluster.label(findKind('ns')!, { name: 'new' }, { tier: 'old' }), /"new\/own" expects allow/);
  const [, own] = await tested([namespace('new', { tier: 'old' })]);
  t.match(own, { result: 'failed', packets: 1, wrong: 1, failures: [{ verdict: 'deny', port: 80, protocol: 'tcp' }] });
});

t.test('addresses, both families, pairs and named ports', async (t) => {
  const { cluster, tested, results } = await open(t);
  await cluster.apply([
    here('api', ['10.0.0.20'], { labels: { app: 'api' } }, { ports: [{ name: 'http', port: 8080 }] }),
    policy('api', {
      podSelector: { matchLabels: { app: 'api' } },
      ingress: [{ ports: [{ port: 'http' }] }, { from: [{ ipBlock: { cidr: '192.0.2.0/24' } }] }],
    }),
    policy('web', {
      podSelector: { matchLabels: { app: 'web' } },
      policyTypes: ['Egress'],
      egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/24' } }], ports: [{ port: 'http' }, { port: 5432 }] }],
    }),
  ]);
  const tests = [
    test('a', { from: endpoint('db'), to: endpoint('api'), port: 8080 }),
    test('b', { from: endpoint('db'), to: endpoint('api'), port: 81, expect: 'deny' }),
    test('c', { from: { address: '192.0.2.7' }, to: endpoint('api'), port: 81 }),
    test('d', { from: { address: '198.51.100.7' }, to: endpoint('api'), port: 81, expect: 'deny' }),
    test('e', { from: endpoint('db'), to: { address: '10.0.0.20' }, port: 81, expect: 'deny' }),
    test('f', { from: endpoint('web'), to: { address: '192.0.2.7' }, expect: 'deny' }),
    test('g', { from: endpoint('web'), to: endpoint('db'), port: 5432, expect: 'deny' }),
    test('h', { from: labelled('none'), to: endpoint('db') }),
    test('i', { from: endpoint('db'), to: { selector: {} }, port: 8080 }),
    test('j', { from: endpoint('db'), to: endpoint('api'), port: 8080, protocol: 'UDP', expect: 'deny' }),
  ];
  const [, , , , , , g, h, i] = await tested(tests);
  t.same(await results(tests), [
    ...['a passed', 'b passed', 'c passed', 'd passed', 'e passed', 'f passed', 'g failed', 'h undecided'],
    ...['i passed', 'j passed'],
  ]);
  t.match(g, {
    packets: 2,
    wrong: 1,
    failures: [{ from: { address: '10.0.0.10', endpoint: 'web' }, verdict: 'allow' }],
  });
  t.equal(h!.why, 'no endpoint of namespace "default" has such labels');
  t.equal(i!.packets, 5, 'to each of the others, in each family that both have, and not to itself');
});

t.test('a test that has failed before is in nobody’s way, and never keeps a container from leaving', async (t) => {
  const { cluster, store, refused, results } = await open(t);
  await cluster.apply([test('open', { from: endpoint('web'), to: endpoint('db') })]);
  const closed = policy('db', { podSelector: { matchLabels: { app: 'db' } } });
  // As another program would do.
  await store.transact({ put: [{ key: 'networkpolicies/default/db', value: { resource: closed } }] });
  await cluster.change(async () => {});
  t.same(await results(), ['open failed']);
  await cluster.apply([policy('other', { podSelector: { matchLabels: { app: 'far' } } })]);
  await cluster.label(findKind('ep')!, { name: 'far' }, { tier: 'back' });
  await cluster.apply([policy('db', fromLabelled('web'))]);
  t.same(await results(), ['open passed']);
  await refused(() => cluster.apply([closed]), /"open"/);
});

t.test('what is proposed is what is in force once it is applied', async (t) => {
  const { cluster, forwarding, policies } = await open(t);
  const change = [
    policy('db', fromLabelled('web')),
    policy('web', {
      podSelector: { matchLabels: { app: 'web' } },
      policyTypes: ['Egress'],
      egress: [{ to: [{ podSelector: {} }] }],
    }),
    namespace('shop', { tier: 'back' }),
    here('late', ['10.0.0.30'], { labels: { app: 'db' } }),
  ];
  const names = ['web', 'db', 'late'];
  const addresses = ['10.0.0.10', '10.0.0.11', '10.0.0.12', '10.0.0.30', '192.0.2.1', 'fd00::10'];
  const said = (of: Pick<typeof forwarding.tables.policies, 'peerAt'> & { setOf: Function }): unknown =>
    names.flatMap((name) =>
      (['ingress', 'egress'] as const).flatMap((direction) =>
        addresses.flatMap((address) =>
          [80, 81].map((l4Port) => {
            const peer = of.peerAt(parseIp(address), VNI as never);
            return [peer.endpoint, of.setOf(name, direction)?.judge(peer, 6, l4Port)];
          }),
        ),
      ),
    );
  const before = said(forwarding.tables.policies);
  const proposed = await cluster.propose(change, async (all) => said(policies.enforcement.propose(all)));
  t.same(said(forwarding.tables.policies), before);
  t.notSame(proposed, before);
  await cluster.apply(change);
  t.same(said(forwarding.tables.policies), proposed);
});

t.test('manifests', async (t) => {
  const read = (spec: object) => () =>
    parseResource({ apiVersion: 'weft.dev/v1', kind: 'PolicyTest', metadata: { name: 'a' }, spec });
  const given = { from: endpoint('web'), to: endpoint('db'), port: 5432, expect: 'allow' };
  t.match(read(given)(), { metadata: { namespace: 'default' }, spec: { protocol: 'TCP' } });
  t.throws(read({ ...given, from: {} }), /spec.from: give exactly one of endpoint, selector, address/);
  t.throws(read({ ...given, to: { endpoint: 'a', address: '10.0.0.1' } }), /spec.to: give exactly one of/);
  t.throws(read({ ...given, to: { address: '10.0.0.1', namespace: 'a' } }), /an address is in no namespace/);
  t.throws(read({ ...given, port: 0 }), /spec.port: .*1 to 65535/);
  t.throws(read({ ...given, port: undefined }), /^spec.port is missing: a port is expected$/);
  t.throws(read({ ...given, expect: 'maybe' }), /spec.expect: .*"allow"/);
  t.throws(read({ ...given, from: { address: 'fd00::1' }, to: { address: '10.0.0.1' } }), /different address families/);
});
