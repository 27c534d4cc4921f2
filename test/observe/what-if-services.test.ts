/**
 * What-if of services: what it says of connections and of flow classes before a change is what becomes of them when it is applied. What
 * is in force afterwards is asked by other means: who the tables would choose, and whose connections they end.
 */
import t, { type Test } from 'tap';
import { changeOfRecord, recordOf } from '../../src/cluster/proposed-record.ts';
import type { ProposedChange } from '../../src/cluster/proposed-change.ts';
import { connectionBytes, ConnectionRecords } from '../../src/flow/connection.ts';
import { formatIp, parseIp, type Vni } from '../../src/flow/types.ts';
import { findKind } from '../../src/model/kinds/registry.ts';
import { parseResource } from '../../src/model/manifest.ts';
import type { HostDiffReport } from '../../src/model/policy-report.ts';
import type { Resource } from '../../src/model/resource.ts';
import type { FlowClass } from '../../src/observe/classes/flow-class.ts';
import { WhatIf } from '../../src/observe/what-if.ts';
import { manifest, openControlPlane } from '../cluster/control-plane.ts';

const BLUE = 100 as Vni;
const [TCP, UDP] = [6, 17];
const WEB = '10.0.0.10';
const NOW = 1_800_000_000_000;

const backend = (name: string, n: number, labels: object) =>
  manifest(
    'Endpoint',
    name,
    { network: 'blue', host: 'there', addresses: [`10.0.0.2${n}`], mac: `02:00:00:00:00:2${n}` },
    { labels: { app: 'db', ...labels } },
  );
const db = (spec: object = {}) =>
  manifest('Service', 'db', { selector: { app: 'db' }, ports: [{ port: 5432 }], ...spec });
const istio = (kind: string, spec: object) =>
  parseResource({ apiVersion: 'networking.istio.io/v1', kind, metadata: { name: 'db', namespace: 'default' }, spec });
const subsets = istio('DestinationRule', {
  host: 'db',
  subsets: ['v1', 'v2'].map((name) => ({ name, labels: { version: name } })),
});
const routes = (subset: string, match: object[] = []) =>
  istio('VirtualService', { hosts: ['db'], tcp: [{ match, route: [{ destination: { host: 'db', subset } }] }] });
const sliceOf = (protocol: string, ...endpoints: readonly object[]) =>
  parseResource({
    ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4' },
    metadata: { name: 'db-a', namespace: 'default', labels: { 'kubernetes.io/service-name': 'db' } },
    ports: [{ port: 5432, protocol }],
    endpoints,
  });
const slice = sliceOf('TCP', { addresses: ['10.0.0.21'] });
const web = (labels: object = {}) =>
  manifest(
    'Endpoint',
    'web',
    { network: 'blue', netns: '/proc/self/ns/uts', interface: 'e-web', addresses: [WEB] },
    { labels: { app: 'web', ...labels } },
  );

