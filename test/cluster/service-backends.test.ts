/** What is behind a service: endpoints that its selector matches. Slices that were written by hand: `slices.test.ts`. */
import t from 'tap';
import { matches, LabelledEndpoints, Selectors } from '../../src/cluster/services/label-index.ts';
import { parseResource } from '../../src/model/manifest.ts';
import { until } from '../support/process.ts';
import { Random } from '../support/random.ts';
import { manifest } from './control-plane.ts';
import {
  addressesOf,
  app,
  at,
  find,
  hostRecord,
  kind,
  lab,
  type Plane,
  service,
  slice,
  stateOf,
} from './service-lab.ts';

t.test('endpoints that match are behind it, and a change of labels, ports or the selector is in force', async (t) => {
  const plane = await lab(t, { [at(5)]: app(5), [at(6)]: app(6, { labels: { app: 'db' } }) });
  const { cluster, write } = plane;
  await cluster.apply([service('web', { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] })]);
  t.same(addressesOf(plane), ['10.0.0.5']);
  t.match(find(plane).backends, [
    {
      endpoint: 'default/app-5',
      hostname: 'app-5',
      host: 'right',
      vni: 100,
      ...{ ready: true, serving: true, terminating: false, weight: 1 },
    },
  ]);
  t.same(find(plane).ports[0]?.targets, [0], 'it has no port of that name');

  await write({ [at(5)]: app(5, { ports: [{ name: 'http', port: 8080 }] }), [at(7)]: app(7) });
  await write({ [at(6)]: app(6, { ports: [{ name: 'http', port: 8081 }] }) });
  t.same(addressesOf(plane), ['10.0.0.5', '10.0.0.6', '10.0.0.7']);
  t.same(find(plane).ports[0]?.targets, [8080, 8081, 0], 'each has its own');
  await cluster.label(kind('ep'), { name: 'app-6' }, { app: null });
  await write({ [at(7)]: undefined });
  t.same(addressesOf(plane), ['10.0.0.5']);

  const both = { selector: { app: 'web', tier: 'a' }, ports: [{ port: 80 }], ipFamilyPolicy: 'PreferDualStack' };
  await cluster.apply([service('web', both)]);
  t.same(addressesOf(plane), []);
  await write({ [at(5)]: app(5, { labels: { app: 'web', tier: 'a' } }) });
  t.same(addressesOf(plane), ['10.0.0.5', 'fd00::5'], 'one for each family');
  await cluster.delete(kind('svc'), { name: 'web' });
  t.equal(plane.forwarding.tables.services.size, 0);
});

t.test('namespaces have services and endpoints of their own', async (t) => {
  const plane = await lab(t, { [at(5)]: app(5) });
  await plane.cluster.apply([
    manifest('Namespace', 'shop', {}),
    parseResource({
      ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: 'web', namespace: 'shop' } },
      spec: { selector: { app: 'web' }, ports: [{ port: 80 }] },
    }),
  ]);
  t.same(addressesOf(plane, 'shop/web'), []);
});

t.test('an endpoint is ready while its host lives, and terminates when it or its host is drained', async (t) => {
  const down = new Set<string>();
  const plane = await lab(t, { [at(5)]: app(5) }, down);
  const { cluster, write } = plane;
  const spec = { selector: { app: 'web' }, ports: [{ port: 80 }] };
  await cluster.apply([service('web', spec)]);
  t.same(stateOf(plane), [true, true, false]);

  down.add('right');
  plane.serving.enforcement.hostChanged('right');
  await until(() => !stateOf(plane)[0], { what: 'the death of its host to be in force' });
  t.same(stateOf(plane), [false, false, false]);
  t.equal(find(plane).backends[0]!.whyNotReady, 'host "right" does not answer');
  await cluster.apply([service('web', { ...spec, publishNotReadyAddresses: true })]);
  t.same(stateOf(plane), [true, true, false], 'all count as ready');
  await cluster.apply([service('web', spec)]);
  down.clear();
  plane.serving.enforcement.hostChanged('right');
  await until(() => stateOf(plane)[0], { what: 'its life to be in force' });

  await cluster.label(kind('ep'), { name: 'app-5' }, { 'weft.dev/drain': 'true' });
  t.same(stateOf(plane), [false, true, true]);
  await cluster.label(kind('ep'), { name: 'app-5' }, { 'weft.dev/drain': 'false' });
  t.same(stateOf(plane), [true, true, false]);
  const labels = { 'topology.kubernetes.io/zone': 'z1', 'weft.dev/drain': 'yes' };
  await write({ 'hosts/right': hostRecord('right', labels) });
  t.same(stateOf(plane), [false, true, true], 'with its host');
  t.equal(find(plane).backends[0]?.zone, 'z1');
  await write({ 'hosts/right': hostRecord('right') });
  t.same(stateOf(plane), [true, true, false]);
});

