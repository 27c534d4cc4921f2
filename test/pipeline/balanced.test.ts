/**
 * New connections through a service that cost no decision, by real frames through both datapaths: what JavaScript still knows
 * of them, and that they end when they have to.
 *
 *   client ── weft ─┬─ 10.0.0.3, 10.0.0.4, 10.0.0.5     service web: TCP 80 → 8080
 */
import t from 'tap';
import { formatIp, parseIp, parseMac } from '../../src/flow/types.ts';
import type { Backend, Service } from '../../src/table/service.ts';
import { ACK, backendLab, datapaths, gateway, macOf, RST, SYN, VNI } from '../support/backend-lab.ts';
import * as frames from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { policyOf } from '../support/policy/tables.ts';
import { backend, service, servicePort } from '../support/services.ts';

for (const [kind, open] of Object.entries(datapaths)) {
  function lab(given: Partial<Service> = {}) {
    const { net, host, client, ports } = backendLab(open);
    const { forwarding } = host;
    const { services, connections } = forwarding.tables;
    services.setHost('here', undefined);
    const declareAll = (backends: Backend[]): void =>
      forwarding.setService(service({ backends, ports: [servicePort(backends.length)], ...given }));
    const declare = (...lasts: number[]): void => {
      const here = { vni: VNI, host: 'here' };
      declareAll(lasts.map((last) => backend(`10.0.0.${last}`, { ...here, endpoint: `default/e${last}` })));
    };
    declare(3, 4, 5);
    forwarding.servicesLoaded();
    /** Opens a connection. @returns who got it; 0: nobody */
    const connect = (sourcePort: number, ttl = 64): number => {
      const ends = { srcMac: macOf(2), dstMac: gateway, src: '10.0.0.2', dst: '10.96.0.1', ip4: { ttl } };
      client.send(frames.tcp(ends, { sourcePort, destinationPort: 80, sequence: 5, flags: SYN }));
      for (const [last, { received }] of ports) if (received.splice(0).length > 0) return last;
      return 0;
    };
    /** Nobody is allowed what that endpoint receives, or sends. */
    const isolate = (name: string, direction: 'Ingress' | 'Egress', annotations: Record<string, string> = {}): void => {
      const identity = { namespace: 'default', labels: {}, namespaceLabels: {}, ports: [] };
      const closed = policyOf({
        ...{ kind: 'NetworkPolicy', metadata: { name: 'closed', namespace: 'default', annotations } },
        spec: { podSelector: {}, policyTypes: [direction] },
      });
      forwarding.tables.policies.setSubject(name, { identity, policies: [closed], onDeny: 'drop' });
      forwarding.controller.enforce();
    };
    const upcalls = (): number => forwarding.datapath.counters().upcalls;
    const entries = () => [...connections.entries()];
    return {
      net,
      host,
      forwarding,
      services,
      connections,
      client,
      ports,
      declare,
      declareAll,
      connect,
      isolate,
      upcalls,
      entries,
    };
  }
  type Lab = ReturnType<typeof lab>;
  /** Connections from these source ports, after a first one to each backend. */
  const connectAll = ({ connect, upcalls }: Lab, count: number): Map<number, number> => {
    for (let port = 100; port < 140; port++) connect(port);
    const before = upcalls();
    const got = new Map(Array.from({ length: count }, (_, n) => [1000 + n, connect(1000 + n)]));
    t.equal(upcalls(), before, 'no decision');
    return got;
  };

  t.test(`${kind}: everybody gets the backend that JavaScript would have chosen, and that is known`, async (t) => {
    const all = lab();
    const { services, entries, net } = all;
    for (const [sourcePort, last] of connectAll(all, 60)) {
      const original = {
        source: parseIp('10.0.0.2'),
        sourcePort,
        destination: parseIp('10.96.0.1'),
        destinationPort: 80,
      };
      const found = services.find(original.destination, 6, 80)!;
      const choice = services.choose(found, VNI, { protocol: 6, ...original });
      t.match(choice, { kind: 'backend', backend: { address: parseIp(`10.0.0.${last}`) } });
      const entry = entries().find((one) => one.original.sourcePort === sourcePort)!;
      t.match(services.kept(entry.slot), { pin: entry.pin, by: 'maglev', selection: { candidates: { length: 3 } } });
      t.equal(formatIp(services.pinned(entry.pin!)!.address), `10.0.0.${last}`);
    }
    const counted = new Set(entries().map(({ pin }) => pin!));
    t.equal(
      [...counted].reduce((sum, pin) => sum + services.pinned(pin)!.connections, 0),
      100,
    );
    net.close();
  });

  t.test(`${kind}: the connections of a backend that goes end at both ends, and no new one gets it`, async (t) => {
    const all = lab();
    const { declare, connect, entries, client, ports, services, net } = all;
    const got = connectAll(all, 60);
    client.received.splice(0);
    const gone = entries().find(({ translated }) => translated.destination[15] === 4)!;
    declare(3, 5);
    const resets = client.received.splice(0).map((frame) => parsePacket(frame));
    const lost = [...got].filter(([, last]) => last === 4).map(([port]) => port);
    t.ok(lost.length > 5);
    const told = new Set(
      resets.filter(({ flags }) => (flags & RST) !== 0).map(({ destinationPort }) => destinationPort),
    );
    for (const port of lost) t.ok(told.has(port), `port ${port} knows`);
    t.notOk([...got].some(([port, last]) => last !== 4 && told.has(port)));
    t.ok(ports.get(4)!.received.splice(0).length >= lost.length);
    t.match(services.kept(gone.slot), undefined, 'it has ended');
    for (let port = 3000; port < 3060; port++) t.not(connect(port), 4);
    const left = entries().find(({ original }) =>
      [...got].some(([port, last]) => last === 3 && port === original.sourcePort),
    )!;
    t.match(services.kept(left.slot), { selection: { candidates: { length: 3 } } }, 'chosen among three');
    net.close();
  });

  t.test(`${kind}: a packet with another TTL does not outlive its connection`, async (t) => {
    const all = lab();
    const { connect, client, ports, entries, upcalls, net } = all;
    connectAll(all, 5);
    const send = (ttl: number, flags = ACK): void => {
      const ends = { srcMac: macOf(2), dstMac: gateway, src: '10.0.0.2', dst: '10.96.0.1', ip4: { ttl } };
      client.send(frames.tcp(ends, { sourcePort: 1000, destinationPort: 80, sequence: 6, flags }));
    };
    send(64);
    send(63);
    const entry = entries().find(({ original }) => original.sourcePort === 1000)!;
    const [backendPort] = [...ports].filter(([, { received }]) => received.length === 2);
    t.ok(backendPort, 'both went to the same backend');
    for (const { received } of ports.values()) received.splice(0);
    const before = upcalls();
    send(63);
    t.equal(upcalls(), before, 'it is cached');
    const last = entry.translated.destination[15]!;
    const reset = { srcMac: macOf(last), dstMac: gateway, src: `10.0.0.${last}`, dst: '10.0.0.2' };
    ports
      .get(last)!
      .send(frames.tcp(reset, { sourcePort: 8080, destinationPort: 1000, acknowledgment: 6, flags: RST | ACK }));
    for (const { received } of ports.values()) received.splice(0);
    t.equal(connect(1000), last, 'it was reset, and another one begins');
    send(63);
    t.equal(ports.get(last)!.received.length, 1);
    net.close();
  });

  t.test(`${kind}: no connection gets a backend that denies it, however many there are on other hosts`, (t) => {
    for (const others of [1, 80]) {
      const { forwarding, isolate, declareAll, connect, net } = lab();
      const { tables } = forwarding;
      const there = parseIp('192.0.2.9');
      isolate('e3', 'Ingress');
      const elsewhere = Array.from({ length: others }, (_, n) => {
        const [mac, address] = [parseMac(`02:00:00:00:01:${(16 + n).toString(16)}`), `10.0.0.${100 + n}`];
        tables.fdb.setStatic(VNI, mac, { kind: 'vtep', vtep: there });
        tables.neighbors.set(VNI, parseIp(address), mac);
        return backend(address, { vni: VNI, host: 'there', endpoint: `default/f${n}` });
      });
      const here = [3, 4].map((last) =>
        backend(`10.0.0.${last}`, { vni: VNI, host: 'here', endpoint: `default/e${last}` }),
      );
      declareAll([...here, ...elsewhere]);
      const got = Array.from({ length: 2_000 }, (_, n) => connect(100 + n));
      t.notOk(got.includes(3), 'nobody gets the one that denies all');
      t.ok(got.includes(4), 'the one beside it is chosen');
      net.close();
    }
    t.end();
  });

  t.test(`${kind}: each connection is told that a staged policy would deny, whoever the first one got`, async (t) => {
    for (const [name, direction] of [
      ['e3', 'Ingress'],
      ['e2', 'Egress'],
    ] as const) {
      const { forwarding, isolate, connect, net } = lab();
      const { policyLog } = forwarding.controller;
      isolate(name, direction, { 'weft.dev/staged': 'true' });
      let denied = 0;
      for (let port = 100; port < 300; port++) {
        const got = connect(port);
        t.not(got, 0, 'it is not in force');
        if (direction === 'Egress' || got === 3) denied++;
        if (policyLog.counts.stagedDecisions !== denied)
          t.fail(`${direction}: not told of port ${port}, which got ${got}`);
      }
      t.ok(denied > 20, direction);
      net.close();
    }
  });

  t.test(`${kind}: who depends on other connections is decided one by one`, async (t) => {
    for (const given of [
      { balancing: 'round-robin' },
      { affinityMs: 10_000 },
      { maxConnections: 100 },
      { outlier: { failures: 3, intervalMs: 1, baseEjectionMs: 1, mostEjectedPercent: 50, leastHealthyPercent: 0 } },
    ] satisfies Partial<Service>[]) {
      const { connect, upcalls, net } = lab(given);
      for (let port = 100; port < 140; port++) connect(port);
      const before = upcalls();
      connect(1000);
      t.equal(upcalls(), before + 1, JSON.stringify(given));
      net.close();
    }
  });
}
