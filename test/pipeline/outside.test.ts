/**
 * The way outside, in a simulated switch, on both datapaths:
 *
 *   ┌ host ─────────────────────────────┐
 *   │ web (red)  db (red)     weft ─────┼─ link to the host ─ everywhere
 *   └───────────────────────────────────┘
 *
 *   red 10.1.0.0/24, fd01::/64, gateways .1, ::1; transit 169.254.77.2, fd77::2
 */
import t, { type Test } from 'tap';
import { formatMac, parseIp, type Vni } from '../../src/flow/types.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { createSimulation, type SimulatedPort } from '../../src/simulation.ts';
import { gatewayMac, OUTSIDE_HOST_MAC, OUTSIDE_MAC, publishedId } from '../../src/table/topology.ts';
import { getU16, setU16 } from '../../src/wire/bytes.ts';
import { checksum, pseudoSum } from '../../src/wire/checksum.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import {
  buildEchoBody,
  buildIcmp4,
  buildIcmp6,
  ICMP_ECHO_REPLY,
  ICMPV6_ECHO_REPLY,
  parseIcmp,
} from '../../src/wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP, IP_UDP, parseIpv4 } from '../../src/wire/ipv4.ts';
import { EXT_FRAGMENT, parseIpv6 } from '../../src/wire/ipv6.ts';
import { buildTcp, buildUdp } from '../../src/wire/l4.ts';
import { echo, ip, tcp, udp, wireIp, type Ends } from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { fragmentOf } from '../support/random-fragments.ts';

const RED = 100;
const [SYN, ACK, FIN, RST] = [2, 16, 1, 4];
const web = { mac: '02:00:00:00:00:01', ip4: '10.1.0.2', ip6: 'fd01::2' };
const db = { mac: '02:00:00:00:00:02', ip4: '10.1.0.3', ip6: 'fd01::3' };
const gateway = formatMac(gatewayMac(RED as Vni));
const transit = { ip4: '169.254.77.2', ip6: 'fd77::2' };
const remote = { ip4: '203.0.113.9', ip6: '2001:db8::9' };
const router = { ip4: '198.51.100.1', ip6: '2001:db8:1::1' };

const families = ['ip4', 'ip6'] as const;
type Family = (typeof families)[number];