async function lab(t: Test, protocol = TCP) {
  const plane = await openControlPlane(t);
  const { cluster, policies, forwarding, serving } = plane;
  await cluster.apply([
    manifest('Network', 'blue', { subnets: ['10.0.0.0/24'], vni: BLUE }),
    manifest('Host', 'there', { underlay: '192.0.2.2' }),
    web(),
    backend('db-1', 1, { version: 'v1' }),
    backend('db-2', 2, { version: 'v2' }),
    db(protocol === UDP ? { ports: [{ port: 5432, protocol: 'UDP' }] } : {}),
  ]);
  const { tables } = forwarding;
  const { services } = tables;
  const [{ spec }] = cluster.get(findKind('svc')!, { name: 'db' }) as [Resource & { spec: { clusterIP: string } }];
  const vip = parseIp(spec.clusterIP);
  const asked = () => services.find(vip, protocol, 5432);
  const records = new ConnectionRecords(new Uint8Array(connectionBytes(64)));
  const classes: FlowClass[] = [];
  /** A connection of web to each backend, and a flow class for each. */
  const pins = new Map<string, number>();
  for (let port = 40_000; pins.size < 2; port++) {
    const original = { source: parseIp(WEB), sourcePort: port, destination: vip, destinationPort: 5432 };
    const choice = services.choose(asked()!, BLUE, { protocol, ...original }, 'web');
    if (choice.kind !== 'backend') return t.fail('there are two') as never;
    const address = formatIp(choice.backend.address);
    if (pins.has(address)) continue;
    const slot = pins.size;
    pins.set(address, choice.pin);
    const { pin, l4Port } = choice;
    const translated = { ...original, destination: choice.backend.address, destinationPort: l4Port };
    const places = [BLUE, BLUE] as const;
    records.write(slot, 2 * (slot + 1), { kind: 'translated', places, protocol, original, translated, pin });
    records.ready = slot + 1;
    services.opened(slot, choice, BLUE, { protocol, ...original }, 0);
    const name = choice.backend.endpoint!.split('/')[1]!;
    classes.push({
      ...{ places, protocol, l4Port, meant: vip, meantPort: 5432, level: 'exact', verdict: 'allow' },
      from: { address: parseIp(WEB), endpoint: 'web', subject: 'web' },
      to: { address: choice.backend.address, endpoint: name },
      ...{ firstSeenMs: NOW, lastSeenMs: NOW, opened: 3, denied: 0 },
    });
  }
  classes.sort((a, b) => (a.to.endpoint! < b.to.endpoint! ? -1 : 1));
  const environment = {
    cluster: () => cluster,
    tests: policies.tests,
    propose: (change: ProposedChange) => policies.enforcement.propose(change),
    proposeServices: (change: ProposedChange) => serving.enforcement.propose(change),
    classes: {
      now: async () => classes,
      report: () => ({ count: classes.length, limit: 1, givenUp: 0, passedOver: 0 }),
    },
    ...{ records, tables, host: 'here', questions: undefined },
  };
  const whatIf = new WhatIf(environment);
  /** By who may be chosen now: those that went to somebody else. */
  const elsewhere = (): string[] => {
    const found = asked();
    const now = (at: number): string[] => {
      const tuple = { source: parseIp(WEB), sourcePort: at, destination: vip, destinationPort: 5432 };
      const choice = found && services.choose(found, BLUE, { protocol, ...tuple }, 'web');
      return choice?.kind === 'backend' ? [`${formatIp(choice.backend.address)}:${choice.l4Port}`] : [];
    };
    const chosen = new Set(Array.from({ length: 512 }, (_, at) => now(1024 + at)).flat());
    return classes.filter(({ to, l4Port }) => !chosen.has(`${formatIp(to.address)}:${l4Port}`)).map(nameOf);
  };
  const cut = (): string[] => {
    const ended = services.ended(Infinity);
    return [...pins]
      .filter(([, pin]) => ended.has(pin))
      .map(([address]) => address)
      .sort();
  };
  return { ...plane, whatIf, elsewhere, cut };
}

const nameOf = ({ to }: Pick<FlowClass, 'to'>): string => to.endpoint!;
const lostOf = ({ services }: HostDiffReport): string[] => services.changed.map(({ to }) => to.endpoint!).sort();
const endedOf = ({ services }: HostDiffReport): string[] => services.ended.map(({ to }) => to.address).sort();

const [ONE, TWO] = ['10.0.0.21', '10.0.0.22'];
/** What is applied; which classes go elsewhere, and which connections end. */
const changes: Readonly<Record<string, readonly [Resource[], readonly string[], readonly string[]]>> = {
  'another label of a backend': [[backend('db-2', 2, { app: 'old' })], ['db-2'], [TWO]],
  'another selector': [[db({ selector: { app: 'db', version: 'v1' } })], ['db-2'], [TWO]],
  'another target port': [[db({ ports: [{ port: 5432, targetPort: 5433 }] })], ['db-1', 'db-2'], [ONE, TWO]],
  'another port': [[db({ ports: [{ port: 5433, targetPort: 5432 }] })], ['db-1', 'db-2'], [ONE, TWO]],
  'a backend that is drained': [[backend('db-1', 1, { 'weft.dev/drain': 'true' })], ['db-1'], [ONE]],
  'a slice instead of a selector': [[manifest('Service', 'db', { ports: [{ port: 5432 }] }), slice], ['db-2'], [TWO]],
  'one more backend': [[backend('db-3', 3, {})], [], []],
  'a route to a subset': [[subsets, routes('v1')], ['db-1', 'db-2'], []],
  'a route for other clients': [[subsets, routes('v1', [{ sourceLabels: { app: 'job' } }])], [], []],
  'a route for the client, by the label that it gets': [
    [subsets, routes('v2', [{ sourceLabels: { tier: 'a' } }]), web({ tier: 'a' })],
    ['db-1', 'db-2'],
    [],
  ],
  'what has to do with no service': [[manifest('NetworkPolicy', 'db', { podSelector: {} })], [], []],
};

