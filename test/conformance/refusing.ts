/**
 * Conformance of `refuse`: the bytes of each answer, what is never answered, where answers go, and how
 * many there may be.
 */
import { openPort, type OffloadedFrame, type PortRates } from '../../src/datapath/datapath.ts';
import type { Action } from '../../src/flow/action.ts';
import type { RefusalAnswer } from '../../src/flow/refusal.ts';
import { parseIp } from '../../src/flow/types.ts';
import { concat } from '../../src/wire/bytes.ts';
import { buildExtension } from '../../src/wire/ipv6.ts';
import { buildTcp, TCP_SYN } from '../../src/wire/l4.ts';
import { buildVxlan, parseVxlan } from '../../src/wire/vxlan.ts';
import * as frames from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { segmentsOf, someBytes, superframeOf, type Stretch } from '../support/superframes.ts';
import { Harness, portNo, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const [FIN, RST, PSH, ACK] = [1, 4, 8, 16];
const VNI = 0x123456;
const ports = { sourcePort: 1000, destinationPort: 80 };
const back = { sourcePort: 80, destinationPort: 1000, window: 0 };
const ip4: frames.Ends = { src: '10.0.0.1', dst: '10.0.0.2' };
const ip6: frames.Ends = { src: 'fd00::1', dst: 'fd00::2' };
const turned = ({ src = '', dst = '' }: frames.Ends): frames.Ends => ({
  srcMac: '02:00:00:00:00:02',
  dstMac: '02:00:00:00:00:01',
  src: dst,
  dst: src,
  ip4: { dontFragment: true },
});
const gateways = { 4: '10.0.0.254', 6: 'fd00::fe' } as const;
const hex = (frame: Uint8Array): string => Buffer.from(frame).toString('hex');

const refuse = (answer: RefusalAnswer): Action[] => [{ op: 'refuse', reason: 'no_route', answer }];
const reset = refuse({ kind: 'tcp_reset' });
const icmp = (kind: Exclude<RefusalAnswer['kind'], 'tcp_reset'>, from: string): Action[] =>
  refuse({ kind, from: parseIp(from) });
/** By IPv4, and by IPv6. */
const unreachable = [icmp('port_unreachable', gateways[4]), icmp('port_unreachable', gateways[6])] as const;

function limited(h: Harness, port: number, rates: PortRates): void {
  h.sent.set(port, []);
  const transmit = (frame: Uint8Array): void => void h.sent.get(port)!.push({ frame });
  openPort(h.dp, portNo(port), { kind: 'memory', name: `m${port}`, transmit, rates });
}

export function runRefusing(name: string, open: Open): void {
  const test = conformanceTests(name, open);
  const answersTo = (h: Harness, actions: readonly Action[], ...burst: readonly (Uint8Array | OffloadedFrame)[]) => {
    h.forward(1, actions);
    h.burst(1, ...burst.map((one) => (one instanceof Uint8Array ? { frame: one } : one)));
    return h.take(1);
  };

  test('a segment gets the reset that its sender accepts', (t, h) => {
    h.memory(1);
    const payload = someBytes(100);
    const cases = [
      [
        { sequence: 7000, flags: TCP_SYN },
        { acknowledgment: 7001, flags: RST | ACK },
      ],
      [
        { sequence: 0xffffffff, flags: TCP_SYN },
        { acknowledgment: 0, flags: RST | ACK },
      ],
      [
        { sequence: 7000, flags: TCP_SYN, payload },
        { acknowledgment: 7101, flags: RST | ACK },
      ],
      [
        { sequence: 7000, flags: TCP_SYN | FIN, payload },
        { acknowledgment: 7102, flags: RST | ACK },
      ],
      [
        { sequence: 0xffffffa0, flags: FIN, payload },
        { acknowledgment: 5, flags: RST | ACK },
      ],
      [
        { sequence: 7000, flags: 0 },
        { acknowledgment: 7000, flags: RST | ACK },
      ],
      [
        { sequence: 7000, acknowledgment: 9, flags: ACK | PSH, payload },
        { sequence: 9, flags: RST },
      ],
      [
        { sequence: 7000, acknowledgment: 0xffffffff, flags: ACK | FIN },
        { sequence: 0xffffffff, flags: RST },
      ],
      [
        { sequence: 7000, acknowledgment: 9, flags: ACK | TCP_SYN },
        { sequence: 9, flags: RST },
      ],
    ] as const;
    for (const ends of [ip4, ip6]) {
      for (const options of [new Uint8Array(), Uint8Array.of(2, 4, 5, 0xb4)]) {
        for (const [segment, expected] of cases) {
          const sent = answersTo(h, reset, frames.tcp(ends, { ...ports, ...segment, options }));
          Harness.same(sent, [frames.tcp(turned(ends), { ...back, sequence: 0, ...expected })]);
          t.equal(parsePacket(sent[0]!).checksum, 'good');
        }
      }
    }
    const { drops, originated, tx } = h.counters();
    t.same([drops, originated, tx], [{ no_route: 4 * cases.length }, 4 * cases.length, 4 * cases.length]);
  });

  test('the bytes of a reset and of an ICMP error', (t, h) => {
    h.memory(1);
    const syn = frames.tcp(ip4, { ...ports, sequence: 1, flags: TCP_SYN });
    t.equal(
      hex(answersTo(h, reset, syn)[0]!),
      '020000000001020000000002' +
        '080045000028000040004006' +
        '26ce0a0000020a000001' +
        '005003e8000000000000000250140000' +
        '97940000',
    );
    t.equal(
      hex(answersTo(h, unreachable[0], frames.udp(ip4, 1, 2))[0]!),
      '020000000001020000000002' +
        '080045c00038000000004001' +
        '65070a0000fe0a000001' +
        '0303111900000000' +
        '4500001c00000000401166cf0a0000010a000002' +
        '000100020008ebd8',
    );
  });

  test('ICMP errors by their names, from the address in the action', (t, h) => {
    h.memory(1);
    const codes = {
      net_unreachable: [3, 0, 1, 0],
      host_unreachable: [3, 1, 1, 3],
      port_unreachable: [3, 3, 1, 4],
      prohibited: [3, 13, 1, 1],
      time_exceeded: [11, 0, 3, 0],
    } as const;
    for (const [kind, [type4, code4, type6, code6]] of Object.entries(codes)) {
      for (const [ends, type, code, from, l4, ttl] of [
        [ip4, type4, code4, gateways[4], 34, 22],
        [ip6, type6, code6, gateways[6], 54, 21],
      ] as const) {
        const packet = frames.udp(ends, 1, 2, someBytes(11));
        const [sent] = answersTo(h, icmp(kind as keyof typeof codes, from), packet);
        t.same([sent![l4], sent![l4 + 1], sent![ttl]], [type, code, 64], kind);
        const wire = frames.wireIp(from);
        const at = wire.length === 4 ? 26 : 22;
        t.same([...sent!.subarray(at, at + wire.length)], [...wire]);
        t.equal(hex(sent!.subarray(l4 + 8)), hex(packet.subarray(14)), 'it quotes the whole packet');
      }
    }
  });

  test('as much is quoted as fits into 576 bytes, or 1280; padding is not', (t, h) => {
    h.memory(1);
    for (const size of [0, 1, 500, 519, 520, 521, 1183, 1184, 1185, 1400]) {
      const packet = frames.udp(ip4, 1, 2, someBytes(size));
      const packet6 = frames.udp(ip6, 1, 2, someBytes(size));
      const padded = concat(packet, new Uint8Array(20).fill(0xee));
      const [sent, sent6, ofPadded] = [
        answersTo(h, unreachable[0], packet)[0]!,
        answersTo(h, unreachable[1], packet6)[0]!,
        answersTo(h, unreachable[0], padded)[0]!,
      ];
      t.equal(hex(sent.subarray(42)), hex(packet.subarray(14, 14 + 548)));
      t.equal(hex(sent6.subarray(62)), hex(packet6.subarray(14, 14 + 1232)));
      t.equal(hex(ofPadded), hex(sent));
    }
  });

  test('behind IPv4 options, extension headers and padding', (t, h) => {
    h.memory(1);
    const segment = { ...ports, sequence: 1, flags: TCP_SYN };
    const expected = { ...back, acknowledgment: 2, flags: RST | ACK };
    const options = { ...ip4, ip4: { options: Uint8Array.of(1, 1, 1, 0) } };
    const padded = concat(frames.tcp(options, segment), new Uint8Array(9));
    Harness.same(answersTo(h, reset, padded), [frames.tcp(turned(ip4), expected)]);
    const tcp = buildTcp(frames.wireIp(ip6.src!), frames.wireIp(ip6.dst!), segment);
    const extended = frames.ip(ip6, 60, buildExtension(60, new Uint8Array(6), buildExtension(6, someBytes(14), tcp)));
    Harness.same(answersTo(h, reset, extended), [frames.tcp(turned(ip6), expected)]);
    const [quoting] = answersTo(h, unreachable[1], extended);
    t.equal(hex(quoting!.subarray(62)), hex(extended.subarray(14)));
  });

  test('what is never answered', (t, h) => {
    h.memory(1);
    const error4 = (type: number): Uint8Array => frames.ip(ip4, 1, Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0, 1));
    const error6 = (type: number): Uint8Array => frames.ip(ip6, 58, Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0, 1));
    const redirect = { ...ip6, src: 'fe80::1', ip6: { hopLimit: 255 } };
    const syn = (ends: frames.Ends): Uint8Array => frames.tcp(ends, { ...ports, flags: TCP_SYN });
    const never: Record<string, readonly Uint8Array[]> = {
      'not IP': [frames.arpReply(ip4)],
      'a tagged frame': [
        syn({ ...ip4, vlan: { tpid: 0x8100, tci: 5 } }),
        syn({ ...ip6, vlan: { tpid: 0x88a8, tci: 0 } }),
      ],
      'a frame to or from a group MAC': [
        syn({ ...ip4, dstMac: 'ff:ff:ff:ff:ff:ff' }),
        syn({ ...ip6, dstMac: '33:33:00:00:00:01' }),
        syn({ ...ip4, srcMac: '03:00:00:00:00:01' }),
      ],
      'a packet to a group': ['224.0.0.1', '239.255.255.255', '255.255.255.255', 'ff02::1', 'ff0e::1'].map((dst) =>
        syn({ src: dst.includes(':') ? 'fd00::1' : '10.0.0.1', dst }),
      ),
      'a packet from what is not one host': [
        ...['0.0.0.0', '0.1.2.3', '127.0.0.1', '224.0.0.1', '240.0.0.1', '255.255.255.255'].map((src) =>
          syn({ ...ip4, src }),
        ),
        ...['::', '::1', 'ff02::1'].map((src) => syn({ ...ip6, src })),
      ],
    };
    const neverByIcmp: Record<string, readonly Uint8Array[]> = {
      'an ICMP error': [...[3, 4, 5, 11, 12].map(error4), ...[1, 2, 3, 4, 100].map(error6)],
      'an ICMPv6 redirect': [frames.ip(redirect, 58, concat(Uint8Array.of(137, 0, 0, 0), new Uint8Array(36).fill(1)))],
    };
    const neverByReset: Record<string, readonly Uint8Array[]> = {
      'a reset': [ip4, ip6].flatMap((ends) =>
        [RST, RST | ACK, RST | TCP_SYN].map((flags) => frames.tcp(ends, { ...ports, flags })),
      ),
      'no TCP': [frames.udp(ip4, 1, 2), frames.echo(ip6, 1, 2)],
      'part of a segment': [
        frames.ip({ ...ip4, ip4: { id: 8, moreFragments: true } }, 6, concat(syn(ip4).subarray(34), someBytes(4))),
      ],
    };
    let injected = 0;
    const silent = (what: string, actions: readonly Action[], frame: Uint8Array): void => {
      t.same(answersTo(h, actions, frame), [], what);
      injected++;
    };
    const [icmp4, icmp6] = unreachable;
    for (const [what, of] of Object.entries({ ...never, ...neverByIcmp })) {
      for (const frame of of) {
        silent(what, icmp4, frame);
        silent(what, icmp6, frame);
      }
    }
    for (const [what, of] of Object.entries({ ...never, ...neverByReset })) {
      for (const frame of of) silent(what, reset, frame);
    }
    silent('an address of the other family', icmp6, frames.udp(ip4, 1, 2));
    silent('an address of the other family', icmp4, frames.udp(ip6, 1, 2));
    const { drops, originated, tx } = h.counters();
    t.same([originated, tx, drops], [0, 0, { no_route: injected }]);
  });

  test('of the fragments of a packet, the first is answered', (t, h) => {
    h.memory(1);
    const fragment = (at: number): Uint8Array =>
      frames.ip(
        { ...ip4, ip4: { id: 7, moreFragments: at === 0, fragmentOffset: at } },
        17,
        frames.udp(ip4, 1, 2, someBytes(120)).subarray(34 + at, at === 0 ? 34 + 64 : undefined),
      );
    h.forward(1, unreachable[0]);
    h.inject(1, fragment(64), fragment(0));
    const sent = h.take(1);
    t.equal(sent.length, 1);
    t.equal(hex(sent[0]!.subarray(42)), hex(fragment(0).subarray(14)));
    t.same(h.drops(), { no_route: 2 });
  });

  test('an echo request, and a first fragment, are answered', (t, h) => {
    h.memory(1);
    t.equal(answersTo(h, unreachable[0], frames.echo(ip4, 1, 2)).length, 1);
    t.equal(answersTo(h, unreachable[1], frames.echo(ip6, 1, 2)).length, 1);
    t.equal(answersTo(h, unreachable[0], frames.tcp(ip4, { ...ports, flags: RST })).length, 1, 'a reset, by ICMP');
  });

  test('an IPv4 header with a wrong checksum is answered by nothing', (t, h) => {
    h.memory(1);
    const frame = frames.tcp(ip4, { ...ports, flags: TCP_SYN });
    const wrong = frame.with(22, frame[22]! ^ 1);
    t.same(answersTo(h, reset, wrong), []);
    t.same(answersTo(h, unreachable[0], wrong), []);
    t.same(h.drops(), { ipv4_checksum: 2 });
  });

  const stretches: readonly Stretch[] = ([4, 6] as const).flatMap((family) => [
    { family, protocol: 'tcp', payload: someBytes(4000), sequence: 500, flags: ACK | PSH | FIN },
    { family, protocol: 'tcp', payload: someBytes(4000), sequence: 500, flags: FIN },
    { family, protocol: 'udp', payload: someBytes(4000) },
  ]);
  for (const stretch of stretches) {
    test(`a superframe is answered once: ${stretch.protocol} over IPv${stretch.family}, flags ${stretch.flags ?? 'none'}`, (t, h) => {
      h.memory(1);
      const quotes = (sent: Uint8Array): string => hex(sent.subarray(stretch.family === 4 ? 42 : 62));
      for (const gsoSize of [100, 1000]) {
        const superframe = superframeOf(stretch, gsoSize);
        const [first] = segmentsOf(stretch, gsoSize);
        const sent = answersTo(h, stretch.family === 4 ? unreachable[0] : unreachable[1], superframe);
        t.equal(sent.length, 1);
        t.equal(quotes(sent[0]!), hex(first!.subarray(14, 14 + (stretch.family === 4 ? 548 : 1232))));
        const resets = answersTo(h, reset, superframe);
        if (stretch.protocol === 'udp') t.equal(resets.length, 0);
        else {
          const ends = turned(stretch.family === 4 ? ip4 : ip6);
          const isAcknowledging = (stretch.flags! & ACK) !== 0;
          const [sequence, acknowledgment, flags] = isAcknowledging ? [5, 0, RST] : [0, 4501, RST | ACK];
          const ports = { sourcePort: 443, destinationPort: 1000, window: 0 };
          Harness.same(resets, [frames.tcp(ends, { ...ports, sequence, acknowledgment, flags })]);
        }
      }
    });
  }

  test('segments that were joined are answered once', (t, h) => {
    h.memory(1);
    const stretch: Stretch = { family: 4, protocol: 'tcp', payload: someBytes(3000), sequence: 500 };
    const burst = segmentsOf(stretch, 1000);
    const sent = answersTo(h, unreachable[0], ...burst);
    t.equal(sent.length, 1);
    t.equal(hex(sent[0]!.subarray(42)), hex(burst[0]!.subarray(14, 14 + 548)));
    const resets = answersTo(h, reset, ...burst);
    t.same(
      resets.map((frame) => parsePacket(frame).sequence),
      [5],
    );
    const { rx, coalesced, drops } = h.counters();
    t.same([rx, coalesced, drops], [6, 4, { no_route: 2 }]);
  });

  test('an unfinished checksum is finished in the quote', (t, h) => {
    h.offloading(1);
    const frame = frames.udp(ip4, 1, 2, someBytes(11));
    const offload = { flags: 1, gsoType: 0, gsoSize: 0, csumStart: 34, csumOffset: 6 };
    const [sent] = answersTo(h, unreachable[0], { frame: frames.unfinished(frame), offload });
    t.equal(hex(sent!.subarray(42)), hex(frame.subarray(14)));
  });

  test('through the tunnel, the answer goes back to the VTEP that the frame came from, in its VNI', (t, h) => {
    h.vxlan(9, '192.0.2.1');
    h.forward(9, reset);
    const syn = frames.tcp(ip4, { ...ports, sequence: 1, flags: TCP_SYN });
    h.injectDatagram(9, '192.0.2.7', buildVxlan({ vni: VNI, frame: syn }));
    h.injectDatagram(9, '2001:db8::7', buildVxlan({ vni: 5, frame: syn }));
    const answer = frames.tcp(turned(ip4), { ...back, acknowledgment: 2, flags: RST | ACK });
    t.equal(h.datagrams.length, 2);
    for (const [i, [vtep, vni]] of (
      [
        ['192.0.2.7', VNI],
        ['2001:db8::7', 5],
      ] as const
    ).entries()) {
      const { destination, payload } = h.datagrams[i]!;
      const { vni: sentVni, frame } = parseVxlan(payload)!;
      t.same([...destination], [...parseIp(vtep)]);
      t.equal(sentVni, vni);
      Harness.same([frame], [answer]);
    }
    const { rx, originated, tx, drops, ports: byPort } = h.counters();
    t.same([rx, originated, tx, drops], [2, 2, 2, { no_route: 2 }]);
    t.same(byPort.get(portNo(9))!.drops, { no_route: 2 });
  });

  test('frames that waited for the decision are answered each; weft’s own are not', (t, h) => {
    h.memory(1);
    const packet = frames.udp(ip4, 1, 2);
    h.inject(1, packet, packet, packet);
    h.answer(0, unreachable[0]);
    t.equal(h.take(1).length, 3);
    h.dp.execute({ frame: packet }, unreachable[0]);
    t.equal(h.take(1).length, 0);
    t.same(h.drops(), { no_route: 4 });
  });

  test('answers are held to the rate of the port', (t, h) => {
    limited(h, 1, { answers: { perSecond: 100, burst: 10 } });
    limited(h, 2, { answers: { perSecond: 100, burst: 10 } });
    const packet = frames.udp(ip4, 1, 2);
    const silent = frames.udp({ ...ip4, src: '127.0.0.1' }, 1, 2);
    const many = (frame: Uint8Array): Uint8Array[] => new Array<Uint8Array>(30).fill(frame);
    for (const port of [1, 2]) {
      h.forward(port, unreachable[0]);
      h.inject(port, ...many(silent));
      h.inject(port, ...many(packet));
      t.equal(h.take(port).length, 10, 'a burst; what is never answered takes nothing from it');
    }
    t.same(h.drops(), { no_route: 120 });
    t.equal(h.counters().unanswered, 40);
    h.nowMs += 50;
    h.inject(1, ...many(packet));
    t.equal(h.take(1).length, 5, 'as much as time brings');
    h.nowMs += 1_000_000;
    h.inject(1, ...many(packet));
    t.equal(h.take(1).length, 10, 'a pause saves up a burst, and no more');
    const { ports: byPort, unanswered } = h.counters();
    t.same([byPort.get(portNo(1))!.unanswered, byPort.get(portNo(2))!.unanswered, unanswered], [65, 20, 85]);
    h.dp.portSet(portNo(1), {});
    h.inject(1, ...many(packet));
    t.equal(h.take(1).length, 30, 'without a rate, all');
    h.dp.portDel(portNo(1));
    t.equal(h.counters().unanswered, 85, 'the total stays');
  });

  test('the answer keeps to the egress rate of its port', (t, h) => {
    limited(h, 1, { egress: { perSecond: 1000, burst: 70 } });
    h.forward(1, unreachable[0]);
    const packet = frames.udp(ip4, 1, 2);
    h.inject(1, packet, packet);
    t.equal(h.take(1).length, 1);
    t.same(h.drops(), { no_route: 2, rate_limit_egress: 1 });
    t.same(h.counters().ports.get(portNo(1))!.drops, { no_route: 2 }, 'the answer is weft’s, and came in nowhere');
  });
}
