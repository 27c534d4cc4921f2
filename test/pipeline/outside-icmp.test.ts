/**
 * ICMP through the outside, on both datapaths: pings by their identifiers, and errors by the packets that they quote.
 */
import t from 'tap';
import { getU16, setU16 } from '../../src/wire/bytes.ts';
import { checksum } from '../../src/wire/checksum.ts';
import { ICMP_ECHO_REPLY, ICMPV6_ECHO_REPLY } from '../../src/wire/icmp.ts';
import { EXT_FRAGMENT } from '../../src/wire/ipv6.ts';
import { echo, tcp, udp } from '../support/frames.ts';
import {
  SYN,
  web,
  db,
  transit,
  remote,
  families,
  datapaths,
  lab,
  leaving,
  entering,
  only,
  text,
  icmp,
  icmpSeen,
} from './outside-lab.ts';

const router = { ip4: '198.51.100.1', ip6: '2001:db8:1::1' };

/** The first fragment of an IPv6 packet, as if its sender had fragmented it. */
function firstFragmentOf(packet: Uint8Array): Uint8Array {
  const header = packet.slice(0, 40);
  header[6] = EXT_FRAGMENT;
  const [reserved, offset, moreFragments, id] = [0, 0, 1, 77];
  return Uint8Array.of(...header, packet[6]!, reserved, offset, moreFragments, 0, 0, 0, id, ...packet.subarray(40));
}

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`ICMP of the outside on ${name}`, async (t) => {
    for (const family of families) {
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
            // What it sent, except for the TTL, which was one less outside.
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

    t.test('the transit address answers ping', async (t) => {
      const { net, outside } = lab(open);
      for (const family of families) {
        outside.send(echo(entering(family), 1, 2));
        t.equal(icmpSeen(t, only(t, outside)).to, text(remote[family]));
      }
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
