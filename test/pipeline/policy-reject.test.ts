/**
 * A policy that rejects tells whom it denies, on whatever host he is, by real frames through both datapaths.
 *
 *   client 10.0.0.2 ── a ──── b ── 10.0.0.3, which receives nothing by policy
 */
import t from 'tap';
import { parseIp } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import { datapaths, macOf, RST, SYN, VNI } from '../support/backend-lab.ts';
import { echo, tcp, udp, type Ends } from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { policyOf } from '../support/policy/tables.ts';

const CLIENT = { mac: macOf(2), addresses: ['10.0.0.2', 'fd00::2'] } as const;
const CLOSED = { mac: macOf(3), addresses: ['10.0.0.3', 'fd00::3'] } as const;

for (const [kind, open] of Object.entries(datapaths))
  for (const [family, at] of [
    ['IPv4', 0],
    ['IPv6', 1],
  ] as const)
    t.test(`${kind}: who is denied on another host is told, over ${family}`, (t) => {
      const net = createSimulation({ open });
      const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
      for (const host of [a, b]) host.createNetwork('blue', VNI, { subnets: ['10.0.0.0/24', 'fd00::/64'] });
      const client = a.attach({ name: 'client', network: 'blue', ...CLIENT });
      const closed = b.attach({ name: 'closed', network: 'blue', ...CLOSED });
      const identity = { namespace: 'default', labels: {}, namespaceLabels: {}, ports: [] };
      const metadata = { name: 'closed', namespace: 'default' };
      const policy = policyOf({ kind: 'NetworkPolicy', metadata, spec: { podSelector: {}, policyTypes: ['Ingress'] } });
      b.forwarding.tables.policies.setSubject('closed', { identity, policies: [policy], onDeny: 'reject' });
      b.forwarding.controller.enforce();
      const ends: Ends = {
        src: CLIENT.addresses[at],
        dst: CLOSED.addresses[at],
        srcMac: CLIENT.mac,
        dstMac: CLOSED.mac,
      };
      const answerTo = (frame: Uint8Array): Uint8Array => {
        client.received.splice(0);
        client.send(frame);
        return client.received[0] ?? new Uint8Array(60);
      };
      /** The source address, and type and code of an ICMP message. */
      const read = (frame: Uint8Array): readonly unknown[] => {
        const [source, l4] = at === 0 ? [frame.subarray(26, 30), 34] : [frame.subarray(22, 38), 54];
        return [[...source], frame[l4], frame[l4 + 1]];
      };
      const source = [...parseIp(CLOSED.addresses[at])].slice(at === 0 ? 12 : 0);
      const told =
        at === 0 ? { unreachable: [3, 3], prohibited: [3, 13] } : { unreachable: [1, 4], prohibited: [1, 1] };
      t.same(read(answerTo(udp(ends, 5000, 53))), [source, ...told.unreachable]);
      t.same(read(answerTo(echo(ends, 7, 1))), [source, ...told.prohibited]);
      t.ok(parsePacket(answerTo(tcp(ends, { sourcePort: 9, destinationPort: 80, flags: SYN }))).flags & RST);
      t.same(closed.received, []);
      net.close();
      t.end();
    });
