/** DestinationRules: what they make of a service, which of several holds, and what is said about them. */
import t, { type Test } from 'tap';
import { findKind } from '../../src/model/kinds/registry.ts';
import { parseResource } from '../../src/model/manifest.ts';
import { formatIp } from '../../src/flow/types.ts';
import { spreadOf } from '../../src/table/service.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

const kind = (text: string) => findKind(text)!;
const rule = (name: string, spec: object, namespace = 'default') =>
  parseResource({
    apiVersion: 'networking.istio.io/v1',
    kind: 'DestinationRule',
    metadata: { name, namespace },
    spec,
  });
const record = (name: string, spec: object) => ({
  [`destinationrules/default/${name}`]: { resource: rule(name, spec) },
});
/** An endpoint of another host. */
const app = (n: number, version: string) => ({
  [`endpoints/default/app-${n}`]: {
    resource: manifest(
      'Endpoint',
      `app-${n}`,
      { network: 'blue', netns: '/run/app' },
      { labels: { app: 'web', version } },
    ),
    addresses: [`10.0.0.${n}`],
    mac: `02:00:00:00:00:0${n}`,
    host: 'right',
  },
});
const web = (annotations = {}) =>
  manifest('Service', 'web', { selector: { app: 'web' }, ports: [{ port: 80 }] }, { annotations });

async function lab(t: Test, records: Readonly<Record<string, unknown>> = {}) {
  const store = await openStore(t);
  const all = {
    'networks/blue': { resource: manifest('Network', 'blue', { subnets: ['10.0.0.0/24'] }), vni: 100, mtu: 1450 },
    'hosts/right': {
      resource: manifest('Host', 'right', { underlay: '192.0.2.2' }),
      ...{ host: 'right', id: 'b'.repeat(32), mac: '000002', since: '2026-01-01T00:00:00Z' },
    },
    ...records,
  };
  await store.transact({ put: Object.entries(all).map(([key, value]) => ({ key, value })) });
  const plane = await openControlPlane(t, undefined, { host: 'left', shared: store });
  return { ...plane, ...plane.serving, find: (id = 'default/web') => plane.forwarding.tables.services.get(id)! };
}

t.test('a rule is in force, changes, and ends with its service as it was', async (t) => {
  const { cluster, find } = await lab(t, { ...app(1, 'v1'), ...app(2, 'v2') });
  await cluster.apply([web({ 'weft.dev/balancing': 'random' })]);
  const plain = find();
  t.match(plain, { balancing: 'random', distribution: 'none', rule: undefined, outlier: undefined, subsets: [] });
  const reports = await cluster.apply([
    rule('any', {
      host: 'web',
      trafficPolicy: {
        loadBalancer: { simple: 'LEAST_REQUEST', localityLbSetting: { failoverPriority: ['kubernetes.io/hostname'] } },
        connectionPool: { tcp: { maxConnections: 7 } },
        outlierDetection: {
          consecutiveLocalOriginFailures: 3,
          interval: '1s',
          baseEjectionTime: '5s',
          minHealthPercent: 20,
        },
      },
      subsets: [
        { name: 'v1', labels: { version: 'v1' } },
        { name: 'all', labels: { app: 'web' } },
      ],
    }),
  ]);
  t.same(
    reports.map(({ action, waiting }) => [action, waiting]),
    [['created', undefined]],
  );
  t.match(find(), {
    balancing: 'least-connections',
    distribution: 'same-node',
    maxConnections: 7,
    rule: 'default/any',
  });
  t.same(find().outlier, {
    ...{ failures: 3, intervalMs: 1000, baseEjectionMs: 5000, mostEjectedPercent: 10, leastHealthyPercent: 20 },
  });
  t.same(
    find().backends.map(({ subsets }) => subsets),
    [['v1', 'all'], ['all']],
  );
  await cluster.apply([rule('any', { host: 'web', trafficPolicy: { loadBalancer: { simple: 'UNSPECIFIED' } } })]);
  t.match(find(), { balancing: 'random', maxConnections: undefined, outlier: undefined, subsets: [] });
  t.same(
    find().backends.map(({ subsets }) => subsets),
    [[], []],
  );
  await cluster.delete(kind('dr'), { name: 'any' });
  t.same(find(), plain);
});

t.test('an endpoint that gets another label is in another subset; its backend stays what it is', async (t) => {
  const { cluster, find, write } = await lab(t, { ...app(1, 'v1'), ...app(2, 'v1') });
  const subsets = ['v1', 'v2'].map((version) => ({ name: version, labels: { version } }));
  await cluster.apply([web(), rule('any', { host: 'web', subsets })]);
  const [, second] = find().backends;
  await write(app(1, 'v2'));
  t.same(
    find().backends.map((one) => [formatIp(one.address), ...one.subsets]),
    [
      ['10.0.0.1', 'v2'],
      ['10.0.0.2', 'v1'],
    ],
  );
  t.equal(find().backends[1], second, 'others are not looked at');
});

