/**
 * The flow classes of a host, with its control plane: what has been opened is found in the records of connections, also an hour later, and
 * is judged as the next conversation like it will be.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import type { Datapath, DatapathOptions, Injectable } from '../../src/datapath/datapath.ts';
import type { PolicyEvent } from '../../src/control/policy-log.ts';
import { connectionBytes, ConnectionRecords, INTERNAL, OUTSIDE, type Place } from '../../src/flow/connection.ts';
import { formatIp, formatMac, parseIp, type Vni } from '../../src/flow/types.ts';
import { endpointKind } from '../../src/model/kinds/endpoint.ts';
import type { ClassChangeReport } from '../../src/model/policy-report.ts';
import type { Resource } from '../../src/model/resource.ts';
import { ClassKeeper } from '../../src/observe/classes/class-keeper.ts';
import { ClassWatch } from '../../src/observe/classes/class-watch.ts';
import { FlowClasses } from '../../src/observe/classes/flow-classes.ts';
import { WhatIf } from '../../src/observe/what-if.ts';
import { createSimulation } from '../../src/simulation.ts';
import { gatewayMac } from '../../src/table/topology.ts';
import { manifest, openControlPlane } from '../cluster/control-plane.ts';
import { tcp, udp } from '../support/frames.ts';
import { identityOf, policyOf } from '../support/policy/tables.ts';
import type { Pod, World } from '../support/policy/world.ts';
import { backend, service, servicePort } from '../support/services.ts';

const BLUE = 100 as Vni;
const RED = 200 as Vni;
const [TCP, UDP] = [6, 17];
const [SECOND, MINUTE, HOUR, DAY] = [1000, 60_000, 3_600_000, 86_400_000];
const SYN = 2;
const SLOTS = 256;

const namespace = (name: string, labels: object = {}) => manifest('Namespace', name, {}, { labels });
const policy = (name: string, spec: object, metadata: object = {}) =>
  manifest('NetworkPolicy', name, { podSelector: {}, ...spec }, metadata);
/** One of this host; it waits, since this is no network namespace. */
const here = (name: string, address: string, app: string, spec: object = {}) =>
  manifest(
    'Endpoint',
    name,
    { network: 'blue', netns: '/proc/self/ns/uts', interface: `e-${name}`, addresses: [address], ...spec },
    { labels: { app } },
  );
const remote = (name: string, address: string) =>
  manifest(
    'Endpoint',
    name,
    { network: 'blue', host: 'there', addresses: [address], mac: `02:00:00:00:00:${address.slice(-2)}` },
    { labels: { app: name } },
  );
const forDb = { podSelector: { matchLabels: { app: 'db' } } };
const fromApp = (app: string, port = 5432) => ({
  ...forDb,
  ingress: [{ from: [{ podSelector: { matchLabels: { app } } }], ports: [{ port }] }],
});

/** What a record says. */
interface Conversation {
  readonly from: string;
  readonly to?: string;
  readonly port?: number;
  readonly protocol?: number;
  readonly sourcePort?: number;
  readonly places?: readonly [Place, Place];
  /** The address of a service. */
  readonly vip?: string;
}