t.test('a service that is just being changed leaves out the backends of a host that is down', async (t) => {
  const down = new Set<string>();
  const plane = await lab(t, { [at(5)]: app(5) }, down);
  const { enforcement } = plane.serving;
  await plane.cluster.apply([service('web', { selector: { app: 'web' }, ports: [{ port: 80 }] })]);
  enforcement.rulesChanged('web');
  down.add('right');
  enforcement.hostChanged('right');
  await enforcement.caughtUp();
  t.same(stateOf(plane), [false, false, false], 'what it was made of until now');
  t.equal(find(plane).backends[0]!.whyNotReady, 'host "right" does not answer');
  down.clear();
  enforcement.hostChanged('right');
  await enforcement.settle();
  t.same(stateOf(plane), [true, true, false]);
});

t.test('nobody is led to a declared endpoint of a static peer that is down', async (t) => {
  const down = new Set<string>();
  const { host: _, ...record } = app(5, {
    host: 'right',
    netns: undefined,
    mac: '02:00:00:00:00:05',
    addresses: ['10.0.0.5', 'fd00::5'],
  });
  const plane = await lab(t, { [at(5)]: record }, down);
  await plane.cluster.apply([service('web', { selector: { app: 'web' }, ports: [{ port: 80 }] })]);
  t.same(stateOf(plane), [true, true, false]);
  down.add('right');
  plane.serving.enforcement.hostChanged('right');
  await plane.serving.enforcement.caughtUp();
  t.same(stateOf(plane), [false, false, false]);
});

t.test('an endpoint of this host is ready only while it is attached', async (t) => {
  const plane = await lab(t, { [at(5)]: { ...app(5), host: 'left' } });
  await plane.cluster.apply([service('web', { selector: { app: 'web' }, ports: [{ port: 80 }] })]);
  t.equal(plane.endpoints.get('app-5').state, 'waiting', 'its namespace does not exist');
  t.same(stateOf(plane), [false, false, false]);
  t.equal(find(plane).backends[0]!.whyNotReady, 'its endpoint is waiting');
});

t.test('policies, affinity, ranges and annotations', async (t) => {
  const plane = await lab(t, { [at(5)]: app(5) });
  const spec = {
    selector: { app: 'web' },
    ...{
      type: 'NodePort',
      internalTrafficPolicy: 'Local',
      externalTrafficPolicy: 'Local',
      sessionAffinity: 'ClientIP',
    },
    trafficDistribution: 'PreferClose',
    ports: [
      { name: 'sip', port: 5070, targetPort: 6000, protocol: 'UDP', nodePort: 30_007 },
      { name: 'web', port: 80 },
    ],
  };
  const annotations = {
    'weft.dev/ports': '5060-5160/udp',
    'weft.dev/drain': '1m',
    'weft.dev/balancing': 'random',
    'weft.dev/wildcard': 'true',
  };
  await plane.cluster.apply([service('web', spec, annotations)]);
  t.match(find(plane), {
    ...{ internalPolicy: 'local', externalPolicy: 'local', distribution: 'same-zone', affinityMs: 10_800_000 },
    ...{ drainMs: 60_000, balancing: 'random', hasWildcard: true },
  });
  t.same(
    find(plane).ports.map(({ name, protocol, l4Port, lastL4Port, nodePort, targets: [target] }) => [
      ...[name, protocol, l4Port, lastL4Port, nodePort !== undefined, target],
    ]),
    [
      ['sip', 17, 5070, 5070, true, 6000],
      ['web', 6, 80, 80, true, 80],
      ['', 17, 5060, 5069, true, 5060],
      ['', 17, 5071, 5160, true, 5071],
    ],
    'a port of its own is cut out of a range',
  );
});

