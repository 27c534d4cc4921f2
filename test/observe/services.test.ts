/** The report of services: the state of each backend, and how many connections it has. */
import t from 'tap';
import { IP_TCP } from '../../src/wire/ipv4.ts';
import {
  connectionBytes,
  ConnectionRecords,
  endVerdicts,
  SEEN_ACK,
  SEEN_FIN,
  SEEN_RST,
} from '../../src/flow/connection.ts';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import type { ServiceReport } from '../../src/model/service-report.ts';
import { reportServices } from '../../src/observe/services.ts';
import { Changes } from '../../src/table/changes.ts';
import { openPinAt } from '../../src/table/connection-entries.ts';
import { Services } from '../../src/table/services.ts';
import { Topology } from '../../src/table/topology.ts';
import { backend, service, servicePort, VIP } from '../support/services.ts';

const RED = 100 as Vni;
const SLOTS = 64;

function lab() {
  const changes = new Changes();
  const topology = new Topology(new Uint8Array(6), changes);
  topology.setNetwork({
    name: 'red',
    vni: RED,
    routes: [{ prefix: { ip: parseIp('10.1.0.0'), length: 16 }, kind: 'network', network: 'red' }],
  });
  const services = new Services(topology, changes);
  const records = new ConnectionRecords(new Uint8Array(connectionBytes(SLOTS)));
  const openPins = (): number[] => Array.from({ length: records.ready }, (_, slot) => openPinAt(records, slot));
  const question = {
    tables: { services, topology, connections: { openPins } },
    isHostDown: (host: string) => host === 'dead',
  };
  const all = async (which = {}): Promise<ServiceReport[]> => {
    const found: ServiceReport[] = [];
    for await (const one of reportServices(question, which)) found.push(one);
    return found;
  };
  return { services, records, question, all };
}

t.test('the state of a backend, and why', async (t) => {
  const { services, all } = lab();
  const of = (n: number, more = {}) => backend(`10.1.0.${n}`, { vni: RED, ...more });
  const no = { ready: false, serving: false };
  const backends = [
    of(1),
    of(2, { ready: false, terminating: true, whyNotReady: 'its EndpointSlice says so' }),
    of(3, { ...no, terminating: true, endpoint: 'default/draining' }),
    of(4, { ...no, whyNotReady: 'its EndpointSlice says so' }),
    of(5, { ...no, host: 'dead' }),
    of(6, { ...no, whyNotReady: 'its endpoint is detached' }),
    of(7),
    of(8),
  ];
  services.set(service({ vips: [VIP], backends }), 0);
  const id = 'default/web';
  services.setHealth(id, 'ejected', [[parseIp('10.1.0.7'), 'no answer to 3 connections']]);
  services.setHealth(id, 'check_failed', [[parseIp('10.1.0.8'), 'GET /health: 500']]);
  const [report] = (await all()) as [ServiceReport];
  t.same(
    report.backends.map(({ state, why }) => (why === undefined ? state : `${state}: ${why}`)),
    [
      'ready',
      'serving: its EndpointSlice says so',
      'terminating: it or its host has the label weft.dev/drain',
      'not ready: its EndpointSlice says so',
      'host down: host "dead" does not answer',
      'not ready: its endpoint is detached',
      'ejected: no answer to 3 connections',
      'check failed: GET /health: 500',
    ],
  );
  t.ok(report.backends.every(({ network, connections }) => network === 'red' && connections === 0));
});

t.test('one that has none of the ports is not ready, one that has some is', async (t) => {
  const { services, all } = lab();
  const ports = [
    servicePort(3, { name: 'http', targets: [0, 8080, 0] }),
    servicePort(3, { name: 'other', l4Port: 81, targets: [0, 0, 0] }),
  ];
  const of = (n: number, more = {}) => backend(`10.1.0.${n}`, { vni: RED, ...more });
  const backends = [of(1), of(2), of(3, { ready: false, serving: false, host: 'dead' })];
  services.set(service({ vips: [VIP], backends, ports }), 0);
  services.set(service({ id: 'default/portless', vips: [], backends: [of(1)], ports: [] }), 0);
  const [report, portless] = (await all()) as [ServiceReport, ServiceReport];
  t.match(report.backends, [
    { state: 'not ready', why: /none of its `ports` has the name/, ports: [null, null] },
    { state: 'ready', why: undefined },
    { state: 'host down' },
  ]);
  t.match(portless.backends, [{ state: 'ready' }], 'a headless service needs none');
});

t.test('one that has no port to be checked is ready, and that is said', async (t) => {
  const { services, all } = lab();
  const check = { type: 'tcp', path: '/', intervalMs: 1, timeoutMs: 1, failures: 1, successes: 1 } as const;
  const backends = [backend('10.1.0.1', { vni: RED }), backend('10.1.0.2', { vni: RED })];
  services.set(service({ vips: [VIP], backends, check: { ...check, targets: [9090, 0] } }), 0);
  const [report] = (await all()) as [ServiceReport];
  t.match(report.backends, [
    { state: 'ready', why: undefined },
    { state: 'ready', why: /^nothing checks it: none of its `ports` is the one/ },
  ]);
});

