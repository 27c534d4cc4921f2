/** The way outside, on both datapaths: what leaves and what comes in. outside-lab.ts has a drawing of the switch. */
import t from 'tap';
import { formatMac, parseIp, type Vni } from '../../src/flow/types.ts';
import { OUTSIDE_HOST_MAC, OUTSIDE_MAC, publishedId } from '../../src/table/topology.ts';
import { setU16 } from '../../src/wire/bytes.ts';
import { checksum, pseudoSum } from '../../src/wire/checksum.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import { buildEchoBody, buildIcmp4, buildIcmp6, ICMP_ECHO_REPLY } from '../../src/wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP, parseIpv4 } from '../../src/wire/ipv4.ts';
import { parseIpv6 } from '../../src/wire/ipv6.ts';
import { buildTcp, buildUdp } from '../../src/wire/l4.ts';
import { echo, ip, tcp, udp, wireIp, type Ends } from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { backend, service, servicePort } from '../support/services.ts';
import { fragmentOf } from '../support/random-fragments.ts';
import {
  RED,
  SYN,
  ACK,
  web,
  db,
  gateway,
  transit,
  remote,
  RST,
  families,
  datapaths,
  lab,
  leaving,
  entering,
  only,
  seen,
  text,
  icmp,
  icmpSeen,
} from './outside-lab.ts';

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`outside on ${name}`, async (t) => {
    for (const family of families) {
      t.test(`${family}: a container’s TCP leaves from the transit address, and answers come back`, async (t) => {
        const { net, web: port, outside, drops, upcalls, states, natPort } = lab(open);
        port.send(tcp(leaving(web, family), { sourcePort: 40_000, destinationPort: 80, flags: SYN, sequence: 100 }));
        const out = seen(only(t, outside));
        t.same(out.macs, [formatMac(OUTSIDE_MAC), formatMac(OUTSIDE_HOST_MAC)]);
        t.same(out.from, [text(transit[family]), natPort()]);
        t.ok(natPort() >= 52_000, 'a port of the range that the host’s translation keeps');
        t.same(out.to, [text(remote[family]), 80]);
        t.equal(out.checksum, 'good');
        t.same(states(), ['syn_sent']);

        const ports = { sourcePort: 80, destinationPort: natPort() };
        const answer = { ...ports, flags: SYN | ACK, sequence: 7, acknowledgment: 101 };
        outside.send(tcp(entering(family), answer));
        const back = seen(only(t, port));
        t.same(back.macs, [gateway, web.mac]);
        t.same(
          [back.from, back.to],
          [
            [text(remote[family]), 80],
            [text(web[family]), 40_000],
          ],
        );
        t.equal(back.checksum, 'good');
        port.send(
          tcp(leaving(web, family), {
            sourcePort: 40_000,
            destinationPort: 80,
            flags: ACK,
            sequence: 101,
            acknowledgment: 8,
          }),
        );
        t.same(states(), ['established']);
        const before = upcalls();
        for (let i = 0; i < 5; i++) outside.send(tcp(entering(family), { ...answer, flags: ACK, sequence: 8 }));
        t.equal(upcalls(), before, 'no frame of it comes to the slow path any more');
        t.same(drops(), {});
        net.close();
      });

      t.test(`${family}: UDP, two containers with the same port to the same place`, async (t) => {
        const { net, web: one, db: two, outside, drops } = lab(open);
        one.send(udp(leaving(web, family), 40_000, 53, Uint8Array.of(1, 2, 3)));
        const first = seen(only(t, outside));
        two.send(udp(leaving(db, family), 40_000, 53));
        const second = seen(only(t, outside));
        t.not(first.from[1], second.from[1], 'each has a port of its own');
        t.same([first.checksum, second.checksum], ['good', 'good']);
        outside.send(udp(entering(family), 53, second.from[1] as number, Uint8Array.of(9)));
        const back = seen(only(t, two));
        t.same([back.to, back.checksum], [[text(db[family]), 40_000], 'good']);
        t.same(one.received, []);
        t.same(drops(), {});
        net.close();
      });

      t.test(`${family}: a published port from outside, and its answers`, async (t) => {
        const { net, db: port, outside, drops } = lab(open);
        outside.send(tcp(entering(family), { sourcePort: 5555, destinationPort: 8080, flags: SYN, sequence: 1 }));
        const request = seen(only(t, port));
        t.same(
          [request.from, request.to],
          [
            [text(remote[family]), 5555],
            [text(db[family]), 80],
          ],
          'who asks is seen',
        );
        t.equal(request.checksum, 'good');
        port.send(
          tcp(leaving(db, family), {
            sourcePort: 80,
            destinationPort: 5555,
            flags: SYN | ACK,
            sequence: 9,
            acknowledgment: 2,
          }),
        );
        const back = seen(only(t, outside));
        t.same(
          [back.from, back.to],
          [
            [text(transit[family]), 8080],
            [text(remote[family]), 5555],
          ],
        );
        t.equal(back.checksum, 'good');
        outside.send(tcp(entering(family), { sourcePort: 5555, destinationPort: 8081, flags: SYN, sequence: 1 }));
        t.same(drops(), { no_connection: 1 }, 'other ports lead nowhere');
        net.close();
      });

      t.test(`${family}: the first packets of a connection, all at once, make one`, async (t) => {
        const { net, host, web: port, outside, upcalls, states } = lab(open);
        // With different TTLs, so that each gets a decision of its own.
        const questions = [64, 64, 63, 62].map((ttl) =>
          udp({ ...leaving(web, family), ip4: { ttl }, ip6: { hopLimit: ttl } }, 40_000, 53),
        );
        const burst = questions.map((frame) => ({ frame }));
        host.forwarding.datapath.injectBurst(port.portNo, burst);
        t.equal(upcalls(), 3, 'each that differs asks');
        t.equal(outside.received.length, questions.length);
        t.same(states(), ['new']);
        t.equal(new Set(outside.received.map((frame) => seen(frame).from.join())).size, 1, 'from one port');
        net.close();
      });

      t.test(`${family}: what is published for the other family only is not reached`, async (t) => {
        const { net, host, db: port, outside, drops } = lab(open);
        const other = parseIp(db[family === 'ip4' ? 'ip6' : 'ip4']);
        const to = { endpoint: 'db', vni: RED as Vni, addresses: [other], l4Port: 80 };
        const published = new Map([[publishedId(IP_TCP, 8080), to]]);
        host.forwarding.setOutside({ ...host.forwarding.tables.topology.outside!, published });
        outside.send(tcp(entering(family), { sourcePort: 5555, destinationPort: 8080, flags: SYN, sequence: 1 }));
        t.same([port.received.length, drops()], [0, { no_connection: 1 }]);
        net.close();
      });

      t.test(`${family}: fragments of TCP, UDP and ping go the way of their first, in any order`, async (t) => {
        const { net, web: port, outside, drops } = lab(open);
        const ends = leaving(web, family);
        const source = wireIp(web[family]);
        const destination = wireIp(remote[family]);
        const data = Uint8Array.from({ length: 2000 }, (_, i) => i);
        const ping = { type: family === 'ip4' ? 8 : 128, code: 0, body: buildEchoBody(20_000, 1, data) };
        const [icmpProtocol, message] =
          family === 'ip4' ? [IP_ICMP, buildIcmp4(ping)] : [IP_ICMPV6, buildIcmp6(source, destination, ping)];
        for (const [id, protocol, payload] of [
          [1, IP_UDP, buildUdp(source, destination, { sourcePort: 40_000, destinationPort: 53, payload: data })],
          [2, IP_TCP, buildTcp(source, destination, { sourcePort: 40_000, destinationPort: 80, payload: data })],
          [3, icmpProtocol, message],
        ] as const) {
          for (const part of [
            { at: 1000, bytes: payload.length - 1000, more: false },
            { at: 0, bytes: 1000, more: true },
          ]) {
            port.send(fragmentOf(ends, part, { id, protocol, payload }));
          }
          const [first, later, ...more] = outside.received.splice(0).map((frame) => {
            const { payload: packet } = parseEthernet(frame)!;
            const v4 = parseIpv4(packet);
            // The payload behind the fragment header.
            return v4 ?? { ...parseIpv6(packet)!, payload: parseIpv6(packet)!.payload.subarray(8) };
          });
          t.same([more.length, [...(first?.source ?? [])].join('.')], [0, text(transit[family])]);
          const segment = new Uint8Array([...(first?.payload ?? []), ...(later?.payload ?? [])]);
          const seed =
            protocol === IP_ICMP ? 0 : pseudoSum(wireIp(transit[family]), destination, protocol, segment.length);
          t.equal(checksum(segment, seed), 0, `protocol ${protocol}: put together, its checksum is right`);
        }
        t.same(drops(), {});
        net.close();
      });
    }

    t.test('unfinished checksums stay unfinished, and right', async (t) => {
      const { net, host, web: port, outside } = lab(open);
      port.send(udp(leaving(web, 'ip4'), 40_000, 53));
      outside.received.splice(0);
      const frame = udp(leaving(web, 'ip4'), 40_000, 53, Uint8Array.of(1, 2, 3, 4, 5));
      setU16(frame, 40, pseudoSum(wireIp(web.ip4), wireIp(remote.ip4), 17, 13));
      const offload = { flags: 1, gsoType: 0, gsoSize: 0, csumStart: 34, csumOffset: 6 };
      host.forwarding.datapath.inject(port.portNo, frame, offload);
      t.equal(seen(only(t, outside)).checksum, 'good', 'finished where the port does not take it');
      const none = udp(leaving(web, 'ip4'), 40_000, 53, Uint8Array.of(7));
      setU16(none, 40, 0);
      port.send(none);
      t.equal(seen(only(t, outside)).checksum, 'none', 'UDP without a checksum has none outside');
      net.close();
    });

    t.test('what may not leave, each with its reason', async (t) => {
      const { net, web: port, outside, drops, states } = lab(open);
      port.send(udp(leaving(web, 'ip4'), 40_000, 4789, new Uint8Array(60)));
      t.same(drops(), { vxlan_injection: 1 });
      port.send(ip(leaving(web, 'ip4'), 47, new Uint8Array(20)));
      t.equal(drops().nat_protocol, 1);
      t.equal(icmpSeen(t, only(t, port)).code, 13, 'and the sender is told');
      port.send(tcp({ ...leaving(web, 'ip4'), dst: transit.ip4 }, { sourcePort: 1, destinationPort: 2, flags: SYN }));
      t.equal(drops().martian, 1);
      t.equal(icmpSeen(t, only(t, port)).type, 3, 'and fails at once');
      port.send(icmp(leaving(web, 'ip4'), 'ip4', ICMP_ECHO_REPLY, 0, new Uint8Array(4)));
      t.equal(drops().no_connection, 1, 'an answer to nothing');
      outside.send(udp({ ...entering('ip4'), dst: web.ip4 }, 1, 2));
      t.equal(drops().no_connection, 2, 'containers are not reached by their own address');
      t.same(outside.received, []);
      t.same(states(), []);
      net.close();
    });

    t.test('a container that calls a published port is answered, by the link-local end of the link', async (t) => {
      const { net, db: port, outside, drops } = lab(open);
      const host: Ends = { ...entering('ip4'), src: '169.254.77.1' };
      outside.send(tcp(host, { sourcePort: 50_000, destinationPort: 8080, flags: SYN, sequence: 5 }));
      only(t, port);
      const answer = { ...leaving(db, 'ip4'), dst: '169.254.77.1' };
      port.send(tcp(answer, { sourcePort: 80, destinationPort: 50_000, flags: SYN | ACK, acknowledgment: 6 }));
      t.same(seen(only(t, outside)).to, [text('169.254.77.1'), 50_000]);
      t.same(drops(), {});
      for (const stranger of ['169.254.77.1', '169.254.169.254', '224.0.0.9', '127.0.0.1']) {
        port.send(udp({ ...answer, dst: stranger }, 9, 9));
      }
      t.same(drops(), { martian: 4 }, 'and nothing else there is reached');
      const told = port.received.splice(0).map((frame) => icmpSeen(t, frame));
      t.same(
        told.map(({ type, code }) => [type, code]),
        [
          [3, 0],
          [3, 0],
          [3, 0],
        ],
        'which fails at once, but for groups',
      );
      net.close();
    });

    t.test('after a restart, what came in to a backend stays, which need not be on this host', async (t) => {
      const { net, host, db: port, outside, states } = lab(open);
      const ports = [servicePort(1, { nodePort: 30_080 })];
      host.forwarding.setService(service({ ports, backends: [backend(db.ip4, { vni: RED as Vni })] }));
      host.forwarding.servicesLoaded();
      for (const destinationPort of [8080, 30_080]) {
        outside.send(tcp(entering('ip4'), { sourcePort: 5555, destinationPort, flags: SYN, sequence: 1 }));
        only(t, port);
      }
      t.equal(states().length, 2);
      host.forwarding.endConnections(() => true);
      t.equal(states().length, 1, 'one to a published port ends with its endpoint');
      t.same(seen(only(t, outside)).from, [text(transit.ip4), 8080], 'of which its client is told');
      const answer = tcp(leaving(db, 'ip4'), { sourcePort: 8080, destinationPort: 5555, flags: SYN | ACK });
      port.send(answer);
      t.same(seen(only(t, outside)).from, [text(transit.ip4), 30_080]);
      host.forwarding.setService(service({ ports: [servicePort(0, { nodePort: 30_080 })] }));
      t.equal(outside.received.length, 1, 'the client is told that the service has lost its backend');
      net.close();
    });

    t.test('a backend of this host is detached, and then leaves its service: the client is told', async (t) => {
      const { net, host, db: port, outside, states } = lab(open);
      const ports = [servicePort(1, { nodePort: 30_080 })];
      host.forwarding.setService(service({ ports, backends: [backend(db.ip4, { vni: RED as Vni })] }));
      const ends = { sourcePort: 5555, destinationPort: 30_080 };
      outside.send(tcp(entering('ip4'), { ...ends, flags: SYN, sequence: 1 }));
      only(t, port);
      port.send(tcp(leaving(db, 'ip4'), { sourcePort: 8080, destinationPort: 5555, flags: SYN | ACK, sequence: 7 }));
      outside.received.splice(0);
      host.detach('db');
      t.equal(states().length, 1);
      host.forwarding.setService(service({ ports: [servicePort(0, { nodePort: 30_080 })] }));
      t.match(parsePacket(only(t, outside)), {
        sourcePort: 30_080,
        destinationPort: 5555,
        flags: RST | ACK,
        sequence: 8,
      });
      net.close();
    });

    t.test('an IPv4 header with a wrong checksum opens nothing, is not translated and not answered', async (t) => {
      const { net, web: one, db: two, outside, drops, states } = lab(open);
      const out = tcp(leaving(web, 'ip4'), { sourcePort: 40_000, destinationPort: 80, flags: SYN });
      const packets = [
        echo(entering('ip4'), 1, 2),
        tcp(entering('ip4'), { sourcePort: 5555, destinationPort: 8080, flags: SYN }),
      ];
      const wrong = (packet: Uint8Array): Uint8Array => packet.with(24, packet[24]! ^ 1);
      const send = (): void => {
        one.send(wrong(out));
        for (const packet of packets) outside.send(wrong(packet));
      };
      const received = (): number[] => [one, two, outside].map((port) => port.received.splice(0).length);
      send();
      t.same([received(), states(), drops()], [[0, 0, 0], [], { ipv4_checksum: 3 }]);
      one.send(out);
      for (const packet of packets) outside.send(packet);
      t.same(received(), [0, 1, 2]);
      const before = states();
      send();
      t.same([received(), states(), drops()], [[0, 0, 0], before, { ipv4_checksum: 6 }], 'by cached flows neither');
      net.close();
    });

    t.test('no VXLAN leaves through a service: what counts is the port of its backend', async (t) => {
      const { net, host, web: one, outside, drops } = lab(open);
      const through = (last: number, l4Port: number, target: number): void => {
        const vips = [parseIp(`10.96.0.${last}`)];
        const ports = [servicePort(1, { protocol: IP_UDP, l4Port, targets: [target] })];
        const backends = [backend(remote.ip4, { vni: undefined })];
        host.forwarding.setService(service({ id: `default/s${last}`, vips, ports, backends }));
        one.send(udp({ ...leaving(web, 'ip4'), dst: `10.96.0.${last}` }, 40_000, l4Port));
      };
      through(1, 53, 4789);
      t.same([outside.received, drops()], [[], { vxlan_injection: 1 }]);
      through(2, 4789, 53);
      t.same(seen(only(t, outside)).to, [text(remote.ip4), 53]);
      // Also when it is known by then.
      one.send(udp({ ...leaving(web, 'ip4'), dst: '10.96.0.2' }, 40_000, 4789));
      t.equal(drops()['vxlan_injection'], 1);
      net.close();
    });

    t.test('no VXLAN leaves, as an answer neither', async (t) => {
      const { net, host, web: one, outside, drops } = lab(open);
      const to = { endpoint: 'web', vni: RED as Vni, addresses: [parseIp(web.ip4)], l4Port: 53 };
      const published = new Map([[publishedId(IP_UDP, 53), to]]);
      host.forwarding.setOutside({ ...host.forwarding.tables.topology.outside!, published });
      // The answers to another port of the same client may leave, and their flow is not taken for these.
      outside.send(udp(entering('ip4'), 4788, 53));
      only(t, one);
      one.send(udp(leaving(web, 'ip4'), 53, 4788));
      only(t, outside);
      outside.send(udp(entering('ip4'), 4789, 53));
      only(t, one);
      one.send(udp(leaving(web, 'ip4'), 53, 4789));
      t.same([outside.received, drops()], [[], { vxlan_injection: 1 }]);
      net.close();
    });
  });
}