t.test('the slices that weft makes are shown, by name as well, and nobody stores them', async (t) => {
  const records = Object.fromEntries(
    Array.from({ length: 120 }, (_, n) => [
      at(n + 2),
      app(n + 2, n < 2 ? { ports: [{ name: 'http', port: 81 }] } : {}),
    ]),
  );
  const plane = await lab(t, records);
  const { cluster } = plane;
  const slices = kind('endpointslices');
  const ports = [{ name: 'http', port: 80, targetPort: 'http' }];
  await cluster.apply([
    service('web', { selector: { app: 'web' }, ports, ipFamilyPolicy: 'PreferDualStack' }),
    slice('mine', 'web', { endpoints: [{ addresses: ['192.0.2.9'] }] }),
  ]);
  const all = JSON.parse(JSON.stringify(cluster.get(slices))) as {
    metadata: { name: string };
    addressType: string;
    ports: object[];
    endpoints: object[];
  }[];
  t.same(
    all.map(({ metadata, endpoints, ports: [port] }) => [metadata.name, endpoints.length, port ? 'http' : '']),
    [
      ['mine', 1, ''],
      ['web-weft-ipv4-1', 100, ''],
      ['web-weft-ipv4-2', 18, ''],
      ['web-weft-ipv4-3', 2, 'http'],
      ['web-weft-ipv6-1', 100, ''],
      ['web-weft-ipv6-2', 18, ''],
      ['web-weft-ipv6-3', 2, 'http'],
    ],
    'endpoints with other ports are in other slices',
  );
  t.match(all[3], {
    metadata: {
      namespace: 'default',
      labels: {
        'kubernetes.io/service-name': 'web',
        'endpointslice.kubernetes.io/managed-by': 'weft.dev',
      },
    },
    ports: [{ name: 'http', protocol: 'TCP', port: 81 }],
  });
  t.match(all[3]?.endpoints[0], {
    addresses: ['10.0.0.2'],
    conditions: { ready: true, serving: true, terminating: false },
    nodeName: 'right',
    targetRef: { apiVersion: 'weft.dev/v1', kind: 'Endpoint', name: 'app-2', namespace: 'default' },
  });
  const [one] = cluster.get(slices, { name: 'web-weft-ipv6-2' });
  t.equal(one?.metadata.name, 'web-weft-ipv6-2');
  t.throws(() => cluster.get(slices, { name: 'web-weft-ipv6-9' }), { code: 'not_found' });
  await t.rejects(cluster.delete(slices, { name: 'web-weft-ipv6-2' }), {
    message: 'endpointslice "web-weft-ipv6-2" is made by weft of the selector of its service',
  });
  t.same(
    (await plane.store.list('endpointslices/')).entries.map(({ key }) => key),
    ['endpointslices/default/mine'],
  );
});

t.test('a port to check that no backend has is told', async (t) => {
  const plane = await lab(t, { [at(5)]: app(5, { ports: [{ name: 'health', port: 9090 }] }), [at(6)]: app(6) });
  const { cluster, serving, warnings } = plane;
  const spec = { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] };
  const apply = async (port: string, selector = { app: 'web' }) => {
    const annotations = { 'weft.dev/health-check': 'tcp', 'weft.dev/health-check-port': port };
    const [report] = await cluster.apply([service('web', { ...spec, selector }, annotations)]);
    return [report!.waiting, serving.clashes().map(({ detail }) => detail)];
  };
  const why =
    'weft.dev/health-check-port: none of its backends has the TCP port "nix" among its `ports`: nothing checks them';
  t.same(await apply('nix'), [why, [`service "web": ${why}`]]);
  t.same(warnings, [`service "web": ${why}`], 'it is in the log');
  t.same(await apply('health'), [undefined, []], 'one has it');
  t.same(await apply('7070'), [undefined, []], 'a number');
  t.same(await apply('nix', { app: 'none' }), [undefined, []], 'there is nobody yet');
});