t.test(
  'what is said for a port takes the place of what is said for all; a subset inherits, setting by setting',
  async (t) => {
    const { cluster, find } = await lab(t);
    const locality = (enabled: boolean) => ({ localityLbSetting: { enabled } });
    await cluster.apply([
      manifest('Service', 'web', {
        ports: [80, 81, 82].map((port) => ({ name: `p${port}`, port })),
        trafficDistribution: 'PreferSameNode',
      }),
      rule('any', {
        host: 'web',
        trafficPolicy: {
          loadBalancer: { simple: 'ROUND_ROBIN', ...locality(false) },
          connectionPool: { tcp: { maxConnections: 1 } },
          portLevelSettings: [
            { port: { number: 81 }, connectionPool: { tcp: { maxConnections: 2 } } },
            { port: { number: 82 }, loadBalancer: { consistentHash: { useSourceIp: true } } },
          ],
        },
        subsets: [
          { name: 'plain', labels: { a: 'b' } },
          {
            ...{ name: 'own', labels: { a: 'c' } },
            trafficPolicy: {
              loadBalancer: { simple: 'RANDOM', ...locality(true) },
              portLevelSettings: [{ port: { number: 82 }, connectionPool: { tcp: { maxConnections: 3 } } }],
            },
          },
        ],
      }),
    ]);
    const of = (port: number, subset?: string): string => {
      const { balancing, distribution, maxConnections } = spreadOf(find(), { l4Port: port }, subset);
      return `${balancing} ${distribution} ${maxConnections}`;
    };
    t.same(
      [80, 81, 82].map((port) => of(port)),
      ['round-robin none 1', 'maglev same-node 2', 'source-hash same-node undefined'],
    );
    t.same(
      [80, 81, 82].map((port) => of(port, 'plain')),
      [80, 81, 82].map((port) => of(port)),
    );
    t.same(
      [80, 81, 82].map((port) => of(port, 'own')),
      ['random same-zone 1', 'random same-zone 2', 'source-hash same-node 3'],
    );
  },
);

t.test('a rule may come before its service, and says so; the host is a short name or a full one', async (t) => {
  const { cluster, find, destinationRules } = await lab(t);
  const balancing = { loadBalancer: { simple: 'RANDOM' } };
  const [early] = await cluster.apply([rule('any', { host: 'web', trafficPolicy: balancing })]);
  t.match(early, { action: 'created', waiting: 'service "web" does not exist yet' });
  await cluster.apply([web()]);
  t.equal(find().balancing, 'random');
  t.equal(destinationRules.failure('any'), undefined);
  await cluster.delete(kind('svc'), { name: 'web' });
  t.equal(find(), undefined, 'a rule does not hold it');
  await cluster.apply([web()]);
  t.equal(find().balancing, 'random');

  await cluster.apply([manifest('Namespace', 'shop', {})]);
  const foreign = (host: string) => rule('other', { host, trafficPolicy: balancing }, 'shop');
  t.match((await cluster.apply([foreign('web')]))[0]?.waiting, 'service "shop/web" does not exist yet');
  await t.rejects(cluster.apply([foreign('web.default.svc.cluster.local')]), {
    code: 'conflict',
    message:
      'destinationrule "shop/other": service "web" has destinationrule "any" already: change that one, or delete it first',
  });
  await cluster.delete(kind('dr'), { name: 'any' });
  await cluster.apply([foreign('web.default.svc.cluster.local')]);
  t.equal(find().rule, 'shop/other');
});

t.test('a second rule for a service is refused, also in one file; a rule may make room for another', async (t) => {
  const { cluster, find } = await lab(t);
  const spec = (host: string) => ({ host, trafficPolicy: { loadBalancer: { simple: 'RANDOM' } } });
  const message =
    'destinationrule "b": service "web" has destinationrule "a" already: change that one, or delete it first';
  await t.rejects(cluster.apply([web(), rule('a', spec('web')), rule('b', spec('web'))]), { message });
  t.equal(find(), undefined, 'nothing of the file');
  await cluster.apply([web(), rule('a', spec('web'))]);
  await t.rejects(cluster.apply([rule('b', spec('web'))]), { code: 'conflict', message });
  await cluster.apply([rule('a', spec('other')), rule('b', spec('web'))]);
  t.equal(find().rule, 'default/b');
});

t.test(
  'two hosts that apply one each at the same time: all hosts have the same one, and the other says so',
  async (t) => {
    const spec = (simple: string) => ({ host: 'web', trafficPolicy: { loadBalancer: { simple } } });
    for (const order of [
      ['a', 'b'],
      ['b', 'a'],
    ]) {
      const { cluster, find, write, destinationRules } = await lab(t);
      await cluster.apply([web()]);
      for (const name of order) await write(record(name, spec(name === 'a' ? 'RANDOM' : 'ROUND_ROBIN')));
      t.match(find(), { rule: 'default/a', balancing: 'random' }, order.join());
      t.equal(destinationRules.failure('b')?.message, 'destinationrule "a" holds for service "web" already');
      await cluster.delete(kind('dr'), { name: 'a' });
      t.match(find(), { rule: 'default/b', balancing: 'round-robin' });
      t.equal(destinationRules.failure('b'), undefined);
    }
  },
);
