/**
 * Backends that are ejected because connections to them fail: what the switch sees of connections, by real frames through
 * both datapaths.
 *
 *   client ── weft ─┬─ one, two, three     service web: TCP 80 → 8080, UDP 53
 */
import t from 'tap';
import type { Endpoint } from '../../src/cluster/endpoint.ts';
import type { Endpoints } from '../../src/cluster/endpoints.ts';
import type { Networks } from '../../src/cluster/networks.ts';
import { policyParts } from '../../src/cluster/policies/parts.ts';
import { parseIp } from '../../src/flow/types.ts';
import { createSimulation, type SimulatedHost } from '../../src/simulation.ts';
import type { Backend, OutlierSettings, Service } from '../../src/table/service.ts';
import { buildIcmpError } from '../../src/wire/icmp-error.ts';
import { IP_ICMP, IP_UDP } from '../../src/wire/ipv4.ts';
import { ACK, backendLab, datapaths, gateway, macOf, RST, SYN, VNI } from '../support/backend-lab.ts';
import * as frames from '../support/frames.ts';
import { parsePacket, type Packet } from '../support/packets.ts';
import { policyOf } from '../support/policy/tables.ts';
import { backend, service, servicePort } from '../support/services.ts';

const settings: OutlierSettings = {
  failures: 3,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  mostEjectedPercent: 50,
  leastHealthyPercent: 0,
};

/**
 * What becomes of what comes to a backend: it answers, refuses, or says nothing; or an ICMP error says that it is not there, from its
 * own port, or from that of another container.
 */
type Manner = 'answers' | 'resets' | 'silent' | 'unreachable' | 'too big' | 'slandered';

/** The policies of a host, as the cluster hands them over. @param isHere by the last number of their addresses */
function policiesOf({ forwarding }: SimulatedHost, isHere: (last: number) => boolean) {
  const endpoints = new Map(
    [2, 3, 4, 5, 6].map((last) => {
      const name = `e${last}`;
      const resource = { metadata: { name, namespace: 'default', labels: {} }, spec: { network: 'blue' } };
      const at = { addresses: [`10.0.0.${last}`], mac: macOf(last), host: isHere(last) ? undefined : 'elsewhere' };
      return [name, { name, resource, ...at } as unknown as Endpoint];
    }),
  );
  const pool = { contains: () => true, ownerOf: (address: bigint) => `e${address & 255n}` };
  const { enforcement } = policyParts({
    forwarding,
    networks: () => ({ at: () => ({ pools: [pool] }) }) as unknown as Networks,
    endpoints: () =>
      ({ find: (name: string) => endpoints.get(name), values: () => endpoints.values() }) as unknown as Endpoints,
  });
  for (const endpoint of endpoints.values()) enforcement.endpointChanged(undefined, endpoint);
  return {
    /** Backends admit these, and answer all others with a reset. */
    put: (cidrs: readonly string[]): void => {
      const spec = { podSelector: {}, ingress: cidrs.map((cidr) => ({ from: [{ ipBlock: { cidr } }] })) };
      const annotations = { 'weft.dev/on-deny': 'reject' };
      const metadata = { name: 'one', namespace: 'default', annotations };
      const policy = policyOf({ kind: 'NetworkPolicy', metadata, spec });
      enforcement.policyChanged('NetworkPolicy', 'one', { selector: { namespaces: 'default', pods: [] }, policy });
      enforcement.settle();
    },
  };
}