t.test('connections are counted for each backend, over all ports, and not when they are over', async (t) => {
  const { services, records, all } = lab();
  services.set(
    service({ vips: [VIP], backends: [backend('10.1.0.1', { vni: RED }), backend('10.1.0.2', { vni: RED })] }),
    0,
  );
  const counted = new Map<string, number>();
  for (let n = 0; n < 50; n++) {
    const tuple = {
      protocol: IP_TCP,
      source: parseIp('10.1.0.9'),
      sourcePort: n,
      destination: VIP,
      destinationPort: 80,
    };
    const choice = services.choose(services.find(VIP, IP_TCP, 80)!, RED, tuple);
    if (choice.kind === 'none') throw new Error('there is no backend');
    services.opened(n, choice, RED, tuple, 0);
    const translated = { ...tuple, destination: choice.backend.address, destinationPort: choice.l4Port };
    const ends = { original: tuple, translated, protocol: IP_TCP, pin: choice.pin };
    records.write(n, 2, { kind: 'translated', places: [RED, RED], ...ends });
    records.ready = n + 1;
    const key = choice.backend.address.join('.');
    counted.set(key, (counted.get(key) ?? 0) + 1);
  }
  const [report] = (await all()) as [ServiceReport];
  t.same(
    report.backends.map(({ connections }) => connections),
    [...services.all()][0]!.backends.map(({ address }) => counted.get(address.join('.'))),
  );
  const sum = async (): Promise<number> => {
    const [{ backends }] = (await all()) as [ServiceReport];
    return backends.reduce((so, { connections }) => so + connections, 0);
  };
  services.closed(0, services.kept(0)!.pin);
  records.free(0);
  t.equal(await sum(), 49);
  const seen = (slot: number, flags: number, replyFlags: number): void => {
    const half = { lastSeenMs: 0, packets: 1, bytes: 60, end: 0, acked: 0 };
    records.writeHalf(slot, false, { ...half, seen: SEEN_ACK | flags });
    records.writeHalf(slot, true, { ...half, seen: SEEN_ACK | replyFlags });
  };
  seen(1, 0, 0);
  seen(2, SEEN_FIN, 0);
  t.equal(await sum(), 49, 'established ones count, and those that one side has closed');
  seen(3, SEEN_FIN, SEEN_FIN);
  seen(4, 0, SEEN_RST);
  records.end(5, endVerdicts.other);
  t.equal(await sum(), 46, 'and those in time_wait, reset or ended do not');
});

t.test('those of a namespace, or one by its name', async (t) => {
  const { services, question, all } = lab();
  services.set(service({ id: 'default/web', vips: [VIP] }), 0);
  services.set(service({ id: 'shop/web', vips: [] }), 0);
  const names = async (which = {}) => (await all(which)).map(({ namespace, name }) => `${namespace}/${name}`);
  t.same((await names()).sort(), ['default/web', 'shop/web']);
  t.same(await names({ namespace: 'shop' }), ['shop/web']);
  t.same(await names({ name: 'web' }), ['default/web'], 'as everywhere, without a namespace it is default');
  t.same(await names({ name: 'web', namespace: 'shop' }), ['shop/web']);
  t.throws(() => reportServices(question, { name: 'db', namespace: 'shop' }), {
    code: 'not_found',
    message: 'there is no Service "shop/db"',
  });
});

t.test('what a rule says is reported; nothing of it without a rule', async (t) => {
  const { services, all } = lab();
  const plain = { balancing: 'maglev', distribution: 'none', maxConnections: undefined } as const;
  services.set(service({ backends: [backend('10.1.0.1')] }), 0);
  const [without] = (await all()) as [ServiceReport];
  for (const field of ['destinationRule', 'maxConnections', 'portSpreads', 'subsets']) t.notOk(field in without, field);
  t.notOk('subsets' in without.backends[0]!);
  services.set(
    service({
      ...{
        rule: 'shop/any',
        maxConnections: 5,
        backends: [backend('10.1.0.1', { subsets: ['v1'] }), backend('10.1.0.2')],
      },
      portSpreads: new Map([[80, { ...plain, balancing: 'random' }]]),
      subsets: [{ ...plain, name: 'v1', portSpreads: new Map([[81, { ...plain, maxConnections: 2 }]]) }],
    }),
    0,
  );
  const [report] = (await all()) as [ServiceReport];
  const spread = { balancing: 'maglev', trafficDistribution: 'none' };
  t.match(report, { destinationRule: 'shop/any', maxConnections: 5 });
  t.same(report.portSpreads, { 80: { ...spread, balancing: 'random' } });
  t.same(report.subsets, { v1: { ...spread, portSpreads: { 81: { ...spread, maxConnections: 2 } } } });
  t.same(
    report.backends.map(({ subsets }) => subsets),
    [['v1'], []],
  );
});