for (const [what, [resources, lost, ended]] of Object.entries(changes)) {
  t.test(what, async (t) => {
    const { cluster, whatIf, elsewhere, cut } = await lab(t);
    t.same([elsewhere(), cut()], [[], []]);
    const report = await whatIf.diff(resources);
    t.same(lostOf(report), lost);
    t.same(endedOf(report), ended);
    for (const { service, from, then, because } of report.services.changed) {
      t.match({ service, from }, { service: 'db', from: { endpoint: 'web', address: WEB } });
      t.ok(because.length > 0);
      if (what === 'another target port')
        t.same(
          then.map(({ port }) => port),
          [5433, 5433],
        );
      if (what === 'another port') t.match({ then, because }, { then: [], because: /not there any more at that port/ });
      if (what.startsWith('a route')) t.match(because, /^route: none → db: db v[12]$/);
    }
    // A remote host says the same of what it is asked.
    const asked = await cluster.propose(resources, async (change) => recordOf(change, 'here'));
    const answer = (await whatIf.answer(JSON.parse(JSON.stringify(asked)))) as HostDiffReport;
    t.same([lostOf(answer), endedOf(answer)], [lost, ended]);
    t.same([elsewhere(), cut()], [[], []], 'nothing has changed');

    await cluster.apply(resources);
    // Which route a conversation takes makes no difference to one that would have had the same backend.
    t.same(
      elsewhere(),
      lost.filter((name) => !isKept(what, name)),
    );
    t.same(cut(), ended);
  });
}

function isKept(what: string, name: string): boolean {
  return (what === 'a route to a subset' && name === 'db-1') || (what.includes('by the label') && name === 'db-2');
}

t.test('a backend that is drained, and clients whom a route leads to nobody else', async (t) => {
  const { cluster, whatIf, elsewhere, cut } = await lab(t);
  await cluster.apply([subsets, routes('v1')]);
  t.same(elsewhere(), ['db-2'], 'they ask for the subset');
  const drained = backend('db-1', 1, { version: 'v1', 'weft.dev/drain': 'true' });
  t.same(endedOf(await whatIf.diff([drained])), []);
  t.same(endedOf(await whatIf.diff([drained, routes('v2')])), [ONE], 'unless the route goes with it');
  await cluster.apply([drained]);
  t.same(cut(), []);
  await cluster.apply([routes('v2')]);
  t.same(cut(), [ONE]);
});

t.test('UDP leaves a backend that is not ready, if there is another one; TCP stays', async (t) => {
  for (const protocol of [TCP, UDP]) {
    const name = protocol === UDP ? 'UDP' : 'TCP';
    const slices = (...ready: readonly boolean[]) => [
      db({ selector: undefined, ports: [{ port: 5432, protocol: name }] }),
      sliceOf(name, ...ready.map((one, at) => ({ addresses: [[ONE, TWO][at]], conditions: { ready: one } }))),
    ];
    const { cluster, whatIf, elsewhere, cut } = await lab(t, protocol);
    const ended = protocol === UDP ? [TWO] : [];
    t.same(endedOf(await whatIf.diff(slices(false, false))), [], 'there is no other one');
    const report = await whatIf.diff(slices(true, false));
    t.same([lostOf(report), endedOf(report)], [['db-2'], ended]);
    for (const { because } of report.services.ended) t.equal(because, 'it is not ready, and others are');
    await cluster.apply(slices(false, false));
    t.same([elsewhere(), cut()], [['db-1', 'db-2'], []]);
    await cluster.apply(slices(true, false));
    t.same([elsewhere(), cut()], [['db-2'], ended]);
  }
});

t.test('of a question that nobody understands, that is said', async (t) => {
  const { whatIf } = await lab(t);
  const endpoint = { resource: web(), addresses: [WEB], mac: 'nobody', host: 'here' };
  t.match(await whatIf.answer({ resources: [], endpoints: [endpoint] }), { why: /does not understand/ });
  t.throws(() => changeOfRecord({ resources: [], endpoints: [endpoint] }, 'here'));
});
