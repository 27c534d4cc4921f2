/** What is behind a service by slices that were written by hand. */
import t from 'tap';
import { formatIp } from '../../src/flow/types.ts';
import { reportServices } from '../../src/observe/services.ts';
import { manifest } from './control-plane.ts';
import { addressesOf, app, at, find, hostRecord, kind, lab, service, slice, stateOf } from './service-lab.ts';

t.test('slices that were written by hand', async (t) => {
  const plane = await lab(t, { [at(5)]: app(5) });
  const { cluster, write } = plane;
  const ports = [
    { name: 'http', port: 80 },
    { name: 'dns', port: 53, protocol: 'UDP' },
  ];
  await cluster.apply([
    slice('web-1', 'web', {
      ports: [{ name: 'http', port: 8080 }],
      endpoints: [{ addresses: ['10.0.0.5'] }, { addresses: ['192.0.2.99'], nodeName: 'x', zone: 'z', hostname: 'h' }],
    }),
  ]);
  await cluster.apply([service('web', { ports })]);
  t.same(addressesOf(plane), ['10.0.0.5', '192.0.2.99']);
  const [known, foreign] = find(plane).backends;
  t.match(known, { endpoint: 'default/app-5', vni: 100, host: 'right', ready: true });
  t.match(foreign, { endpoint: undefined, vni: undefined, host: 'x', zone: 'z', hostname: 'h' });
  t.same(
    find(plane).ports.map(({ targets }) => targets),
    [
      [8080, 8080],
      [0, 0],
    ],
    'a port that no slice has',
  );

  await write({ [at(5)]: undefined });
  t.match(find(plane).backends[0], { endpoint: undefined, vni: 100, host: undefined }, 'nobody has the address');
  await write({ [at(5)]: app(5) });
  t.match(find(plane).backends[0], { endpoint: 'default/app-5', host: 'right' });

  // The same address in another slice, with the other port: it is the same backend.
  const other = { ports: [{ name: 'dns', protocol: 'UDP', port: 5353 }], endpoints: [{ addresses: ['10.0.0.5'] }] };
  await cluster.apply([slice('web-2', 'web', other)]);
  t.same(addressesOf(plane), ['10.0.0.5', '192.0.2.99'], 'it counts once');
  t.same(find(plane).ports[1]?.targets, [5353, 0]);
  // With another number for one port, it is another program.
  const second = { ports: [{ name: 'http', port: 9090 }], endpoints: [{ addresses: ['10.0.0.5'] }] };
  await cluster.apply([slice('web-3', 'web', second)]);
  t.same(addressesOf(plane), ['10.0.0.5', '10.0.0.5', '192.0.2.99']);
  t.same(find(plane).ports[0]?.targets, [8080, 9090, 8080]);
  await cluster.delete(kind('endpointslices'), { name: 'web-3' });

  const targeted = [{ name: 'http', port: 80, targetPort: 8080 }];
  await cluster.apply([service('web', { ports: targeted, selector: { app: 'web' } })]);
  t.same(addressesOf(plane), ['10.0.0.5', '192.0.2.99'], 'also beside a selector that finds it');
  await write({ [at(5)]: undefined });
  t.equal(find(plane).backends.find(({ address }) => formatIp(address) === '10.0.0.5')?.endpoint, undefined);

  const conditions = async (given: object) => {
    await cluster.apply([slice('web-1', 'web', { endpoints: [{ addresses: ['10.0.0.7'], conditions: given }] })]);
    return stateOf(
      plane,
      find(plane).backends.findIndex(({ address }) => formatIp(address) === '10.0.0.7'),
    );
  };
  t.same(await conditions({}), [true, true, false], 'ready if nobody says otherwise');
  t.same(await conditions({ ready: null, serving: null }), [true, true, false]);
  t.same(await conditions({ ready: false }), [false, false, false], 'serving is as ready');
  t.ok(find(plane).backends.some(({ whyNotReady }) => whyNotReady === 'its EndpointSlice says so'));
  t.same(await conditions({ ready: false, serving: true, terminating: true }), [false, true, true]);
  await cluster.delete(kind('endpointslices'), { name: 'web-1' });
  await cluster.delete(kind('endpointslices'), { name: 'web-2' });
  t.same(addressesOf(plane), []);
});

t.test('where an endpoint is, its host says, and no slice', async (t) => {
  const plane = await lab(t, { [at(5)]: app(5) });
  const endpoints = ['10.0.0.5', '10.0.0.6'].map((ip) => ({ addresses: [ip], nodeName: 'left', zone: 'z' }));
  await plane.cluster.apply([
    service('web', { ports: [{ port: 80 }] }),
    slice('web-1', 'web', { ports: [{ port: 80 }], endpoints }),
  ]);
  t.match(find(plane).backends, [
    { endpoint: 'default/app-5', host: 'right', zone: 'z' },
    { endpoint: undefined, host: 'left', zone: 'z' },
  ]);
});