for (const [kind, open] of Object.entries(datapaths)) {
  function lab(given: Partial<Service> = {}) {
    const { net, host, attach, client, ports } = backendLab(open);
    const other = attach(6);
    const manners = new Map<number, Manner>();
    const backends = [3, 4, 5].map((last) => backend(`10.0.0.${last}`, { vni: VNI, endpoint: `default/e${last}` }));
    const web = service({
      ...{ backends, balancing: 'round-robin', outlier: settings },
      ports: [servicePort(3), servicePort(3, { protocol: IP_UDP, l4Port: 53 })],
      ...given,
    });
    host.forwarding.setService(web);
    let sourcePort = 20_000;

    /** What came to a backend since the last time. */
    const arrived = (): { last: number; frame: Uint8Array; packet: Packet }[] =>
      [...ports].flatMap(([last, { received }]) =>
        received.splice(0).map((frame) => ({ last, frame, packet: parsePacket(frame) })),
      );
    const respond = (
      last: number,
      frame: Uint8Array,
      { protocol, sourcePort: to, destinationPort, sequence }: Packet,
    ) => {
      const ends = { srcMac: macOf(last), dstMac: gateway, src: `10.0.0.${last}`, dst: `10.0.0.${frame[29]}` };
      const back = { sourcePort: destinationPort, destinationPort: to, acknowledgment: sequence + 1 };
      const port = ports.get(last)!;
      const manner = manners.get(last) ?? 'answers';
      if (manner === 'unreachable' || manner === 'too big') {
        const router = { mac: Buffer.from(macOf(last).replaceAll(':', ''), 'hex'), ip: parseIp(`10.0.0.${last}`) };
        port.send(buildIcmpError(manner === 'too big' ? 'too_big' : 'host_unreachable', frame, router, 1400));
      } else if (manner === 'slandered') {
        const speaker = { mac: Buffer.from(macOf(6).replaceAll(':', ''), 'hex'), ip: parseIp('10.0.0.6') };
        other.send(buildIcmpError('host_unreachable', frame, speaker, 1400));
      } else if (protocol === 'udp') {
        if (manner === 'answers') port.send(frames.udp(ends, destinationPort, to));
      } else if (manner === 'answers') port.send(frames.tcp(ends, { ...back, sequence: 77, flags: SYN | ACK }));
      else if (manner === 'resets') port.send(frames.tcp(ends, { ...back, sequence: 0, flags: RST | ACK }));
    };
    /** Opens a connection. @returns the backend that got it */
    const connect = (protocol: 'tcp' | 'udp' = 'tcp', from: 2 | 6 = 2): number => {
      const ends = { srcMac: macOf(from), dstMac: gateway, src: `10.0.0.${from}`, dst: '10.96.0.1' };
      sourcePort++;
      (from === 2 ? client : other).send(
        protocol === 'tcp'
          ? frames.tcp(ends, { sourcePort, destinationPort: 80, sequence: 5, flags: SYN })
          : frames.udp(ends, sourcePort, 53),
      );
      const [first] = arrived();
      if (!first) return 0;
      respond(first.last, first.frame, first.packet);
      return first.last;
    };
    const { services } = host.forwarding.tables;
    const fault = (last: number): string | undefined =>
      services.healthOf(web.id, backends.find(({ address }) => address[15] === last)!)?.detail;
    /** Which backends the next connections get. */
    const used = (count = 12): number[] =>
      [...new Set(Array.from({ length: count }, () => connect()))].sort((a, b) => a - b);
    return { net, host, web, manners, connect, used, fault, arrived, client };
  }

  const failing: Readonly<Record<Exclude<Manner, 'answers' | 'too big' | 'slandered'>, string>> = {
    resets: '3 connections refused, until 1970-01-01T00:00:30Z',
    silent: 'no answer to 3 connections, until 1970-01-01T00:00:32Z',
    unreachable: 'not reached by 3 connections, until 1970-01-01T00:00:30Z',
  };
  for (const [manner, why] of Object.entries(failing) as [Manner, string][]) {
    t.test(`${kind}, ${manner}: ejected after three in a row, and back when its time is over`, async (t) => {
      const { net, manners, connect, used, fault } = lab();
      manners.set(4, manner);
      for (let i = 0; i < 6; i++) connect();
      net.advance(manner === 'silent' ? 2000 : 0);
      t.equal(fault(4), undefined, 'twice is not enough');
      for (let i = 0; i < 3; i++) connect();
      net.advance(manner === 'silent' ? 1999 : 0);
      if (manner === 'silent') {
        t.equal(fault(4), undefined, 'nobody is judged before two seconds');
        net.advance(1);
      }
      t.equal(fault(4), manner === 'silent' ? why.replace('32', '34') : why);
      t.same(used(), [3, 5]);
      manners.delete(4);
      net.advance(29_999);
      t.same(used(), [3, 5]);
      net.advance(1);
      t.equal(fault(4), undefined);
      t.same(used(), [3, 4, 5]);
      net.close();
    });
  }

  t.test(
    `${kind}: a connection that works begins the row again, and the second ejection is twice as long`,
    async (t) => {
      const { net, manners, connect, fault } = lab();
      const round = (manner: Manner): void => {
        manners.set(4, manner);
        for (let i = 0; i < 3; i++) connect();
        net.advance(0);
      };
      for (const manner of ['resets', 'resets', 'answers', 'resets', 'resets'] as const) round(manner);
      t.equal(fault(4), undefined);
      round('resets');
      t.ok(fault(4)?.endsWith('until 1970-01-01T00:00:30Z'));
      net.advance(30_000);
      for (let i = 0; i < 3; i++) round('resets');
      t.ok(fault(4)?.endsWith('until 1970-01-01T00:01:30Z'));
      net.close();
    },
  );

  t.test(`${kind}: no more than the share is ejected, and in a panic nobody is`, async (t) => {
    const { net, manners, connect, used, fault } = lab({ outlier: { ...settings, mostEjectedPercent: 70 } });
    for (const last of [3, 4, 5]) manners.set(last, 'resets');
    for (let i = 0; i < 12; i++) connect();
    net.advance(0);
    t.equal([3, 4, 5].filter((last) => fault(last) !== undefined).length, 2);
    t.equal(used().length, 1);
    net.close();

    const panic = lab({ outlier: { ...settings, mostEjectedPercent: 100, leastHealthyPercent: 50 } });
    for (const last of [3, 4, 5]) panic.manners.set(last, 'resets');
    for (let i = 0; i < 12; i++) panic.connect();
    panic.net.advance(0);
    t.same(panic.used(), [3, 4, 5], 'fewer than half are left');
    t.same(panic.host.forwarding.outliers.statistics, { ejections: 3, ejected: 0 });
    panic.net.advance(30_000);
    panic.manners.clear();
    t.same(panic.used(), [3, 4, 5]);
    panic.net.close();
  });

  t.test(
    `${kind}: silence before one client ejects nobody where others come, and is believed where none does`,
    async (t) => {
      const { net, manners, connect, fault } = lab();
      const by = (from: 2 | 6, manner: Manner, times: number): void => {
        manners.set(4, manner);
        for (let i = 0; i < 3 * times; i++) connect('tcp', from);
        net.advance(manner === 'silent' ? 2000 : 0);
      };
      by(6, 'answers', 1);
      by(2, 'silent', 5);
      t.equal(fault(4), undefined, 'another one has come just now');
      by(6, 'silent', 1);
      t.match(fault(4), /^no answer to 3 connections/, 'which has failed now, too');
      net.advance(30_000);
      t.equal(fault(4), undefined);
      by(2, 'silent', 3);
      t.match(fault(4), /^no answer to 3 connections/, 'nobody else has come for long');
      connect('tcp', 6);
      t.equal(fault(4), undefined, 'until somebody comes');
      by(2, 'silent', 3);
      t.equal(fault(4), undefined);
      by(6, 'silent', 1);
      t.match(
        fault(4),
        /until 1970-01-01T00:01:40Z/,
        'and has failed, too: what was not believed has not made it longer',
      );
      net.advance(0);
      net.close();
    },
  );

  t.test(
    `${kind}: another container has nothing to say about a backend: no client hears it, and nobody is ejected`,
    async (t) => {
      const { net, client, manners, connect, fault } = lab();
      manners.set(4, 'slandered');
      client.received.splice(0);
      for (const protocol of ['tcp', 'udp'] as const) for (let i = 0; i < 9; i++) connect(protocol);
      net.advance(0);
      t.equal(fault(4), undefined);
      t.notOk(
        client.received.some((frame) => frame[14 + 9] === IP_ICMP),
        'the client hears nothing',
      );
      net.close();
    },
  );

  t.test(`${kind}: a backend that refuses one client is ejected, whoever else comes`, async (t) => {
    const { net, manners, connect, fault } = lab();
    for (let i = 0; i < 3; i++) connect('tcp', 6);
    manners.set(4, 'resets');
    for (let i = 0; i < 9; i++) connect('tcp', 2);
    net.advance(0);
    t.match(fault(4), /^3 connections refused/);
    for (let i = 0; i < 3; i++) connect('tcp', 6);
    t.match(fault(4), /^3 connections refused/, 'and stays so');
    net.close();
  });

  t.test(`${kind}: whom policies of another host deny ejects nobody; whom they admit is believed`, async (t) => {
    const net = createSimulation({ open, sharesStore: true });
    const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
    for (const host of [a, b]) host.createNetwork('blue', VNI, { subnets: ['10.0.0.0/24'] });
    const attach = (host: SimulatedHost, last: number) =>
      host.attach({ name: `e${last}`, network: 'blue', mac: macOf(last), addresses: [`10.0.0.${last}`] });
    const clients = { 2: attach(a, 2), 6: attach(a, 6) };
    const ports = new Map([3, 4, 5].map((last) => [last, attach(b, last)]));
    const policies = [
      policiesOf(a, (last) => last === 2 || last === 6),
      policiesOf(b, (last) => last >= 3 && last <= 5),
    ];
    const backends = [3, 4, 5].map((last) =>
      backend(`10.0.0.${last}`, { vni: VNI, host: 'b', endpoint: `default/e${last}` }),
    );
    const outlier = { ...settings, mostEjectedPercent: 100 };
    const web = service({ backends, balancing: 'round-robin', outlier, ports: [servicePort(3)] });
    a.forwarding.setService(web);
    let sourcePort = 20_000;
    /** @returns whether a reset came back */
    const connect = (from: 2 | 6, flags = SYN | ACK): boolean => {
      const src = `10.0.0.${from}`;
      const ends = { srcMac: macOf(from), dstMac: gateway, src, dst: '10.96.0.1', ip4: { ttl: 64 } };
      sourcePort++;
      clients[from].send(frames.tcp(ends, { sourcePort, destinationPort: 80, sequence: 5, flags: SYN }));
      for (const [last, port] of ports) {
        const back = { srcMac: macOf(last), dstMac: macOf(from), src: `10.0.0.${last}`, dst: src };
        const answer = { sourcePort: 8080, destinationPort: sourcePort, sequence: 77, acknowledgment: 6, flags };
        if (port.received.splice(0).length > 0) port.send(frames.tcp(back, answer));
      }
      return clients[from].received.splice(0).some((frame) => (parsePacket(frame).flags & RST) !== 0);
    };
    const ejections = (): number => a.forwarding.outliers.statistics.ejections;
    for (const each of policies) each.put(['10.0.0.6/32']);
    t.ok(connect(2), 'the other host answers in the name of the backend');
    for (let i = 0; i < 60; i++) {
      connect(2);
      if (i % 5 === 4) net.advance(50);
    }
    net.advance(50);
    t.equal(ejections(), 0);
    t.notOk(connect(6));
    for (let i = 0; i < 9; i++) connect(6, RST | ACK);
    net.advance(50);
    t.equal(ejections(), 3, 'those who refuse one that may come, whoever else comes');
    net.advance(30_000);
    for (const each of policies) each.put(['10.0.0.6/32', '10.0.0.2/32']);
    for (let i = 0; i < 9; i++) connect(2, RST | ACK);
    net.advance(50);
    t.equal(ejections(), 6, 'and now the other one may');
    net.close();
  });

  t.test(`${kind}: what failed while its check failed is not held against it afterwards`, async (t) => {
    const { net, host, web, manners, connect, fault } = lab();
    const [, { address }] = web.backends as [Backend, Backend];
    for (let i = 0; i < 3; i++) connect('tcp', 6);
    manners.set(4, 'silent');
    for (let i = 0; i < 6; i++) connect('tcp', 2);
    host.forwarding.setHealth(web.id, 'check_failed', [[address, 'refused']]);
    net.advance(2000);
    host.forwarding.setHealth(web.id, 'check_failed', [[address, undefined]]);
    manners.set(4, 'resets');
    for (let i = 0; i < 3; i++) connect('tcp', 6);
    net.advance(0);
    t.equal(fault(4), undefined, 'one connection has failed since');
    net.close();
  });

  t.test(`${kind}: a failed check counts as one that is not there`, async (t) => {
    const { net, host, web, manners, connect, used } = lab({ outlier: { ...settings, mostEjectedPercent: 70 } });
    for (const { address } of web.backends.slice(1))
      host.forwarding.setHealth(web.id, 'check_failed', [[address, 'refused']]);
    manners.set(3, 'resets');
    for (let i = 0; i < 4; i++) connect();
    net.advance(0);
    t.same(used(), [3], 'a last one is not ejected');
    net.close();
  });

  t.test(`${kind}: a service that asks for it no more, or has gone, has nobody ejected`, async (t) => {
    const { net, host, web, manners, connect, fault, used, arrived } = lab();
    const eject = (): void => {
      manners.set(4, 'resets');
      for (let i = 0; i < 9; i++) connect();
      net.advance(0);
      t.ok(fault(4));
    };
    eject();
    host.forwarding.setService({ ...web, outlier: undefined });
    t.equal(fault(4), undefined);
    t.same(used(), [3, 4, 5]);
    host.forwarding.setService(web);
    eject();
    host.forwarding.removeService(web.id);
    host.forwarding.setService(web);
    manners.clear();
    t.not(arrived().length, 0, 'the ends of its connections are told');
    t.same(used(), [3, 4, 5], 'another one with its name is not it');
    t.same(host.forwarding.outliers.statistics.ejected, 0);
    net.close();
  });

  t.test(`${kind}: UDP: errors count, and silence does not`, async (t) => {
    const { net, manners, connect, fault } = lab();
    manners.set(4, 'silent');
    for (let i = 0; i < 15; i++) connect('udp');
    net.advance(3000);
    t.equal(fault(4), undefined);
    manners.set(4, 'too big');
    for (let i = 0; i < 9; i++) connect('udp');
    net.advance(0);
    t.equal(fault(4), undefined, 'it comes smaller the next time');
    manners.set(4, 'unreachable');
    for (let i = 0; i < 9; i++) connect('udp');
    net.advance(0);
    t.match(fault(4), /^not reached by 3 connections/);
    net.close();
  });

  t.test(`${kind}: a client that gives up by itself, or whose connection is given up, says nothing`, async (t) => {
    const { net, host, manners, connect, fault, client, arrived } = lab();
    const nothing = [undefined, undefined, undefined];
    manners.set(4, 'silent');
    for (let i = 0; i < 9; i++) connect();
    host.forwarding.endConnections(() => true);
    net.advance(3000);
    t.same([3, 4, 5].map(fault), nothing, 'they ended before they had an answer');
    for (let sourcePort = 30_000; sourcePort < 30_009; sourcePort++) {
      const ends = { srcMac: macOf(2), dstMac: gateway, src: '10.0.0.2', dst: '10.96.0.1' };
      client.send(frames.tcp(ends, { sourcePort, destinationPort: 80, sequence: 5, flags: SYN }));
      client.send(frames.tcp(ends, { sourcePort, destinationPort: 80, sequence: 6, flags: RST }));
    }
    arrived();
    net.advance(3000);
    t.same([3, 4, 5].map(fault), nothing, 'the client has reset them');
    net.close();
  });

  t.test(`${kind}: services that do not ask for it have no pools`, async (t) => {
    const { net, manners, connect, used } = lab({ outlier: undefined });
    manners.set(4, 'resets');
    for (let i = 0; i < 30; i++) connect();
    net.advance(0);
    t.same(used(), [3, 4, 5]);
    net.close();
  });
}
