/**
 * A backend on another host learns that its connections have ended, also if the reset is lost: because the daemon there had died,
 * because the host was known to be down, or on the way.
 */
import t from 'tap';
import type { Datapath, DatapathOptions, Injectable } from '../../src/datapath/datapath.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { prefixOf } from '../../src/cluster/routing.ts';
import { formatIp, formatMac, type Vni } from '../../src/flow/types.ts';
import { createSimulation, type SimulatedPort } from '../../src/simulation.ts';
import { gatewayMac } from '../../src/table/topology.ts';
import { tcp } from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { identityOf, policyOf } from '../support/policy/tables.ts';
import type { NetworkPolicy, Pod } from '../support/policy/world.ts';
import { backend, service, VIP } from '../support/services.ts';

const BLUE = 100 as Vni;
const [SYN, RST, ACK] = [2, 4, 16] as const;
const [CLIENT, BACKEND, OTHER] = ['10.0.0.2', '10.0.0.9', '10.0.0.8'] as const;
const B = '192.0.2.2';
const VIP_TEXT = formatIp(VIP);

const pod: Pod = { name: 'server', namespace: 'default', labels: {}, ports: [], addresses: [BACKEND] };
const denyAll: NetworkPolicy = {
  kind: 'NetworkPolicy',
  metadata: { name: 'server', namespace: 'default', annotations: { 'weft.dev/on-deny': 'reject' } },
  spec: { podSelector: {}, ingress: [] },
};

/** What the backend is told: what its client could have said next. */
const told = { sourcePort: 5000, destinationPort: 8080, sequence: 101, acknowledgment: 901, checksum: 'good' };

const kinds: Record<string, (options: DatapathOptions) => Datapath & Injectable> = {
  reference: openReferenceDatapath,
  native: (options) => openNativeDatapath({ ...options, threads: 0 }),
};

for (const [kind, open] of Object.entries(kinds)) {
  /** A client on host a has a connection through a service to a backend on host b. */
  function lab() {
    let isLost = false;
    const net = createSimulation({
      ...{ open, sharesStore: true, liveness: { intervalMs: 100, multiplier: 3 } },
      carry: (datagram) =>
        isLost && [datagram.source, datagram.destination].map(formatIp).includes(B) ? undefined : datagram,
    });
    t.teardown(() => net.close());
    const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', B)];
    for (const host of [a, b]) host.createNetwork('blue', BLUE, { subnets: ['10.0.0.0/24'] });
    const client = a.attach({ name: 'client', network: 'blue', mac: '02:00:00:00:00:02', addresses: [CLIENT] });
    const server = b.attach({ name: 'server', network: 'blue', mac: '02:00:00:00:00:09', addresses: [BACKEND] });
    a.forwarding.setServiceRanges([prefixOf('10.96.0.0/16')]);
    /** What was sent meanwhile arrives, or is lost. */
    const deliver = (): void => net.advance(0);
    const declare = (address: string): void => {
      a.forwarding.setService(service({ vips: [VIP], backends: [backend(address, { vni: BLUE, host: 'b' })] }));
      deliver();
    };
    declare(BACKEND);
    net.advance(1000);
    const router = formatMac(gatewayMac(BLUE));
    const say = (flags: number, sequence: number, acknowledgment: number): void =>
      client.send(
        tcp(
          { src: CLIENT, dst: VIP_TEXT, srcMac: '02:00:00:00:00:02', dstMac: router },
          { sourcePort: 5000, destinationPort: 80, sequence, acknowledgment, flags },
        ),
      );
    const answer = (flags: number, sequence: number, acknowledgment: number): void =>
      server.send(
        tcp(
          { src: BACKEND, dst: CLIENT, srcMac: '02:00:00:00:00:09', dstMac: router },
          { sourcePort: 8080, destinationPort: 5000, sequence, acknowledgment, flags },
        ),
      );
    say(SYN, 100, 0);
    answer(SYN | ACK, 900, 101);
    say(ACK, 101, 901);
    const resetsOf = (port: SimulatedPort) => port.received.map(parsePacket).filter(({ flags }) => (flags & RST) !== 0);
    return {
      ...{ net, b, declare, deliver },
      lose: (is: boolean): void => void (isLost = is),
      toClient: () => resetsOf(client),
      toServer: () => resetsOf(server),
      stateOfB: () => a.forwarding.remote.peers()[0]!.state,
    };
  }

  t.test(`${kind}: its daemon had just died, which nobody knew`, async (t) => {
    const { net, declare, lose, toClient, toServer, stateOfB } = lab();
    lose(true);
    t.equal(stateOfB(), 'up');
    declare(OTHER);
    t.equal(toClient().length, 1, 'the client is told at once');
    t.equal(toServer().length, 0);
    lose(false);
    net.advance(1000);
    t.equal(toServer().length, 1);
    t.match(toServer()[0], told);
    for (let second = 0; second < 20; second++) net.advance(1000);
    t.equal(toServer().length, 3, 'some times');
    t.equal(toClient().length, 1);
  });

  t.test(`${kind}: its host was known to be down, for long`, async (t) => {
    const { net, declare, lose, toClient, toServer, stateOfB } = lab();
    lose(true);
    net.advance(1000);
    t.equal(stateOfB(), 'down');
    declare(OTHER);
    t.equal(toClient().length, 1);
    for (let minute = 0; minute < 10; minute++) net.advance(60_000);
    lose(false);
    net.advance(1000);
    t.equal(stateOfB(), 'up');
    net.advance(1000);
    t.match(toServer()[0], told);
  });

  t.test(
    `${kind}: policies on the host of the backend end it, and the client is on a host whose daemon had just died`,
    (t) => {
      const { net, b, lose, deliver, toClient, toServer } = lab();
      const identity = identityOf({ namespaces: [{ name: 'default', labels: {} }], pods: [pod], policies: [] }, pod);
      lose(true);
      b.forwarding.tables.policies.setSubject('server', { identity, onDeny: 'drop', policies: [policyOf(denyAll)] });
      b.forwarding.controller.enforce();
      deliver();
      t.equal(toServer().length, 1);
      t.equal(toClient().length, 0);
      lose(false);
      net.advance(1000);
      t.equal(toClient().length, 1);
      t.match(toClient()[0], { sourcePort: 80, destinationPort: 5000, sequence: 901, acknowledgment: 101 });
      t.end();
    },
  );
}