t.test(
  'the zone of an address in a slice is that of the host that it names, also if that is labelled later',
  async (t) => {
    const plane = await lab(t);
    const zoned = (zone: string) => hostRecord('right', { 'topology.kubernetes.io/zone': zone });
    await plane.cluster.apply([
      service('web', { ports: [{ port: 80 }] }),
      slice('web-1', 'web', { ports: [{ port: 80 }], endpoints: [{ addresses: ['192.0.2.9'], nodeName: 'right' }] }),
    ]);
    t.equal(find(plane).backends[0]?.zone, undefined);
    for (const zone of ['z1', 'z2']) {
      await plane.write({ 'hosts/right': zoned(zone) });
      t.equal(find(plane).backends[0]?.zone, zone);
    }
  },
);

t.test('why an endpoint terminates', async (t) => {
  const plane = await lab(t, { [at(5)]: app(5) });
  const { cluster } = plane;
  const whyOf = async (): Promise<string | undefined> => {
    const { tables } = plane.forwarding;
    const question = { tables, isHostDown: () => false };
    for await (const { backends } of reportServices(question, { name: 'web' })) {
      t.match(backends, [{ endpoint: 'default/app-5', state: 'serving' }]);
      return backends[0]?.why;
    }
    return undefined;
  };
  const endpoints = [{ addresses: ['10.0.0.5'], conditions: { terminating: true } }];
  await cluster.apply([
    service('web', { ports: [{ port: 80 }] }),
    slice('web-1', 'web', { ports: [{ port: 80 }], endpoints }),
  ]);
  t.equal(await whyOf(), 'its EndpointSlice says so');
  await cluster.apply([slice('web-1', 'web', { ports: [{ port: 80 }], endpoints: [{ addresses: ['10.0.0.5'] }] })]);
  await cluster.label(kind('ep'), { name: 'app-5' }, { 'weft.dev/drain': 'true' });
  t.equal(await whyOf(), 'it or its host has the label weft.dev/drain');
});

t.test(
  'a range of one number, and what a declared port leaves of one, have backends in slices, and are in none',
  async (t) => {
    const plane = await lab(t, { [at(5)]: app(5) });
    const ports = [{ port: 5061 }];
    await plane.cluster.apply([
      service('web', { ports, selector: { app: 'web' } }, { 'weft.dev/ports': '5060-5061,7000' }),
      slice('web-1', 'web', { ports: [{ port: 5061 }], endpoints: [{ addresses: ['192.0.2.9'] }] }),
    ]);
    t.same(
      find(plane).ports.map(({ l4Port, targets }) => [l4Port, targets]),
      [5061, 5060, 7000].map((port) => [port, [port, port]]),
    );
    const [made] = plane.cluster.get(kind('endpointslices'), { name: 'web-weft-ipv4-1' }) as { ports?: object[] }[];
    t.same(made?.ports, [{ name: '', protocol: 'TCP', port: 5061 }]);
  },
);

t.test('addresses of slices that no endpoint can have are left out, and told', async (t) => {
  const plane = await lab(t);
  const none = ['10.0.0.0', '10.0.0.1', '10.0.0.255', '10.96.0.9'];
  await plane.cluster.apply([service('web', { ports: [{ port: 80 }] })]);
  await plane.write({
    'endpointslices/default/web-1': {
      resource: slice('web-1', 'web', {
        ports: [{ port: 80 }],
        endpoints: [...none, '10.0.0.9', '192.0.2.9'].map((ip) => ({ addresses: [ip] })),
      }),
    },
  });
  t.same(addressesOf(plane), ['10.0.0.9', '192.0.2.9']);
  const detail = 'a slice of service "web" has 10.0.0.0, which no endpoint can have: it is left out';
  t.match(plane.serving.clashes(), [{ detail }]);
  t.same(plane.warnings, [detail]);
  await plane.cluster.delete(kind('endpointslices'), { name: 'web-1' });
  t.same(plane.serving.clashes(), []);
});

t.test('so it is with addresses of services, also if it is decided later which those are', async (t) => {
  const plane = await lab(t);
  const endpoints = ['10.96.0.9', '192.0.2.9'].map((ip) => ({ addresses: [ip] }));
  await plane.cluster.apply([
    service('web', { clusterIP: 'None', ports: [{ port: 80 }] }),
    slice('web-1', 'web', { ports: [{ port: 80 }], endpoints }),
  ]);
  t.same(addressesOf(plane), ['10.96.0.9', '192.0.2.9'], 'they are nobody’s so far');
  await plane.cluster.apply([service('other', { ports: [{ port: 80 }] })]);
  t.same(addressesOf(plane), ['192.0.2.9']);
  t.same(plane.warnings, ['a slice of service "web" has 10.96.0.9, which no endpoint can have: it is left out']);
  await plane.write({ 'allotment/services': { subnets: ['10.97.0.0/16'] } });
  t.same(addressesOf(plane), ['10.96.0.9', '192.0.2.9'], 'somebody has decided otherwise');
  t.same(plane.serving.clashes(), []);
});

t.test('an address is in the network that has it, also one that comes later', async (t) => {
  const plane = await lab(t);
  await plane.cluster.apply([
    service('web', { ports: [{ port: 80 }] }),
    slice('web-1', 'web', { ports: [{ port: 80 }], endpoints: [{ addresses: ['10.7.0.5'] }] }),
  ]);
  t.equal(find(plane).backends[0]?.vni, undefined);
  await plane.cluster.apply([manifest('Network', 'late', { subnets: ['10.7.0.0/24'], vni: 7 })]);
  t.equal(find(plane).backends[0]?.vni, 7);
});