async function lab(t: Test) {
  const plane = await openControlPlane(t);
  const { cluster, endpoints, networks, policies, forwarding } = plane;
  await cluster.apply([
    manifest('Network', 'blue', { subnets: ['10.0.0.0/24', 'fd00::/64'], vni: BLUE }),
    manifest('Host', 'there', { underlay: '192.0.2.2' }),
    namespace('default'),
    here('web', '10.0.0.10', 'web'),
    here('db', '10.0.0.11', 'db'),
    here('job-1', '10.0.0.12', 'job'),
    remote('far', '10.0.0.13'),
  ]);
  const directory = mkdtempSync(join(tmpdir(), `weft-class-watch-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const records = new ConnectionRecords(new Uint8Array(connectionBytes(SLOTS)));
  let [now, generation, aheadMs] = [0, 0, 0];
  const warnings: object[] = [];
  const listeners = new Set<(event: PolicyEvent) => void>();
  const open = () =>
    new ClassKeeper({
      ...{ records, tables: forwarding.tables, flows: forwarding.controller.flows },
      policyLog: {
        onEvent: (listener) => {
          listeners.add(listener);
          return () => listeners.delete(listener);
        },
      },
      path: join(directory, 'flow-classes'),
      networkOf: (name) => {
        const one = endpoints.find(name);
        return one && one.host === undefined ? (networks.get(one.resource.spec.network).vni as Vni) : undefined;
      },
      clock: () => now,
      wallClock: () => 1_800_000_000_000 + now + aheadMs,
      warn: (message, details) => warnings.push({ message, ...details }),
      onError: (error) => t.fail(String(error)),
    });
  let keeper = open();
  await keeper.start();
  const classes = { now: () => keeper.now(), report: () => keeper.report() };
  const whatIf = new WhatIf({
    cluster: () => cluster,
    tests: policies.tests,
    propose: (change) => policies.enforcement.propose(change),
    proposeServices: (change) => plane.serving.enforcement.propose(change),
    ...{ records, classes, tables: forwarding.tables, host: 'here', questions: undefined },
  });
  /** Opens a connection in the next slot; returns how to close it. */
  const open1 = ({ from, to = '10.0.0.11', port = 5432, sourcePort = 40_000, ...more }: Conversation) => {
    const { protocol = TCP, places = [BLUE, BLUE], vip = to } = more;
    const slot = generation % SLOTS;
    generation++;
    const original = { source: parseIp(from), sourcePort, destination: parseIp(vip), destinationPort: port };
    const translated = { ...original, destination: parseIp(to) };
    const kind = vip === to && !places.includes(OUTSIDE) ? 'tracked' : 'translated';
    records.write(slot, 2 * generation, { kind, places, protocol, original, translated });
    records.touch(slot, now);
    records.ready = Math.max(records.ready, slot + 1);
    return () => records.free(slot);
  };
  const advance = async (ms: number): Promise<void> => {
    now += ms;
    await keeper.now();
  };
  /** Sets the clock on the wall, so much ahead of the right time. */
  const setClock = (ms: number): void => void (aheadMs = ms);
  /** `FROM TO PORT BEFORE VERDICT` of what would be different. */
  const changes = async (...resources: Resource[]): Promise<ClassChangeReport[]> =>
    (await whatIf.diff(resources)).flowClasses.changed;
  const lines = async (...resources: Resource[]): Promise<string[]> =>
    (await changes(...resources))
      .map(({ from, to, protocol, port, before, verdict }) =>
        [from.endpoint ?? from.address, to.endpoint ?? to.address, `${protocol}/${port}`, before, verdict].join(' '),
      )
      .sort();
  const restart = async (change: () => void = () => {}): Promise<void> => {
    await keeper.close({ purge: false });
    change();
    keeper = open();
    await keeper.start();
  };
  const deny = (event: Partial<PolicyEvent>): void => {
    for (const listener of listeners)
      listener({ kind: 'denied', atMs: now, direction: 'ingress', ...event } as PolicyEvent);
  };
  return {
    ...plane,
    directory,
    warnings,
    records,
    whatIf,
    open: open1,
    advance,
    setClock,
    changes,
    lines,
    restart,
    deny,
    report: classes.report,
  };
}

t.test(
  'what cron did an hour ago is among what a change would deny, also after a restart, and when it has gone',
  async (t) => {
    const { open, advance, lines, changes, restart, cluster, warnings } = await lab(t);
    const close = open({ from: '10.0.0.12' });
    const closeOther = open({ from: '10.0.0.10' });
    await advance(2 * SECOND);
    close();
    closeOther();
    await advance(HOUR);
    const admitWeb = policy('db', fromApp('web'));
    const expected = ['job-1 db tcp/5432 allow deny'];
    t.same(await lines(admitWeb), expected);
    const [one] = await changes(admitWeb);
    t.match(one, { opened: 0, covers: 'exact', because: /ingress: isolated for ingress by networkpolicy db/ });
    t.equal(Date.parse(one!.lastSeen), 1_800_000_000_000, 'an hour ago');
    await restart();
    t.same(await lines(admitWeb), expected, 'after a restart');
    await cluster.delete(endpointKind, { name: 'job-1' });
    t.match(await changes(admitWeb), [
      { from: { endpoint: 'job-1', address: '10.0.0.12', gone: true }, verdict: 'deny' },
    ]);
    await advance(2 * MINUTE);
    await restart();
    t.same(await lines(admitWeb), expected, 'one like it would be denied');
    t.same(
      await lines(policy('db', fromApp('job'))),
      ['web db tcp/5432 allow deny'],
      'and would be allowed by its labels',
    );
    await cluster.apply([here('job-2', '10.0.0.14', 'job')]);
    const next = open({ from: '10.0.0.14' });
    await advance(SECOND);
    next();
    t.same(await lines(admitWeb), ['job-1 db tcp/5432 allow deny', 'job-2 db tcp/5432 allow deny']);
    await cluster.delete(endpointKind, { name: 'job-2' });
    await advance(2 * MINUTE);
    t.match(await changes(admitWeb), [{ from: { endpoint: 'job-2', gone: true } }], 'they are one class');
    await advance(6 * DAY);
    t.equal((await lines(admitWeb)).length, 1);
    await advance(DAY);
    t.same(await lines(admitWeb), [], 'a week later it is forgotten');
    t.same(warnings, []);
  },
);

t.test(
  'a proposed state: other labels, other namespaces, what is allowed again, both directions, other hosts',
  async (t) => {
    const { open, advance, lines, cluster, deny } = await lab(t);
    for (const from of ['10.0.0.10', '10.0.0.12', '10.0.0.13']) open({ from });
    open({ from: '10.0.0.10', to: '10.0.0.13', port: 80 });
    open({ from: '10.0.0.13', to: '10.0.0.10', port: 80, protocol: UDP });
    open({ from: '10.0.0.10', to: '10.0.0.11', port: 8080, vip: '10.96.0.1' });
    open({ from: '203.0.113.7', to: '10.0.0.11', port: 443, places: [OUTSIDE, BLUE], vip: '192.0.2.1' });
    open({ from: '10.0.0.1', to: '10.0.0.11', port: 8080, places: [INTERNAL, BLUE] });
    open({ from: '10.0.0.11', to: '10.0.0.11', port: 1 });
    open({ from: '10.0.0.11', to: '10.0.0.11', port: 2, vip: '10.96.0.1' });
    await advance(SECOND);
    t.same(
      await lines(policy('db', forDb)),
      [
        '203.0.113.7 db tcp/443 allow deny',
        'db db tcp/2 allow deny',
        'far db tcp/5432 allow deny',
        'job-1 db tcp/5432 allow deny',
        'web db tcp/5432 allow deny',
        'web db tcp/8080 allow deny',
      ],
      'weft itself is not asked, nor who talks to its own address',
    );
    t.same(await lines(policy('web', { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Egress'] })), [
      'web db tcp/5432 allow deny',
      'web db tcp/8080 allow deny',
      'web far tcp/80 allow deny',
    ]);
    t.same(await lines(policy('far', { podSelector: { matchLabels: { app: 'far' } } })), [], 'that host is asked');
    await cluster.apply([policy('db', fromApp('web'))]);
    t.same(await lines(here('web', '10.0.0.10', 'web2')), ['web db tcp/5432 allow deny'], 'other labels');
    t.same(await lines(policy('db', fromApp('job'))), ['job-1 db tcp/5432 deny allow', 'web db tcp/5432 allow deny']);
    await cluster.apply([
      policy('db', { ...forDb, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: 'a' } } }] }] }),
    ]);
    t.same(await lines(namespace('default', { team: 'a' })), [
      'db db tcp/2 deny allow',
      'far db tcp/5432 deny allow',
      'job-1 db tcp/5432 deny allow',
      'web db tcp/5432 deny allow',
      'web db tcp/8080 deny allow',
    ]);
    const end = (address: string, endpoint?: string) => ({ address: parseIp(address), endpoint });
    const told = (to: ReturnType<typeof end>) => ({
      from: end('10.0.0.10', 'web'),
      to,
      meant: to.address,
      place: BLUE,
    });
    deny({ protocol: TCP, l4Port: 22, ...told(end('10.0.0.11', 'db')) });
    deny({ protocol: UDP, l4Port: 53, direction: 'egress', ...told(end('198.51.100.3')) });
    const found = await lines(policy('db', { ...forDb, ingress: [{ ports: [{ port: 22 }] }] }));
    t.same(found, ['web db tcp/22 deny allow'], 'what was denied would be allowed');
  },
);

t.test('a clock that is set makes nobody forget, or remember for longer', async (t) => {
  const { open, advance, setClock, lines, changes, restart } = await lab(t);
  const close = open({ from: '10.0.0.12' });
  await advance(SECOND);
  close();
  const admitWeb = policy('db', fromApp('web'));
  const expected = ['job-1 db tcp/5432 allow deny'];
  for (const days of [30, -1000]) {
    setClock(days * DAY);
    await advance(MINUTE);
    t.same(await lines(admitWeb), expected, `${days} days ahead`);
  }
  setClock(0);
  await advance(MINUTE);
  t.equal(Date.parse((await changes(admitWeb))[0]!.lastSeen), 1_800_000_000_000);
  await restart(() => setClock(-1000 * DAY));
  await advance(MINUTE);
  t.same(await lines(admitWeb), expected, 'a machine whose clock is set after its start');
  setClock(0);
  await advance(MINUTE);
  t.same(await lines(admitWeb), expected);
  setClock(-1000 * DAY);
  await advance(7 * DAY);
  t.same(await lines(admitWeb), [], 'a week later it is forgotten');
});

t.test('a file that is damaged is begun anew, and that is told', async (t) => {
  const { open, advance, lines, restart, warnings, directory, report } = await lab(t);
  open({ from: '10.0.0.12' })();
  open({ from: '10.0.0.10' });
  await advance(SECOND);
  await restart(() => writeFileSync(join(directory, 'flow-classes'), 'x'));
  t.match(warnings, [{ message: /cannot be read: they begin anew/, path: /flow-classes$/, why: /version/ }]);
  t.same(await lines(policy('db', forDb)), ['web db tcp/5432 allow deny'], 'what is open is seen again');
  await restart();
  t.equal(warnings.length, 1);
  t.match(report(), { count: 1, givenUp: 0, passedOver: 0 });
});

const kinds: Record<string, (options: DatapathOptions) => Datapath & Injectable> = {
  reference: openReferenceDatapath,
  native: (options) => openNativeDatapath({ ...options, threads: 0 }),
};
const pods = ['web', 'api', 'db'].map(
  (name, n): Pod => ({
    ...{ name, namespace: 'shop', labels: { app: name }, ports: [] },
    addresses: [`10.0.0.${n + 2}`],
  }),
);
const world: World = { namespaces: [{ name: 'shop', labels: {} }], pods, policies: [] };

for (const [kind, open] of Object.entries(kinds)) {
  t.test(`${kind}: what the datapath opens by itself is seen, and what is denied`, async (t) => {
    const net = createSimulation({ open });
    t.teardown(() => net.close());
    const host = net.host('a', '192.0.2.1');
    host.createNetwork('blue', BLUE, { subnets: ['10.0.0.0/24'] });
    const ports = pods.map(({ name, addresses }, n) =>
      host.attach({ name: `shop/${name}`, network: 'blue', mac: `02:00:00:00:00:0${n + 2}`, addresses }),
    );
    const { controller, datapath, tables } = host.forwarding;
    const known = new Map(pods.map((pod) => [pod.addresses[0]!, pod]));
    tables.policies.workloadsFrom((address) => {
      const pod = known.get(formatIp(address));
      return pod && { endpoint: `shop/${pod.name}`, identity: identityOf(world, pod) };
    });
    const classes = new FlowClasses();
    const watch = new ClassWatch({
      ...{ classes, tables, flows: controller.flows, policyLog: controller.policyLog },
      records: datapath.connections.records,
      networkOf: (name) => (name.startsWith('shop/') ? BLUE : undefined),
      clock: () => net.nowMs,
    });
    const ends = (from: number) => ({
      ...{ srcMac: `02:00:00:00:00:0${from}`, dstMac: '02:00:00:00:00:04' },
      ...{ src: `10.0.0.${from}`, dst: '10.0.0.4' },
    });
    const syn = (from: number, destinationPort: number) =>
      tcp(ends(from), { sourcePort: 2000, destinationPort, flags: SYN });
    const all = (): string[] =>
      [...classes.values()]
        .map(
          (one) =>
            `${one.from.endpoint} ${one.to.endpoint} ${one.protocol}/${one.l4Port} ${one.verdict} ${one.opened}+${one.denied}`,
        )
        .sort();
    await watch.look(false);
    const upcalls = () => datapath.counters().upcalls;
    ports[0]!.send(udp(ends(2), 1000, 53));
    const before = upcalls();
    for (let n = 1; n < 100; n++) ports[0]!.send(udp(ends(2), 1000 + n, 53));
    t.ok(upcalls() - before < 5, `they were opened natively: ${upcalls() - before} upcalls`);
    ports[1]!.send(syn(3, 5432));
    await watch.look(false);
    t.same(all(), ['shop/api shop/db 6/5432 allow 1+0', 'shop/web shop/db 17/53 allow 100+0']);
    await watch.look(true);
    t.same(all(), ['shop/api shop/db 6/5432 allow 1+0', 'shop/web shop/db 17/53 allow 100+0'], 'each is counted once');

    tables.policies.setSubject('shop/db', {
      ...{ identity: identityOf(world, pods[2]!), onDeny: 'drop' },
      policies: [
        policyOf({ kind: 'NetworkPolicy', metadata: { name: 'db', namespace: 'shop' }, spec: { podSelector: {} } }),
      ],
    });
    controller.enforce();
    net.advance(SECOND);
    ports[0]!.send(syn(2, 22));
    net.advance(SECOND);
    const denied = () => [...classes.values()].find(({ l4Port }) => l4Port === 22)!;
    t.match(all(), [
      'shop/api shop/db 6/5432 allow 1+0',
      /shop\/web shop\/db 17\/53 allow/,
      'shop/web shop/db 6/22 deny 0+1',
    ]);
    const { lastSeenMs } = denied();
    for (let n = 0; n < 3; n++) {
      net.advance(5 * SECOND);
      ports[0]!.send(syn(2, 22));
    }
    await watch.look(true);
    t.ok(denied().lastSeenMs >= lastSeenMs + 14 * SECOND, 'it is denied again and again');
    watch.close();
  });

  t.test(
    `${kind}: what was allowed and is denied by now is one class, through services and to other networks, too`,
    async (t) => {
      for (const direction of ['egress', 'ingress'] as const) {
        const net = createSimulation({ open });
        t.teardown(() => net.close());
        const host = net.host('a', '192.0.2.1');
        const networks = [
          { name: 'blue', vni: BLUE, subnet: '10.0.0.0/24', to: '10.1.0.0/24', network: 'red', outside: true },
          { name: 'red', vni: RED, subnet: '10.1.0.0/24', to: '10.0.0.0/24', network: 'blue', outside: false },
        ];
        for (const { name, vni, subnet, to, network, outside } of networks)
          host.createNetwork(name, vni, { subnets: [subnet], routes: [{ to, network }], outside });
        host.openOutside({ transit: ['169.254.77.2'] });
        const there: Pod = { name: 'there', namespace: 'shop', labels: {}, ports: [], addresses: ['10.1.0.5'] };
        const all = [...pods, there];
        const [web] = all.map(({ name, addresses }, n) =>
          host.attach({
            ...{ name: `shop/${name}`, network: name === 'there' ? 'red' : 'blue' },
            ...{ mac: `02:00:00:00:00:0${n + 2}`, addresses },
          }),
        );
        const { forwarding } = host;
        const { controller, datapath, tables } = forwarding;
        const known = new Map(all.map((pod) => [pod.addresses[0]!, pod]));
        const everybody: World = { ...world, pods: all };
        tables.policies.workloadsFrom((address) => {
          const pod = known.get(formatIp(address));
          return pod && { endpoint: `shop/${pod.name}`, identity: identityOf(everybody, pod) };
        });
        for (const [n, { address, endpoint, vni }] of [
          { address: '10.0.0.4', endpoint: 'shop/db', vni: BLUE },
          { address: '10.1.0.5', endpoint: 'shop/there', vni: RED },
        ].entries()) {
          forwarding.setService(
            service({
              ...{ id: `shop/s${n}`, vips: [parseIp(`10.96.0.${n + 1}`)] },
              ...{ backends: [backend(address, { vni, host: 'a', endpoint })], ports: [servicePort(1)] },
            }),
          );
        }
        const classes = new FlowClasses();
        const watch = new ClassWatch({
          ...{ classes, tables, flows: controller.flows, policyLog: controller.policyLog },
          records: datapath.connections.records,
          networkOf: (name) => (name === 'shop/there' ? RED : BLUE),
          clock: () => net.nowMs,
        });
        await watch.look(false);
        const asked = ['10.0.0.4', '10.1.0.5', '10.96.0.1', '10.96.0.2'];
        if (direction === 'egress') asked.push('203.0.113.9');
        const ask = (sourcePort: number): void => {
          for (const dst of asked) {
            const dstMac = dst === '10.0.0.4' ? '02:00:00:00:00:04' : formatMac(gatewayMac(BLUE));
            const ends = { src: '10.0.0.2', dst, srcMac: '02:00:00:00:00:02', dstMac };
            web!.send(tcp(ends, { sourcePort, destinationPort: 80, flags: SYN }));
          }
        };
        const counts = (): string[] => [...classes.values()].map(({ opened, denied }) => `${opened}+${denied}`);
        ask(2000);
        await watch.look(false);
        t.same(
          counts(),
          asked.map(() => '1+0'),
        );
        const closed = policyOf({
          ...{ kind: 'NetworkPolicy', metadata: { name: 'closed', namespace: 'shop' } },
          spec: { podSelector: {}, policyTypes: [direction === 'egress' ? 'Egress' : 'Ingress'] },
        });
        for (const pod of all)
          tables.policies.setSubject(`shop/${pod.name}`, {
            ...{ identity: identityOf(everybody, pod), onDeny: 'drop', policies: [closed] },
          });
        controller.enforce();
        net.advance(SECOND);
        ask(3000);
        await watch.look(true);
        t.same(
          counts(),
          asked.map(() => '1+1'),
          direction,
        );
        t.ok([...classes.values()].every(({ verdict }) => verdict === 'deny'));
        watch.close();
      }
    },
  );
}

t.test('a scan in the records: so many are read, the rest is counted, and what others do is seen', async (t) => {
  const count = 40_000;
  const plane = await openControlPlane(t);
  const records = new ConnectionRecords(new Uint8Array(connectionBytes(count)));
  const classes = new FlowClasses();
  const watch = new ClassWatch({
    ...{ classes, records, tables: plane.forwarding.tables, flows: plane.forwarding.controller.flows },
    policyLog: plane.forwarding.controller.policyLog,
    networkOf: () => undefined,
    clock: () => 0,
  });
  await watch.look(false);
  const write = (slot: number, from: string, port: number): void => {
    const tuple = { source: parseIp(from), sourcePort: 1, destination: parseIp('10.0.0.11'), destinationPort: port };
    records.write(slot, 2 * (slot + 1), {
      ...{ kind: 'tracked', places: [BLUE, BLUE], protocol: TCP, original: tuple, translated: tuple },
    });
  };
  for (let n = 0; n < count - 1; n++) write(n, '10.0.0.10', n % 65_536);
  write(count - 1, '10.0.0.12', 5432);
  records.ready = count;
  await watch.look(false);
  const seen = [...classes.values()];
  t.equal(seen.filter(({ from }) => formatIp(from.address) === '10.0.0.12').length, 1);
  t.ok(seen.length < 600, `${seen.length} classes`);
  t.equal(
    seen.reduce((sum, { opened }) => sum + opened, watch.passedOver),
    count,
    'all are counted',
  );
  t.ok(watch.passedOver > 0);
  watch.close();
});
