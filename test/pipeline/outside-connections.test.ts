/** Connections of the outside, on both datapaths: how many there can be, what they end with, and when. */
import t from 'tap';
import { extract } from '../../src/flow/extract.ts';
import { fields } from '../../src/flow/fields.ts';
import type { Decision } from '../../src/pipeline/decide.ts';
import { emptyKey, writeNumber } from '../../src/flow/key.ts';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import { publishedId } from '../../src/table/topology.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { tcp, udp } from '../support/frames.ts';
import {
  RED,
  SYN,
  web,
  db,
  transit,
  datapaths,
  families,
  lab,
  leaving,
  entering,
  only,
  seen,
  icmpSeen,
} from './outside-lab.ts';

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`connections of the outside on ${name}`, async (t) => {
    t.test('an endpoint has no more connections than its quota', async (t) => {
      const { net, web: one, db: two, outside, drops, states, connections } = lab(open, { connectionQuota: 3 });
      for (let port = 1; port <= 3; port++) {
        one.send(udp(leaving(web, 'ip4'), port, 53));
        const { translated } = [...connections.entries()].at(-1)!;
        outside.send(udp(entering('ip4'), 53, translated.sourcePort));
      }
      t.same(states(), ['answered', 'answered', 'answered']);
      for (let port = 4; port <= 5; port++) one.send(udp(leaving(web, 'ip4'), port, 53));
      t.equal(outside.received.length, 3);
      t.same(drops(), { connection_limit: 2 });
      two.send(udp(leaving(db, 'ip4'), 1, 53));
      t.equal(connections.size, 4, 'the others’ are not used up');
      net.close();
    });

    t.test('once its connection is open, a decision goes on as if all of it was made again', async (t) => {
      const { net, host, web: one } = lab(open);
      const { controller, tables } = host.forwarding;
      const frames = families.flatMap((family) => [
        udp(leaving(web, family), 1, 53),
        tcp(leaving(web, family), { sourcePort: 1, destinationPort: 80, flags: SYN }),
      ]);
      for (const frame of frames) {
        const key = emptyKey();
        extract(frame, key);
        writeNumber(key, fields.in_port, one.portNo);
        const decision = controller.decide(key, frame);
        t.equal(decision.verdict, 'connect');
        t.equal(decision.opening!.port, one.portNo, 'where it comes in is part of its record');
        tables.connections.open(decision.opening!, 0);
        const again = controller.decide(key, frame);
        t.equal(again.verdict, 'forward');
        const opened = decision.opened!();
        const result = ({ consulted, ...rest }: Decision) => ({ ...rest, stages: [], consulted: consulted.toSorted() });
        t.same(result(opened), result(again));
        t.same(opened.stages.at(-1), again.stages.at(-1));
      }
      net.close();
    });

    t.test('questions without answers use up a quarter of the quota, and all have one flow', async (t) => {
      const { net, host, web: one, outside, drops, connections } = lab(open, { connectionQuota: 12 });
      for (let port = 1; port <= 20; port++) one.send(udp(leaving(web, 'ip4'), port, 53));
      t.equal(outside.received.length, 20);
      t.same(drops(), {});
      const ports = [...connections.entries()].map(({ original }) => original.sourcePort);
      t.same(
        ports.sort((a, b) => a - b),
        [18, 19, 20],
      );
      t.equal(host.forwarding.datapath.counters().flows, 1, 'connections share what is decided for them');
      one.send(udp(leaving(web, 'ip4'), 1, 53));
      t.equal(outside.received.length, 21, 'one that was given up begins anew');
      net.close();
    });

    t.test('a published port that moves takes its UDP along, and TCP goes on where it is', async (t) => {
      const { net, host, web: one, db: two, outside, drops } = lab(open);
      const publish = (address: string | undefined): void => {
        const { outside: link } = host.forwarding.tables.topology;
        const published = new Map(
          [IP_TCP, IP_UDP].flatMap((protocol) =>
            address === undefined
              ? []
              : [
                  [
                    publishedId(protocol, 5300),
                    { endpoint: 'e', vni: RED as Vni, addresses: [parseIp(address)], l4Port: 53 },
                  ],
                ],
          ),
        );
        host.forwarding.setOutside({ ...link!, published });
      };
      const knock = (): void => {
        outside.send(udp(entering('ip4'), 999, 5300));
        outside.send(tcp(entering('ip4'), { sourcePort: 999, destinationPort: 5300, flags: SYN }));
      };
      publish(web.ip4);
      knock();
      t.equal(one.received.length, 2);
      publish(db.ip4);
      knock();
      t.same([one.received.length, two.received.length], [3, 1], 'UDP has moved');
      publish(undefined);
      knock();
      t.same([one.received.length, two.received.length], [4, 1], 'UDP is refused');
      t.same(drops(), { no_connection: 1 });
      net.close();
    });

    t.test('a port that is published belongs to nobody else', async (t) => {
      const { net, host, web: one, db: two, outside } = lab(open);
      one.send(udp(leaving(web, 'ip4'), 51_820, 51_820));
      const taken = seen(only(t, outside)).from[1] as number;
      const published = new Map([
        [publishedId(IP_UDP, taken), { endpoint: 'db', vni: RED as Vni, addresses: [parseIp(db.ip4)], l4Port: 51_820 }],
      ]);
      host.forwarding.setOutside({ ...host.forwarding.tables.topology.outside!, published });
      outside.send(udp(entering('ip4'), 51_820, taken));
      t.same([one.received.length, two.received.length], [0, 1], 'who had it does not get what is not meant for it');
      two.received.splice(0);
      one.send(udp(leaving(web, 'ip4'), 51_820, 51_821));
      t.not(seen(only(t, outside)).from[1], taken);
      net.close();
    });

    t.test('who was refused for want of room gets through as soon as there is some', async (t) => {
      const { net, web: one, outside, drops, connections, natPort } = lab(open, { connectionQuota: 1 });
      one.send(udp(leaving(web, 'ip4'), 40_000, 53));
      outside.send(udp(entering('ip4'), 53, natPort()));
      one.received.splice(0);
      one.send(udp(leaving(web, 'ip4'), 40_001, 53));
      t.same(drops(), { connection_limit: 1 });
      t.match(icmpSeen(t, only(t, one)), { type: 3, code: 13 }, 'and is told');
      for (let second = 0; second < 130; second++) {
        net.advance(1000);
        if (connections.size === 0) break;
        one.send(udp(leaving(web, 'ip4'), 40_001, 53));
      }
      outside.received.splice(0);
      one.send(udp(leaving(web, 'ip4'), 40_001, 53));
      only(t, outside);
      net.close();
    });

    t.test('what waited for a neighbor while the outside closed is decided anew when it is open again', async (t) => {
      const { net, host, outside, drops } = lab(open);
      const published = new Map([
        [publishedId(IP_UDP, 53), { endpoint: 'gone', vni: RED as Vni, addresses: [parseIp('10.1.0.77')], l4Port: 53 }],
      ]);
      const reopen = (): void => {
        host.forwarding.removeOutside();
        host.openOutside({ transit: [transit.ip4, transit.ip6], published });
      };
      net.host('b', '192.0.2.2').createNetwork('red', RED);
      reopen();
      const ask = (): void => outside.send(udp(entering('ip4'), 5555, 53));
      ask();
      host.forwarding.removeOutside();
      for (let second = 0; second < 5; second++) net.advance(1000);
      reopen();
      ask();
      t.notOk(drops()['port_unknown']);
      net.close();
    });

    t.test('connections end with their endpoint, and at the latest with their network', async (t) => {
      const { net, host, web: one, connections } = lab(open);
      one.send(udp(leaving(web, 'ip4'), 40_000, 53));
      const vm = { mac: '02:00:00:00:00:03', ip4: '10.1.0.9', ip6: 'fd01::9' };
      const allowed = { mac: '02:00:00:00:00:04', ip4: '10.1.0.10', ip6: 'fd01::10' };
      const attach = { name: 'vm', network: 'red', mac: vm.mac, addresses: [vm.ip4], trust: true };
      const trusted = host.attach(attach);
      trusted.send(udp({ ...leaving(vm, 'ip4'), src: '10.1.0.50' }, 40_000, 53));
      const two = { name: 'two', network: 'red', mac: allowed.mac, addresses: [allowed.ip4] };
      const other = host.attach({ ...two, allowedAddresses: ['10.1.0.11'] });
      other.send(udp({ ...leaving(allowed, 'ip4'), src: '10.1.0.11' }, 40_000, 53));
      t.equal(connections.size, 3);
      for (const name of ['two', 'web', 'db', 'vm']) host.detach(name);
      t.equal(connections.size, 1, 'whose address was behind a trusted port');
      host.forwarding.removeNetwork(RED as Vni);
      t.equal(connections.size, 0);
      net.close();
    });

    t.test('connections end by their time-outs, and a new one gets through again', async (t) => {
      const { net, web: port, outside, states, connections } = lab(open);
      port.send(udp(leaving(web, 'ip4'), 40_000, 443));
      const [expires] = [...connections.entries()].map(({ expiresAtMs }) => expiresAtMs);
      t.equal(expires, 120_000);
      net.advance(119_000);
      t.same(states(), ['new']);
      net.advance(2_000);
      t.same(states(), []);
      outside.received.splice(0);
      port.send(udp(leaving(web, 'ip4'), 40_000, 443));
      only(t, outside);
      t.same(states(), ['new']);
      net.close();
    });

    t.test('connections go with their endpoint, and nothing of them is left behind', async (t) => {
      const { net, host, web: port, outside, drops, states } = lab(open);
      port.send(udp(leaving(web, 'ip4'), 40_000, 53));
      const { from } = seen(only(t, outside));
      host.detach('web');
      t.same(states(), []);
      outside.send(udp(entering('ip4'), 53, from[1] as number));
      t.same(drops(), { no_connection: 1 });
      net.close();
    });
  });
}