t.test('what is checked of each backend', async (t) => {
  const ports = [
    { name: 'web', port: 8080 },
    { name: 'health', port: 9090 },
  ];
  const plane = await lab(t, { [at(5)]: app(5, { ports }), [at(6)]: app(6) });
  const { cluster, write } = plane;
  const spec = {
    selector: { app: 'web' },
    ports: [
      { name: 'names', port: 53, protocol: 'UDP' },
      { name: 'http', port: 80, targetPort: 'web' },
    ],
  };
  const checked = async (port?: string) => {
    const annotations = {
      'weft.dev/health-check': 'http',
      'weft.dev/health-check-path': '/up',
      ...(port !== undefined && { 'weft.dev/health-check-port': port }),
    };
    await cluster.apply([service('web', spec, annotations)]);
    return find(plane).check?.targets;
  };
  t.same(await checked(), [8080, 0], 'the target of the first TCP port');
  const { targets: _, ...check } = find(plane).check!;
  t.same(check, { type: 'http', path: '/up', intervalMs: 10_000, timeoutMs: 1000, failures: 3, successes: 1 });
  t.same(await checked('health'), [9090, 0]);
  t.same(await checked('7070'), [7070, 7070]);
  t.same(
    find(plane).ports.map(({ name }) => name),
    ['names', 'http'],
    'it is no port of the service',
  );
  await checked('health');
  await write({ [at(6)]: app(6, { ports: [{ name: 'health', port: 9091 }] }) });
  t.same(find(plane).check?.targets, [9090, 9091]);
  const hand = { ports: [{ name: 'http', port: 8081 }], endpoints: [{ addresses: ['10.0.0.9'] }] };
  await cluster.apply([slice('web-hand', 'web', hand)]);
  t.same(await checked(), [8080, 0, 8081], 'also of a slice');
  t.same(await checked('7070'), [7070, 7070, 7070]);
  await cluster.apply([service('web', spec)]);
  t.equal(find(plane).check, undefined);
});

t.test('hosts agree on the order, whatever came first', async (t) => {
  const names = [11, 2, 30, 4];
  const spec = { selector: { app: 'web' }, ports: [{ port: 80 }] };
  const orders: string[][] = [];
  for (const order of [names, [...names].reverse()]) {
    const plane = await lab(t);
    await plane.cluster.apply([service('web', spec)]);
    for (const n of order) await plane.write({ [at(n)]: app(n) });
    orders.push(addressesOf(plane));
  }
  t.same(orders[0], orders[1]);
});

t.test('after changes of endpoints, a service is as if it were put together again', async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  t.comment(`seed ${seed}`);
  const random = new Random(seed);
  const pick = <T>(all: readonly T[]): T => random.pick(all);
  const selector = { app: 'web' };
  const ports = [
    { name: 'http', port: 80, targetPort: 'web' },
    { name: 'other', port: 81, targetPort: 81 },
  ];
  const records: Record<string, unknown> = {
    'services/default/web': {
      resource: service('web', { selector, ports }, { 'weft.dev/health-check': 'tcp' }),
      ...{ clusterIps: ['10.96.0.1', 'fd77:6566:7460::1'], ipFamilies: ['IPv4', 'IPv6'], nodePorts: [0, 0] },
    },
    'services/default/all': {
      resource: service('all', { selector, clusterIP: 'None', publishNotReadyAddresses: true }),
      ...{ clusterIps: [], ipFamilies: ['IPv6'], nodePorts: [] },
    },
  };
  const plane = await lab(t, records);
  const changed = (n: number): object | undefined =>
    random.int(4) === 0
      ? undefined
      : {
          ...app(n, {
            labels: { app: pick(['web', 'web', 'web', 'other']), 'weft.dev/drain': pick(['false', 'true']) },
            ...(random.int(2) === 0 && { ports: [{ name: 'web', port: 8000 + random.int(2) }] }),
          }),
          addresses: pick([[`10.0.0.${n}`], [`fd00::${n.toString(16)}`], [`10.0.0.${n}`, `fd00::${n.toString(16)}`]]),
          host: pick(['right', 'right', 'left']),
        };
  const shown = ({ forwarding }: Plane): unknown =>
    ['web', 'all'].map((id) => forwarding.tables.services.get(`default/${id}`));
  for (let round = 0; round < 5; round++) {
    for (let step = 0; step < 8; step++) {
      const count = pick([1, 2, 5, 40]);
      const entries = Object.fromEntries(
        Array.from({ length: count }, () => 2 + random.int(60)).map((n): [string, unknown] => [at(n), changed(n)]),
      );
      await plane.write(entries);
      for (const [key, value] of Object.entries(entries)) {
        if (value) records[key] = value;
        else delete records[key];
      }
    }
    const anew = await lab(t, records);
    t.same(shown(plane), shown(anew), `round ${round}`);
    t.ok(find(plane).backends.length > 10);
  }
});

