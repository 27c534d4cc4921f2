/**
 * Conformance of rewriting: echo requests that become replies, the maximum segment size that a SYN
 * announces, and their checksums, finished or not.
 */
import type { Action } from '../../src/flow/action.ts';
import { parseIp } from '../../src/flow/types.ts';
import { NEEDS_CSUM, NO_OFFLOAD } from '../../src/datapath/reference/offload.ts';
import { concat, getU16, setU16 } from '../../src/wire/bytes.ts';
import { buildExtension } from '../../src/wire/ipv6.ts';
import { buildTcp, TCP_SYN } from '../../src/wire/l4.ts';
import { ETH_VLAN, parseEthernet } from '../../src/wire/ethernet.ts';
import { buildEchoBody, buildIcmp4, buildIcmp6, ICMP_ECHO_REPLY, ICMPV6_ECHO_REPLY } from '../../src/wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_UDP, parseIpv4 } from '../../src/wire/ipv4.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import * as frames from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { Harness, output, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const MSS = 1000;
const ACK = 16;
const FIRST = { sourcePort: 1000, destinationPort: 80 };
const ip4: frames.Ends = { src: '10.0.0.1', dst: '10.0.0.2' };
const ip6: frames.Ends = { src: 'fd00::1', dst: 'fd00::2' };
const timestamps = [8, 10, 1, 2, 3, 4, 0, 0, 0, 0];
const mssOf = (mss: number): number[] => [2, 4, mss >>> 8, mss & 0xff];

function syn(ends: frames.Ends, options: readonly number[], flags = TCP_SYN, data = 0): Uint8Array {
  const payload = Uint8Array.from({ length: data }, (_, i) => i * 7);
  return frames.tcp(ends, { ...FIRST, flags, options: Uint8Array.from(options), payload });
}

export function runRewriting(name: string, open: Open): void {
  const test = conformanceTests(name, open);
  const clamp: Action[] = [{ op: 'clamp', mss: MSS }, ...output(2)];

  /** The result for a frame on a port that takes everything, and on one that takes no offloads. */
  const through = (h: Harness, frame: Uint8Array, actions: readonly Action[] = clamp): Uint8Array => {
    h.forward(1, actions);
    h.inject(1, frame);
    return h.take(2)[0]!;
  };

  test('the checksum of an echo reply, also of one that is nothing but zeros', (_, h) => {
    h.memory(1);
    h.forward(1, [{ op: 'echo' }, ...output(1)]);
    const request = '02776600006402000000ee0608004500001c00010000400166da0a0000060a0000010800f7ff00000000';
    const reply = '02000000ee0602776600006408004500001c00010000400166da0a0000010a0000060000ffff00000000';
    h.inject(1, Uint8Array.from(Buffer.from(request, 'hex')));
    Harness.same(h.take(1), [Uint8Array.from(Buffer.from(reply, 'hex'))]);
    const macs = { srcMac: '02:00:00:00:00:01', dstMac: '02:00:00:00:00:02' };
    const ping4 = { ...macs, src: '10.0.0.1', dst: '10.0.0.2' };
    const ping6 = { ...macs, src: 'fd00::1', dst: 'fd00::2' };
    // Data whose sum is 0xffff has a checksum of 0.
    for (const [identifier, sequence, data] of [
      [0, 0, [0]],
      [0, 0, [0xff, 0xff]],
      [0xffff, 0, []],
      [0xf0f0, 0x0f0f, [0, 0, 0]],
      [1, 2, [3, 4, 5]],
    ] as const) {
      for (const ends of [ping4, ping6]) {
        h.inject(1, frames.echo(ends, identifier, sequence, Uint8Array.from(data)));
        const body = buildEchoBody(identifier, sequence, Uint8Array.from(data));
        const back = { srcMac: ends.dstMac, dstMac: ends.srcMac, src: ends.dst, dst: ends.src };
        const reply =
          ends === ping4
            ? frames.ip(back, IP_ICMP, buildIcmp4({ type: ICMP_ECHO_REPLY, code: 0, body }))
            : frames.ip(
                back,
                IP_ICMPV6,
                buildIcmp6(parseIp(back.src), parseIp(back.dst), { type: ICMPV6_ECHO_REPLY, code: 0, body }),
              );
        Harness.same(h.take(1), [reply]);
      }
    }
  });

  test('the checksum of an IPv4 header is right where more is done than to carry the packet', (t, h) => {
    h.memory(1, 2);
    const mac = new Uint8Array(6).fill(2);
    const route: Action = { op: 'route', source: mac, destination: mac };
    const handled: readonly (readonly Action[])[] = [
      [route, ...output(2)],
      [{ op: 'echo' }, ...output(2)],
      [{ op: 'mtu', bytes: 576 }, ...output(2)],
      [{ op: 'mtu', bytes: 9000 }, route, ...output(2)],
      [{ op: 'related', slot: 0, generation: 2, reply: false }, ...output(2)],
      clamp,
    ];
    const ends = (id: number, of: Partial<frames.Ends['ip4']> = {}): frames.Ends => ({
      ...ip4,
      ip4: { options: Uint8Array.of(1, 1, 1, 0), id, ...of },
    });
    const data = new Uint8Array(1000);
    const large = frames.udp(ends(0), 1, 2, data);
    const vlan = { tpid: ETH_VLAN, tci: 7 };
    const kinds: readonly (readonly [header: number, frame: (id: number) => Uint8Array])[] = [
      [14, (id) => frames.udp(ends(id), 1, 2, data)],
      [14, (id) => frames.ip(ends(id, { moreFragments: true }), IP_UDP, large.subarray(38, 638))],
      [18, (id) => frames.udp({ ...ends(id), vlan }, 1, 2, data)],
    ];
    let id = 0;
    for (const [header, frame] of kinds) {
      for (const place of [1, 8, 11, 20]) {
        const wrong = (): Uint8Array => {
          const bytes = frame(++id);
          bytes[header + place]! ^= 4;
          return bytes;
        };
        for (const actions of handled) {
          // Tagged frames are not segmented.
          if (header === 18 && actions[0]!.op === 'mtu' && actions.length === 2) continue;
          const before = h.drops().ipv4_checksum ?? 0;
          h.forward(1, actions);
          h.inject(1, wrong());
          t.same(h.take(2), []);
          t.equal(h.drops().ipv4_checksum, before + 1);
        }
        const carried = wrong();
        Harness.same([through(h, carried, output(2))], [carried], 'carried as it is');
      }
    }
    h.forward(1, [{ op: 'mtu', bytes: 1100 }, ...output(2)]);
    const wrong = large.slice();
    wrong[22]! ^= 4;
    h.inject(1, wrong);
    Harness.same(h.take(2), [wrong], 'an mtu that does not apply does nothing');
  });

  test('a frame that is a Buffer is read and not written to', (_, h) => {
    h.memory(1, 2);
    h.vxlan(9, '192.0.2.1');
    const mac = new Uint8Array(6).fill(2);
    const actions: Action[] = [{ op: 'route', source: mac, destination: mac }, { op: 'clamp', mss: MSS }, ...output(2)];
    h.forward(1, actions);
    h.forward(9, actions);
    const frame = syn(ip4, mssOf(8960));
    const buffer = Buffer.from(frame);
    const payload = Buffer.from(buildVxlan({ vni: 5, frame }));
    h.inject(1, buffer);
    h.injectDatagram(9, '192.0.2.2', payload);
    h.dp.execute({ frame: buffer }, actions);
    const sent = h.take(2);
    Harness.same([buffer, payload.subarray(8)], [frame, frame]);
    Harness.same(sent, [sent[0]!, sent[0]!, sent[0]!]);
    buffer.fill(0);
    payload.fill(0);
    Harness.same(sent, [through(h, frame, actions), sent[1]!, sent[2]!], 'what was sent is a copy');
  });

  test('a SYN announces no larger segments than the way takes, wherever the option is', (t, h) => {
    h.memory(1, 2);
    for (const ends of [ip4, ip6]) {
      for (const flags of [TCP_SYN, TCP_SYN | ACK]) {
        for (const data of [0, 1, 100]) {
          for (const before of [1001, 1460, 8960, 65_535]) {
            const places = (mss: number): number[][] => [
              mssOf(mss),
              [1, ...mssOf(mss), 3, 3, 7],
              [3, 3, 7, ...mssOf(mss), 1],
              [4, 2, ...timestamps, ...mssOf(mss)],
              [...mssOf(mss), 254, 4, 9, 9, 0, 255, 255, 255],
              [...mssOf(mss), 1, ...mssOf(mss), 1, 1, 1],
            ];
            places(before).forEach((options, i) => {
              const sent = through(h, syn(ends, options, flags, data));
              Harness.same([sent], [syn(ends, places(MSS)[i]!, flags, data)], 'as if it had been announced so');
              t.equal(parsePacket(sent).checksum, 'good');
            });
          }
        }
      }
    }
  });

  test('what is small enough, no SYN, or not as it should be stays what it is', (t, h) => {
    h.memory(1, 2);
    const large = mssOf(9000);
    const left = [
      syn(ip4, mssOf(999)),
      syn(ip4, mssOf(MSS)),
      syn(ip4, []),
      syn(ip4, [1, 1, 1, 1]),
      syn(ip4, large, ACK),
      syn(ip6, large, ACK),
      syn(ip4, [0, 0, 0, 0, ...large]),
      syn(ip4, [3, 0, 1, 1, ...large]),
      syn(ip4, [3, 1, ...large, 1, 1]),
      syn(ip4, [3, 40, 1, 1, ...large]),
      syn(ip4, [1, 1, 1, 2]),
      syn(ip4, [1, 2, 4, 9]),
      syn(ip4, [2, 3, 9, 1]),
      syn(ip4, [2, 8, 35, 40, 1, 1, 1, 1]),
      frames.udp(ip4, 1, 2, Uint8Array.of(...large, ...large, ...large)),
      frames.arpRequest(ip4),
    ];
    for (const frame of left) Harness.same([through(h, frame)], [frame]);
    t.equal(left.length, h.counters().tx);
  });

  test('an unfinished checksum does not cover the options, and stays', (_, h) => {
    h.memory(1);
    h.offloading(2);
    h.forward(1, clamp);
    for (const ends of [ip4, ip6]) {
      const l4 = ends === ip4 ? 34 : 54;
      const offload = { ...NO_OFFLOAD, flags: NEEDS_CSUM, csumStart: l4, csumOffset: 16 };
      for (const options of [(mss: number) => mssOf(mss), (mss: number) => [1, ...mssOf(mss), 1, 1, 1]]) {
        const unfinished = (mss: number): Uint8Array => frames.unfinished(syn(ends, options(mss), TCP_SYN, 11));
        h.burst(1, { frame: unfinished(8960), offload });
        Harness.sameOffloaded(h.takeOffloaded(2), [{ frame: unfinished(MSS), offload }]);
      }
    }
  });

  test('finished on the way to a port without offloads, and in the tunnel', (t, h) => {
    h.memory(1, 2);
    h.vxlan(9, '192.0.2.1');
    const offload = { ...NO_OFFLOAD, flags: NEEDS_CSUM, csumStart: 34, csumOffset: 16 };
    h.forward(1, [{ op: 'clamp', mss: MSS }, ...output(2), { op: 'encap', vni: 5 as never, vtep: new Uint8Array(16) }]);
    h.burst(1, { frame: frames.unfinished(syn(ip4, mssOf(8960))), offload });
    Harness.same(h.take(2), [syn(ip4, mssOf(MSS))]);
    Harness.same([h.datagrams[0]!.payload.subarray(8)], [syn(ip4, mssOf(MSS))]);
    t.equal(h.counters().copies, 1);
  });

  test('behind extension headers, IPv4 options and an mtu, after the route', (t, h) => {
    h.memory(1, 2);
    const mac = new Uint8Array(6).fill(2);
    const route: Action = { op: 'route', source: mac, destination: mac };
    const routed: Action[] = [{ op: 'mtu', bytes: 576 }, route, ...clamp];
    const options = { ...ip4, ip4: { options: Uint8Array.of(1, 1, 1, 0) } };
    const sent = through(h, syn(options, [1, ...mssOf(1460), 1, 1, 1]), routed);
    t.equal(parsePacket(sent).checksum, 'good');
    t.equal(getU16(sent, 38 + 20 + 3), MSS);
    t.equal(parsePacket(sent).ttl, 63);

    const segment = syn(ip6, mssOf(8960)).subarray(54);
    const behind = frames.ip(ip6, 60, buildExtension(6, new Uint8Array(6), segment));
    const expected = behind.slice();
    expected.set(syn(ip6, mssOf(MSS)).subarray(54), behind.length - segment.length);
    Harness.same([through(h, behind)], [expected]);
  });

  test('of a SYN in fragments, the first', (t, h) => {
    h.memory(1, 2);
    const whole = syn(ip4, mssOf(8960), TCP_SYN, 900);
    h.forward(1, [{ op: 'mtu', bytes: 576 }, ...clamp]);
    h.inject(1, whole);
    const packets = h.take(2).map((frame) => parseIpv4(parseEthernet(frame)!.payload)!);
    t.equal(packets.length, 2);
    const segment = concat(...packets.map(({ payload }) => payload));
    t.same([...segment], [...syn(ip4, mssOf(MSS), TCP_SYN, 900).subarray(34)]);

    // A later fragment whose payload only looks like the beginning of a segment.
    const looks = concat(new Uint8Array(13), Uint8Array.of(TCP_SYN), new Uint8Array(6), Uint8Array.from(mssOf(9000)));
    looks[12] = 0x60;
    setU16(looks, 0, 1000);
    const segmentOf64 = { ...FIRST, flags: ACK, payload: new Uint8Array(44) };
    const first = frames.ip(
      { ...ip4, ip4: { id: 7, moreFragments: true } },
      6,
      buildTcp(new Uint8Array(4), new Uint8Array(4), segmentOf64),
    );
    Harness.same([through(h, first)], [first]);
    const later = frames.ip({ ...ip4, ip4: { id: 7, fragmentOffset: 64 } }, 6, looks);
    Harness.same([through(h, later)], [later]);
  });
}