const datapaths = {
  native: (options: Parameters<typeof openReferenceDatapath>[0]) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

function lab(
  open: (typeof datapaths)['native'],
  options: { readonly connectionQuota?: number; readonly mtu?: number } = {},
) {
  const net = createSimulation({ open, ...options });
  const host = net.host('a', '192.0.2.1');
  host.createNetwork('red', RED, {
    subnets: ['10.1.0.0/24', 'fd01::/64'],
    outside: true,
    ...(options.mtu !== undefined && { mtu: options.mtu }),
  });
  const attach = (name: string, { mac, ip4, ip6 }: typeof web) =>
    host.attach({ name, network: 'red', mac, addresses: [ip4, ip6] });
  const ports = { web: attach('web', web), db: attach('db', db) };
  const published = new Map([
    [
      publishedId(IP_TCP, 8080),
      { endpoint: 'db', vni: RED as Vni, addresses: [parseIp(db.ip4), parseIp(db.ip6)], l4Port: 80 },
    ],
  ]);
  const outside = host.openOutside({ transit: [transit.ip4, transit.ip6], published });
  const { forwarding } = host;
  const { connections } = forwarding.tables;
  return {
    net,
    host,
    ...ports,
    outside,
    connections,
    drops: (): Partial<Record<string, number>> => forwarding.datapath.counters().drops,
    upcalls: (): number => forwarding.datapath.counters().upcalls,
    states: () => [...connections.entries()].map(({ state }) => state),
    /** Of the first connection: its port at the transit address. */
    natPort: (): number => [...connections.entries()][0]!.translated.sourcePort,
  };
}

const leaving = (from: typeof web, family: Family): Ends => ({
  srcMac: from.mac,
  dstMac: gateway,
  src: from[family],
  dst: remote[family],
});
const entering = (family: Family): Ends => ({
  srcMac: formatMac(OUTSIDE_HOST_MAC),
  dstMac: formatMac(OUTSIDE_MAC),
  src: remote[family],
  dst: transit[family],
});

/** The only frame that came out of a port. */
function only(t: Test, port: SimulatedPort): Uint8Array {
  const frames = port.received.splice(0);
  t.equal(frames.length, 1);
  return frames[0] ?? new Uint8Array(60);
}

/** Addresses in text, ports and checksum of a TCP or UDP frame; MACs. */
function seen(frame: Uint8Array) {
  const { source, destination, payload } = parseEthernet(frame)!;
  const packet = (parseIpv4(payload) ?? parseIpv6(payload))!;
  const { sourcePort, destinationPort, checksum: sum } = parsePacket(frame);
  return {
    macs: [formatMac(source), formatMac(destination)],
    from: [[...packet.source].join('.'), sourcePort],
    to: [[...packet.destination].join('.'), destinationPort],
    checksum: sum,
  };
}

const text = (address: string): string => [...wireIp(address)].join('.');

/** The same IPv6 packet as if its sender had cut it in pieces: the first one. */
function firstFragmentOf(packet: Uint8Array): Uint8Array {
  const header = packet.slice(0, 40);
  header[6] = EXT_FRAGMENT;
  const [reserved, offset, moreFragments, id] = [0, 0, 1, 77];
  return Uint8Array.of(...header, packet[6]!, reserved, offset, moreFragments, 0, 0, 0, id, ...packet.subarray(40));
}

/** An ICMP message of either family, with a right checksum. */
function icmp(ends: Ends, family: Family, type: number, code: number, body: Uint8Array): Uint8Array {
  if (family === 'ip4') return ip(ends, IP_ICMP, buildIcmp4({ type, code, body }));
  return ip(ends, IP_ICMPV6, buildIcmp6(wireIp(ends.src!), wireIp(ends.dst!), { type, code, body }));
}

/** Takes an ICMP frame apart; its checksum has to be right. */
function icmpSeen(t: Test, frame: Uint8Array) {
  const { payload } = parseEthernet(frame)!;
  const v4 = parseIpv4(payload);
  const packet = (v4 ?? parseIpv6(payload))!;
  const seed = v4 ? 0 : pseudoSum(packet.source, packet.destination, IP_ICMPV6, packet.payload.length);
  t.equal(checksum(packet.payload, seed), 0, 'the ICMP checksum is right');
  if (v4) t.equal(checksum(payload.subarray(0, 20)), 0, 'the IPv4 checksum is right');
  const { type, code, body } = parseIcmp(packet.payload)!;
  return { from: [...packet.source].join('.'), to: [...packet.destination].join('.'), type, code, body };
}

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

      t.test(`${family}: ping, by its identifier`, async (t) => {
        const { net, web: one, db: two, outside, drops } = lab(open);
        for (const [from, port] of [
          [web, one],
          [db, two],
        ] as const) {
          port.send(echo(leaving(from, family), 20_000, 1, Uint8Array.of(5, 6)));
          const request = icmpSeen(t, only(t, outside));
          t.same([request.from, request.to], [text(transit[family]), text(remote[family])]);
          const reply = family === 'ip4' ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY;
          outside.send(icmp(entering(family), family, reply, 0, request.body));
          const back = icmpSeen(t, only(t, port));
          t.equal(back.to, text(from[family]));
          t.equal(getU16(back.body, 0), 20_000, 'its own identifier again');
        }
        t.same(drops(), {});
        net.close();
      });

      t.test(`${family}: ping with an identifier of 0, a sequence number of 0 and no data`, async (t) => {
        const { net, web: one, db: two, outside, drops } = lab(open);
        for (const [from, port] of [
          [web, one],
          [db, two],
        ] as const) {
          port.send(echo(leaving(from, family), 0, 0));
          const request = icmpSeen(t, only(t, outside));
          const reply = family === 'ip4' ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY;
          outside.send(icmp(entering(family), family, reply, 0, request.body));
          const back = icmpSeen(t, only(t, port));
          t.same([back.to, back.type, [...back.body]], [text(from[family]), reply, [0, 0, 0, 0]]);
        }
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
        // Of other TTLs: they are decided each by itself.
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

      t.test(`${family}: ICMP errors about a connection, whatever they quote of it`, async (t) => {
        const { net, host, web: port, outside, drops } = lab(open);
        const [type, code] = family === 'ip4' ? [11, 0] : [3, 0];
        const errorAbout = (packet: Uint8Array): Uint8Array => {
          const body = new Uint8Array([0, 0, 0, 0, ...packet]);
          return icmp({ ...entering(family), src: router[family] }, family, type, code, body);
        };
        const errors: Uint8Array[] = [];
        const sent = {
          tcp: tcp(leaving(web, family), { sourcePort: 40_000, destinationPort: 80, flags: SYN, sequence: 100 }),
          udp: udp(leaving(web, family), 40_001, 53, Uint8Array.of(1, 2, 3)),
          echo: echo(leaving(web, family), 20_000, 1, new Uint8Array(16)),
        };
        for (const [what, frame] of Object.entries(sent)) {
          port.send(frame);
          const left = only(t, outside).subarray(14);
          const sentPacket = frame.slice(14);
          const headerBytes = family === 'ip4' ? 20 : 40;
          const quotes: { asSent: Uint8Array; quoted: Uint8Array }[] = [
            { asSent: sentPacket.subarray(0, headerBytes + 8), quoted: left.subarray(0, headerBytes + 8) },
            { asSent: sentPacket, quoted: left },
          ];
          if (family === 'ip6') quotes.push({ asSent: firstFragmentOf(sentPacket), quoted: firstFragmentOf(left) });
          for (const quote of quotes) {
            errors.push(errorAbout(quote.quoted));
            outside.send(errors.at(-1)!);
            const error = icmpSeen(t, only(t, port));
            t.same([error.from, error.to], [text(router[family]), text(web[family])], `${what}: to the container`);
            // What it sent, but for the TTL that was one less outside.
            const own = quote.asSent.slice();
            const quoted = error.body.slice(4);
            if (family === 'ip4') {
              own[8] = quoted[8]!;
              setU16(own, 10, 0);
              setU16(own, 10, checksum(own.subarray(0, 20)));
            } else {
              own[7] = quoted[7]!;
            }
            t.same(quoted, own, `${what}: ${own.length} bytes quoted are what it sent`);
          }
        }
        const stranger = errorAbout(udp({ src: transit[family], dst: remote[family] }, 4, 5).subarray(14));
        outside.send(stranger);
        t.same(drops(), { icmp_unrelated: 1 }, 'and no other');
        const { forwarding } = host;
        const burst = [stranger, ...errors, stranger].map((frame) => ({ frame }));
        forwarding.datapath.injectBurst(forwarding.tables.topology.outside!.portNo, burst);
        t.equal(port.received.length, errors.length, 'each by itself, also while one is decided');
        t.same(drops(), { icmp_unrelated: 3 });
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
            // Behind the fragment header.
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

      t.test(`${family}: a container’s ICMP error about what it was sent`, async (t) => {
        const { net, db: port, outside, drops } = lab(open);
        const [type, code] = family === 'ip4' ? [3, 3] : [1, 4];
        outside.send(tcp(entering(family), { sourcePort: 5555, destinationPort: 8080, flags: SYN, sequence: 1 }));
        const came = only(t, port).subarray(14);
        port.send(icmp(leaving(db, family), family, type, code, new Uint8Array([0, 0, 0, 0, ...came])));
        const error = icmpSeen(t, only(t, outside));
        t.same([error.from, error.to], [text(transit[family]), text(remote[family])]);
        const l4 = 4 + (family === 'ip4' ? 20 : 40);
        t.equal(getU16(error.body, l4 + 2), 8080, 'it quotes what was sent there');
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

    t.test('the transit address answers ping', async (t) => {
      const { net, outside } = lab(open);
      for (const family of families) {
        outside.send(echo(entering(family), 1, 2));
        t.equal(icmpSeen(t, only(t, outside)).to, text(remote[family]));
      }
      net.close();
    });

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

    t.test('questions without answers use up a quarter of the quota, and the flows of those given up go', async (t) => {
      const { net, host, web: one, outside, drops, connections } = lab(open, { connectionQuota: 12 });
      for (let port = 1; port <= 20; port++) one.send(udp(leaving(web, 'ip4'), port, 53));
      t.equal(outside.received.length, 20);
      t.same(drops(), {});
      const ports = [...connections.entries()].map(({ original }) => original.sourcePort);
      t.same(
        ports.sort((a, b) => a - b),
        [18, 19, 20],
      );
      t.equal(host.forwarding.datapath.counters().flows, 3);
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

    t.test('of ICMP, only what belongs to a connection passes', async (t) => {
      const { net, web: one, db: two, outside, drops } = lab(open);
      one.send(echo(leaving(web, 'ip4'), 20_000, 1));
      const request = only(t, outside).subarray(14);
      outside.send(echo(entering('ip4'), 20_000, 1));
      t.equal(one.received.length, 0, 'a question is no answer');
      t.match(icmpSeen(t, only(t, outside)), { type: ICMP_ECHO_REPLY }, 'the transit address has it');
      outside.send(icmp(entering('ip4'), 'ip4', 5, 0, new Uint8Array([0, 0, 0, 0, ...request])));
      t.equal(one.received.length, 0, 'no redirect');
      const quoted = udp({ src: remote.ip4, dst: web.ip4 }, 53, 40_000).subarray(14);
      one.send(udp(leaving(web, 'ip4'), 40_000, 53));
      only(t, outside);
      const unreachable = new Uint8Array([0, 0, 0, 0, ...quoted]);
      two.send(icmp(leaving(db, 'ip4'), 'ip4', 3, 3, unreachable));
      t.same(outside.received, [], 'nobody speaks for another container');
      one.send(icmp(leaving(web, 'ip4'), 'ip4', 3, 3, unreachable));
      t.match(icmpSeen(t, only(t, outside)), { type: 3, code: 3 });
      t.same(drops(), { no_connection: 1, icmp_unrelated: 1 });
      net.close();
    });

    t.test('no VXLAN leaves, as an answer neither', async (t) => {
      const { net, host, web: one, outside, drops } = lab(open);
      const to = { endpoint: 'web', vni: RED as Vni, addresses: [parseIp(web.ip4)], l4Port: 53 };
      const published = new Map([[publishedId(IP_UDP, 53), to]]);
      host.forwarding.setOutside({ ...host.forwarding.tables.topology.outside!, published });
      outside.send(udp(entering('ip4'), 4789, 53));
      only(t, one);
      one.send(udp(leaving(web, 'ip4'), 53, 4789));
      t.same([outside.received, drops()], [[], { vxlan_injection: 1 }]);
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

    t.test('RST and SYN count only with a sequence number that can be right (RFC 5961)', async (t) => {
      const { net, web: port, outside, states, natPort } = lab(open);
      const out = (flags: number, sequence: number, acknowledgment = 0): void =>
        port.send(
          tcp(leaving(web, 'ip4'), { sourcePort: 40_000, destinationPort: 80, flags, sequence, acknowledgment }),
        );
      const back = (flags: number, sequence: number, acknowledgment = 0): void =>
        outside.send(
          tcp(entering('ip4'), { sourcePort: 80, destinationPort: natPort(), flags, sequence, acknowledgment }),
        );
      out(SYN, 100);
      back(SYN | ACK, 500, 101);
      out(ACK, 101, 501);
      back(RST, 5000);
      back(SYN, 900);
      back(RST, 502);
      t.same(states(), ['established'], 'guesses change nothing');
      t.equal(port.received.length, 4, 'but are for the receiver to judge');
      out(FIN | ACK, 101, 501);
      t.same(states(), ['closing']);
      back(FIN | ACK, 501, 102);
      t.same(states(), ['time_wait']);
      out(SYN, 9000);
      back(SYN | ACK, 7000, 9001);
      out(ACK, 9001, 7001);
      t.same(states(), ['established'], 'the same ports again');
      back(RST, 7001);
      t.same(states(), ['closed']);
      net.advance(11_000);
      t.same(states(), []);
      net.close();
    });

    /** A TCP connection: what its two sides send, and what it is at. */
    const conversation = () => {
      const made = lab(open);
      const ports = { sourcePort: 40_000, destinationPort: 80 };
      const out = (flags: number, sequence: number, acknowledgment = 0, payload = new Uint8Array()): void =>
        made.web.send(tcp(leaving(web, 'ip4'), { ...ports, flags, sequence, acknowledgment, payload }));
      const back = (flags: number, sequence: number, acknowledgment = 0, payload = new Uint8Array()): void =>
        made.outside.send(
          tcp(entering('ip4'), {
            ...{ sourcePort: 80, destinationPort: made.natPort(), flags },
            ...{ sequence, acknowledgment, payload },
          }),
        );
      const shake = (): void => {
        out(SYN, 100);
        back(SYN | ACK, 500, 101);
        out(ACK, 101, 501);
      };
      return { ...made, out, back, shake };
    };

    t.test('blind segments do not prepare the way for one that ends the connection', async (t) => {
      for (const jump of [1 << 27, 1 << 30, 2 ** 31 - 1, 2 ** 31]) {
        const { net, out, back, shake, states } = conversation();
        shake();
        const guess = (501 + jump) >>> 0;
        back(ACK, guess, 101);
        back(RST, guess);
        back(FIN | ACK, guess, 101);
        back(ACK, 501, (101 + jump) >>> 0);
        t.same(states(), ['established'], `${jump} ahead`);
        back(ACK, 501, 101, new Uint8Array(1000));
        out(ACK, 101, 1501, new Uint8Array(10));
        back(FIN | ACK, 1501, 111);
        t.same(states(), ['closing'], 'and the connection itself is followed as before');
        out(FIN | ACK, 111, 1502);
        t.same(states(), ['time_wait']);
        net.close();
      }
    });

    t.test('nor do those that are near, and acknowledge what cannot be', async (t) => {
      for (const acknowledgment of [102, 101 + 2 ** 31, (101 - 2 ** 27) >>> 0]) {
        const { net, out, back, shake, states } = conversation();
        shake();
        for (const guess of [501, 1501, 501 + (1 << 20)]) {
          back(FIN | ACK, guess, acknowledgment);
          back(ACK, guess + 1, acknowledgment);
          back(RST, guess + 1);
        }
        t.same(states(), ['established'], `of ${acknowledgment}`);
        back(ACK, 501, 101, new Uint8Array(1000));
        back(RST, 1501);
        t.same(states(), ['closed'], 'and the connection itself is followed as before');
        out(ACK, 101, 1501);
        net.close();
      }
    });

    t.test('an ACK that acknowledges nothing that was sent establishes nothing', async (t) => {
      const { net, out, back, states } = conversation();
      out(SYN, 100);
      back(SYN | ACK, 500, 101);
      out(ACK, 101, 10_000_000);
      t.same(states(), ['syn_received']);
      out(ACK, 101, 501);
      t.same(states(), ['established']);
      net.close();
    });

    t.test('RST counts behind data that is in flight, and FIN behind data that was lost', async (t) => {
      const { net, out, back, shake, states } = conversation();
      shake();
      back(FIN | ACK, 4501, 101, new Uint8Array(1000));
      t.same(states(), ['closing'], '4000 bytes before it did not come');
      out(ACK, 101, 501, new Uint8Array(1000));
      out(RST, 1101);
      t.same(states(), ['closed']);
      net.close();
    });

    t.test('a SYN with another number before any answer is the one that is answered', async (t) => {
      const { net, out, back, states } = conversation();
      out(SYN, 100);
      out(SYN, 9000);
      back(RST | ACK, 0, 101);
      t.same(states(), ['syn_received'], 'no refusal of it');
      back(RST | ACK, 0, 9001);
      t.same(states(), ['closed']);
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

    t.test('what is too big for the container: its sender outside is told', async (t) => {
      const { net, web: port, outside, drops, natPort } = lab(open, { mtu: 1280 });
      port.send(udp(leaving(web, 'ip4'), 40_000, 53));
      outside.received.splice(0);
      const large = udp({ ...entering('ip4'), ip4: { dontFragment: true } }, 53, natPort(), new Uint8Array(1400));
      outside.send(large);
      const error = icmpSeen(t, only(t, outside));
      t.same([error.type, error.code, getU16(error.body, 2)], [3, 4, 1280]);
      t.equal(error.from, text(transit.ip4));
      t.same(drops(), { too_big: 1 });
      net.close();
    });
  });
}