t.test('of many endpoints behind a service, those that did not change are not looked at', async (t) => {
  const records = Object.fromEntries(Array.from({ length: 100 }, (_, n): [string, unknown] => [at(n + 2), app(n + 2)]));
  const vips = { clusterIps: ['10.96.0.1'], ipFamilies: ['IPv4'], nodePorts: [0] };
  records['services/default/web'] = {
    resource: service('web', { selector: { app: 'web' }, ports: [{ port: 80 }] }),
    ...vips,
  };
  const plane = await lab(t, records);
  let looks = 0;
  const original = Reflect.get(LabelledEndpoints.prototype, 'matching') as (...all: unknown[]) => string[];
  t.intercept(LabelledEndpoints.prototype, 'matching', {
    value(this: LabelledEndpoints, ...all: unknown[]): string[] {
      looks++;
      return Reflect.apply(original, this, all);
    },
  });
  const before = new Set(find(plane).backends);
  const others = (): number => find(plane).backends.filter((one) => before.has(one)).length;
  await plane.write({ [at(50)]: undefined });
  t.same([find(plane).backends.length, others(), looks], [99, 99, 0], 'one goes');
  await plane.write({ [at(50)]: app(50) });
  t.same([find(plane).backends.length, others(), looks], [100, 99, 0], 'one comes');
  await plane.write({ [at(51)]: app(51, { labels: { app: 'web', 'weft.dev/drain': 'true' } }) });
  t.same([find(plane).backends.length, others(), looks], [100, 98, 0], 'one changes');
  // That it would be noticed.
  await plane.write({
    'services/default/web': {
      resource: service('web', { type: 'NodePort', selector: { app: 'web' }, ports: [{ port: 80 }] }),
      ...{ ...vips, nodePorts: [30_000] },
    },
  });
  t.same([others(), looks], [0, 1], 'the service changes');
});

t.test('the index of labels finds what looking at all of them finds', async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  t.comment(`seed ${seed}`);
  const random = new Random(seed);
  const below = (count: number): number => random.int(count);
  const endpoints = new Map<string, Record<string, string>>();
  const services = new Map<string, Record<string, string>>();
  const [labelled, selectors] = [new LabelledEndpoints(), new Selectors()];
  const labels = (most: number): Record<string, string> =>
    Object.fromEntries(Array.from({ length: 1 + below(most) }, () => [`k${below(4)}`, `v${below(3)}`]));
  const namespaceOf = (name: string): string => `n${name.length % 2}`;
  const wrong: string[] = [];
  for (let round = 0; round < 2000; round++) {
    const name = `x${below(150)}`;
    const namespace = namespaceOf(name);
    const before = endpoints.get(name);
    if (below(2) === 0) {
      if (before) labelled.remove(name, namespace, before);
      endpoints.delete(name);
      if (below(3) > 0) {
        endpoints.set(name, labels(4));
        labelled.add(name, namespace, endpoints.get(name)!);
      }
    } else {
      selectors.remove(name);
      services.delete(name);
      if (below(3) > 0) {
        services.set(name, labels(2));
        selectors.add(name, namespace, services.get(name)!);
      }
    }
    const probe = labels(3);
    const naiveServices = [...services].filter(([one, its]) => namespaceOf(one) === namespace && matches(its, probe));
    const found = [...selectors.matching(namespace, probe)].sort(compare);
    const expected = naiveServices.map(([one]) => one).sort(compare);
    const naive = [...endpoints].filter(([one, its]) => namespaceOf(one) === namespace && matches(probe, its));
    const foundEndpoints = labelled.matching(namespace, probe).sort(compare);
    const isSame =
      found.join() === expected.join() &&
      foundEndpoints.join() ===
        naive
          .map(([one]) => one)
          .sort(compare)
          .join();
    if (!isSame) wrong.push(`round ${round}: ${found.join()} is not ${expected.join()}`);
  }
  t.same(wrong.slice(0, 3), []);
});

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
