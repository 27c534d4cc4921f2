/**
 * Superframes and partial checksums: each virtio_net_hdr that does not fit is refused; ports that take
 * offloads get a frame as it came; all other ports, and the tunnel, get the frames that it stands for.
 */
import type { MirroredFrame, OffloadedFrame } from '../../src/datapath/datapath.ts';
import type { Offload } from '../../src/flow/offload.ts';
import { concat, setU16 } from '../../src/wire/bytes.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { buildFragment } from '../../src/wire/ipv6.ts';
import * as frames from '../support/frames.ts';
import { parsePacket, withPartialSum } from '../support/packets.ts';
import * as superframes from '../support/superframes.ts';
import { partialOf, segmentsOf, someBytes, superframeOf, type Stretch } from '../support/superframes.ts';
import { encap, Harness, output, portNo, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const { ACK, CWR, DATA_VALID, ECN, FIN, NEEDS_CSUM, PSH, TCPV4, TCPV6, UDP_L4 } = superframes;
const zero = (length: number) => new Uint8Array(length);
const vlan = { tpid: 0x8100, tci: 0x2005 };

const tcp4: Stretch = { family: 4, protocol: 'tcp', payload: someBytes(1000) };
const tcp6: Stretch = { ...tcp4, family: 6 };
const udp4: Stretch = { ...tcp4, protocol: 'udp' };
const udp6: Stretch = { ...tcp4, family: 6, protocol: 'udp' };

/** Timestamps behind two NOPs. */
const timestamps = Uint8Array.of(1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8);

const stretches: readonly [string, Stretch, number][] = [tcp4, tcp6, udp4, udp6].flatMap((base) => {
  const name = `${base.protocol.toUpperCase()} over IPv${base.family}`;
  const all: [string, Stretch, number][] = [
    [name, { ...base, payload: someBytes(4000) }, 1000],
    [`${name}, odd sizes`, { ...base, payload: someBytes(5003) }, 1001],
    [`${name}, a byte in the last`, { ...base, payload: someBytes(2001) }, 1000],
    [`${name}, tagged`, { ...base, payload: someBytes(3333), vlan }, 500],
    [`${name}, CE and a low TTL`, { ...base, payload: someBytes(3000), tos: 0xbb, ttl: 2 }, 1400],
    [`${name}, segments of one byte`, { ...base, payload: someBytes(1024) }, 1],
    [`${name}, as large as can be`, { ...base, payload: someBytes(65535 - 60) }, 1448],
  ];
  if (base.family === 4) {
    const ipOptions = Uint8Array.of(148, 4, 0, 0);
    all.push([`${name}, IP options`, { ...base, payload: someBytes(3000), ipOptions }, 700]);
    const ids = { id: 0xfffe, dontFragment: false };
    all.push([`${name}, IDs that wrap, without DF`, { ...base, payload: someBytes(3000), ...ids }, 700]);
  } else {
    all.push([`${name}, extension header`, { ...base, payload: someBytes(3000), extension: true }, 700]);
    all.push([`${name}, flow label`, { ...base, payload: someBytes(3000), flowLabel: 0xabcde }, 700]);
  }
  if (base.protocol === 'tcp') {
    const options = { tcpOptions: timestamps };
    all.push([`${name}, options`, { ...base, payload: someBytes(3000), ...options }, 700]);
    const flags = ACK | FIN | PSH | CWR | 0x40;
    all.push([`${name}, FIN, PSH, CWR and ECE`, { ...base, payload: someBytes(3000), flags }, 700]);
    all.push([`${name}, a sequence that wraps`, { ...base, payload: someBytes(3000), sequence: 0xfffffc00 }, 700]);
  }
  return all;
});

export function runSegmentation(name: string, open: Open): void {
  const test = conformanceTests(name, open);

  for (const [what, stretch, gsoSize] of stretches) {
    test(`a superframe and what it stands for: ${what}`, (t, h) => {
      h.memory(1, 2);
      h.offloading(3);
      h.vxlan(5, '192.0.2.1');
      h.forward(1, [...output(3, 2), encap(7, '192.0.2.2'), ...output(3)]);
      const superframe = superframeOf(stretch, gsoSize);
      const before = superframe.frame.slice();
      h.burst(1, superframe);
      Harness.same([superframe.frame], [before], 'what was injected is not changed');

      const expected = segmentsOf(stretch, gsoSize);
      const whole = h.takeOffloaded(3);
      t.same(
        whole.map(({ offload }) => offload),
        [superframe.offload, superframe.offload],
      );
      Harness.same(
        whole.map(({ frame }) => frame),
        [superframe.frame, superframe.frame],
        'uncut',
      );
      const cut = h.takeOffloaded(2);
      t.ok(cut.every(({ offload }) => offload === undefined));
      const segments = cut.map(({ frame }) => frame);
      t.ok(
        segments.every((frame) => parsePacket(frame).checksum === 'good'),
        'correct checksums',
      );
      Harness.same(
        [concat(...segments.map((frame) => parsePacket(frame).payload))],
        [stretch.payload],
        'the same bytes',
      );
      Harness.same(segments, expected);
      Harness.same(
        h.datagrams.map(({ payload }) => payload.subarray(8)),
        expected,
        'into the tunnel',
      );
      t.equal(new Set(h.datagrams.map(({ sourcePort }) => sourcePort)).size, 1, 'from one port');

      const bytes = expected.reduce((sum, frame) => sum + frame.length, 0);
      const { length } = expected;
      const superframeBytes = superframe.frame.length;
      t.match(h.counters(), {
        rx: 1,
        copies: 3,
        segments: 2 * (length - 1),
        tx: 2 + 2 * length,
        coalesced: 0,
        drops: {},
      });
      t.match(h.counters().ports.get(portNo(1)), { rxFrames: 1, rxBytes: superframeBytes });
      t.match(h.counters().ports.get(portNo(2)), { txFrames: length, txBytes: bytes });
      t.match(h.counters().ports.get(portNo(3)), { txFrames: 2, txBytes: 2 * superframeBytes });
      t.match(h.counters().ports.get(portNo(5)), { txFrames: length, txBytes: bytes });
      t.match([...h.dp.flowDump()], [{ packets: 1, bytes: superframeBytes }], 'one frame to the flow');
    });
  }

  test('partial checksums are completed where they are not taken', (t, h) => {
    h.memory(1, 2);
    h.offloading(3);
    h.vxlan(5, '192.0.2.1');
    h.forward(1, [...output(2, 3), encap(7, '192.0.2.2'), ...output(2)]);
    for (const base of [tcp4, tcp6, udp4, udp6]) {
      for (const one of [base, { ...base, payload: someBytes(333), vlan }, { ...base, payload: zero(0) }]) {
        const partial = partialOf(one);
        const complete = superframes.frameOf(one);
        h.burst(1, partial);
        Harness.same(h.take(2), [complete, complete]);
        Harness.sameOffloaded(h.takeOffloaded(3), [partial]);
        Harness.same(
          h.datagrams.splice(0).map(({ payload }) => payload.subarray(8)),
          [complete],
        );
      }
    }
    t.match(h.counters(), { segments: 0, tx: 12 * 4 });
  });

  test('a sum of zero is written as 0xffff', (t, h) => {
    h.memory(1, 2);
    h.forward(1, output(2));
    for (const base of [udp4, udp6]) {
      // The last two bytes of the payload make the sum all ones.
      const draft = partialOf({ ...base, payload: zero(100) });
      const completed = () => {
        h.burst(1, draft);
        return h.take(2)[0]!;
      };
      const l4 = draft.offload.csumStart;
      const missing = Buffer.from(completed()).readUInt16BE(l4 + 6);
      setU16(draft.frame, draft.frame.length - 2, missing);
      t.equal(Buffer.from(completed()).readUInt16BE(l4 + 6), 0xffff, 'completed');
      const superframe = superframeOf({ ...base, payload: zero(101) }, 100);
      const segment = () => {
        h.burst(1, superframe);
        return h.take(2)[0]!;
      };
      setU16(superframe.frame, l4 + 8 + 98, Buffer.from(segment()).readUInt16BE(l4 + 6));
      t.equal(Buffer.from(segment()).readUInt16BE(l4 + 6), 0xffff, 'in a segment');
      t.equal(parsePacket(segment()).checksum, 'good');
      h.take(2);
    }
  });

  test('the end of a frame is where its packet ends', (t, h) => {
    h.memory(1, 2);
    h.offloading(3);
    h.forward(1, output(2, 3));
    for (const { frame, offload } of [partialOf(tcp4), superframeOf(tcp4, 400)]) {
      h.burst(1, { frame: concat(frame, zero(9).fill(0xee)), offload });
      t.ok(h.take(2).every((one) => parsePacket(one).checksum === 'good'));
      Harness.sameOffloaded(h.takeOffloaded(3), [{ frame, offload }]);
    }
  });

  test('a frame that needs no segmenting is an ordinary one', (_, h) => {
    h.memory(1);
    h.offloading(2);
    h.forward(1, output(2));
    for (const base of [tcp4, tcp6, udp4, udp6]) {
      const { frame, offload } = superframeOf(base, base.payload.length);
      const plain = { ...offload, gsoType: 0, gsoSize: 0 };
      h.burst(1, { frame, offload });
      Harness.sameOffloaded(h.takeOffloaded(2), [{ frame, offload: plain }], 'one segment');
      h.burst(1, { frame, offload: { ...offload, gsoType: 0 } });
      Harness.sameOffloaded(h.takeOffloaded(2), [{ frame, offload: plain }], 'gso_size without a type');
      const empty = superframeOf({ ...base, payload: zero(0) }, 1);
      h.burst(1, empty);
      Harness.sameOffloaded(h.takeOffloaded(2), [
        { frame: empty.frame, offload: { ...empty.offload, gsoType: 0, gsoSize: 0 } },
      ]);
      const complete = superframes.frameOf(base);
      const claims = [
        { flags: 0, gsoType: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 },
        { flags: DATA_VALID, gsoType: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 },
        { flags: 0, gsoType: 0, gsoSize: 9, csumStart: 65535, csumOffset: 65535 },
      ];
      for (const claim of claims) {
        h.burst(1, { frame: complete, offload: claim });
        Harness.sameOffloaded(h.takeOffloaded(2), [{ frame: complete, offload: undefined }], 'nothing is left to do');
      }
      h.burst(1, { frame, offload: { ...plain, flags: NEEDS_CSUM | DATA_VALID } });
      Harness.sameOffloaded(h.takeOffloaded(2), [{ frame, offload: plain }], 'DATA_VALID ends here');
      const whole = superframeOf(base, 100);
      h.burst(1, { frame, offload: { ...whole.offload, flags: NEEDS_CSUM | DATA_VALID } });
      Harness.sameOffloaded(h.takeOffloaded(2), [whole], 'also beside a superframe');
    }
    const ecn = superframeOf(tcp4, 100);
    const marked = { ...ecn.offload, gsoType: TCPV4 | ECN };
    h.burst(1, { frame: ecn.frame, offload: marked });
    Harness.sameOffloaded(h.takeOffloaded(2), [{ frame: ecn.frame, offload: marked }], 'the ECN bit goes along');
    h.burst(1, { frame: ecn.frame, offload: { ...marked, gsoSize: 1000 } });
    Harness.sameOffloaded(h.takeOffloaded(2), [{ frame: ecn.frame, offload: { ...marked, gsoType: 0, gsoSize: 0 } }]);
  });

  test('a superframe of more than 1,024 segments goes on as two', (t, h) => {
    h.memory(1, 2);
    h.offloading(3);
    h.vxlan(5, '192.0.2.1');
    const mac = new Uint8Array(6).fill(2);
    const plain = [...output(3, 2), encap(7, '192.0.2.2')];
    const all = FIN | PSH | ACK | CWR | 0x40;
    for (const base of [{ ...tcp4, flags: all }, { ...tcp6, flags: all }, udp4, udp6]) {
      for (const [segments, gsoSize] of [
        [1024, 2],
        [1025, 2],
        [1400, 36],
      ] as const) {
        const stretch = { ...base, payload: someBytes(segments * gsoSize - 1) };
        const expected = segmentsOf(stretch, gsoSize);
        const superframe = superframeOf(stretch, gsoSize);
        const marked = { ...superframe.offload, gsoType: superframe.offload.gsoType | ('flags' in base ? ECN : 0) };
        h.forward(1, plain);
        h.burst(1, { ...superframe, offload: marked });
        Harness.same(h.take(2), expected);
        Harness.same(
          h.datagrams.splice(0).map(({ payload }) => payload.subarray(8)),
          expected,
        );
        // The two parts are superframes themselves: segmented, they give the same frames.
        const parts = h.takeOffloaded(3);
        t.equal(parts.length, segments > 1024 ? 2 : 1);
        h.forward(1, output(2));
        for (const part of parts) h.burst(1, part);
        Harness.same(h.take(2), expected);
        // Rewriting the first part leaves the headers of the second one alone.
        h.forward(1, [{ op: 'route', source: mac, destination: mac }, ...output(2)]);
        h.burst(1, { ...superframe, offload: marked });
        const routed = h.take(2);
        h.inject(1, ...expected);
        Harness.same(routed, h.take(2));
      }
    }
  });

  test('a superframe whose IPv4 header has a wrong checksum is not cut into right ones', (t, h) => {
    h.memory(1, 2);
    h.forward(1, output(2));
    const { frame, offload } = superframeOf({ ...tcp4, payload: someBytes(3000) }, 700);
    frame[24]! ^= 1;
    h.burst(1, { frame, offload });
    t.same(h.take(2), []);
    t.same(h.drops(), { ipv4_checksum: 1 });
  });

  test('each virtio_net_hdr that does not fit its frame is refused', (t, h) => {
    h.memory(1);
    h.offloading(2);
    h.forward(1, output(2));
    const refused = (what: string, frame: Uint8Array, offload: Offload) => {
      const { rxBytes } = h.counters().ports.get(portNo(1))!;
      const drops = h.drops().bad_vnet_hdr ?? 0;
      h.burst(1, { frame, offload });
      t.same(h.take(2), [], what);
      t.same(h.drops(), { bad_vnet_hdr: drops + 1 }, what);
      t.equal(h.counters().ports.get(portNo(1))!.rxBytes, rxBytes + frame.length, what);
    };
    for (const base of [tcp4, tcp6, udp4, udp6]) {
      const { frame, offload } = superframeOf(base, 100);
      const { csumStart, csumOffset, gsoType } = offload;
      const name = `${base.protocol}${base.family}`;
      const variants: [string, Partial<Offload>][] = [
        ['an unknown flag', { flags: NEEDS_CSUM | 4 }],
        ['all flags', { flags: 255 }],
        ['gso without NEEDS_CSUM', { flags: 0 }],
        ['gso with DATA_VALID alone', { flags: DATA_VALID }],
        ['gso_size 0', { gsoSize: 0 }],
        ['UFO', { gsoType: 3 }],
        ['gso type 2', { gsoType: 2 }],
        ['gso type 6', { gsoType: 6 }],
        ['gso type 0x40', { gsoType: gsoType | 0x40 }],
        ['ECN alone', { gsoType: ECN }],
        ['ECN with UDP', { gsoType: UDP_L4 | ECN }],
        ['the other family', { gsoType: base.family === 4 ? TCPV6 : TCPV4 }],
        ['the other protocol', { gsoType: base.protocol === 'udp' ? (base.family === 4 ? TCPV4 : TCPV6) : UDP_L4 }],
        ['csum_start before the L4 header', { csumStart: csumStart - 1 }],
        ['csum_start behind it', { csumStart: csumStart + 2 }],
        ['csum_start at the L3 header', { csumStart: 14 }],
        ['csum_offset', { csumOffset: csumOffset + 1 }],
        ['csum_offset of the other protocol', { csumOffset: 22 - csumOffset }],
        ['csum_start in the Ethernet header', { csumStart: 13 }],
        ['csum_start 0', { csumStart: 0 }],
        ['csum_start at the end', { csumStart: frame.length }],
        ['a checksum behind the end', { csumStart: frame.length - csumOffset - 1 }],
        ['a sum of both beyond 65,535', { csumStart: 65535, csumOffset: 65535 }],
      ];
      for (const [what, changes] of variants) refused(`${name}, ${what}`, frame, { ...offload, ...changes });
      const plain = { ...offload, gsoType: 0, gsoSize: 0 };
      for (const csumOffset of [0, 6, 12, 16]) {
        refused(`${name}, partial, over byte ${14 + csumOffset}`, frame, { ...plain, csumStart: 14, csumOffset });
      }
      refused(`${name}, partial, a field before its own`, frame, { ...plain, csumOffset: csumOffset - 2 });
      refused(`${name}, partial, csum_start 13`, frame, { ...plain, csumStart: 13 });
      refused(`${name}, partial, at the end`, frame, { ...plain, csumStart: frame.length - csumOffset - 1 });
      refused(`${name}, ECN without gso`, frame, { ...plain, gsoType: ECN });

      const many = superframeOf({ ...base, payload: someBytes(2049) }, 1);
      refused(`${name}, 2,049 segments`, many.frame, many.offload);
      const fragment = fragmentOf(base);
      refused(`${name}, a fragment`, fragment.frame, fragment.offload);
    }
    for (const base of [udp4, udp6]) {
      const { frame, offload } = superframeOf(base, 100);
      for (const change of [-1, 1]) {
        const wrong = frame.slice();
        setU16(wrong, offload.csumStart + 4, frame.length - offload.csumStart + change);
        refused('a UDP length that is not the packet’s', wrong, offload);
      }
    }
    const arp = frames.arpRequest({});
    const asked = { flags: NEEDS_CSUM, gsoType: TCPV4, gsoSize: 5, csumStart: 34, csumOffset: 6 };
    refused('ARP', arp, asked);
    refused('an unknown protocol', frames.ip({}, 47, zero(100)), asked);
    refused('ICMP', frames.echo({}, 1, 1, zero(100)), asked);
    refused('no IP at all', frames.ethernet({}, 0x1234, zero(100)), asked);
    const long = longHeaders(23);
    refused('258 bytes of headers', long.frame, long.offload);
    const fits = longHeaders(22);
    t.equal(parsePacket(fits.frame).l4Offset + 20, 250);
    h.burst(1, fits);
    Harness.sameOffloaded(h.takeOffloaded(2), [fits], '250 bytes of headers');
  });

  test('padding does not make room for a checksum', (t, h) => {
    h.memory(1);
    const frame = concat(frames.ip({}, 47, zero(10)), zero(20));
    const offload = { flags: NEEDS_CSUM, gsoType: 0, gsoSize: 0, csumStart: 34, csumOffset: 9 };
    h.burst(1, { frame, offload });
    t.same(h.drops(), { bad_vnet_hdr: 1 });
    t.match(h.counters().ports.get(portNo(1)), { rxFrames: 1, rxBytes: 44 });
  });

  test('a broken frame has the reason of extraction, whatever its virtio_net_hdr says', (t, h) => {
    h.memory(1);
    h.burst(1, { frame: zero(13), offload: { flags: 255, gsoType: 255, gsoSize: 0, csumStart: 0, csumOffset: 0 } });
    t.same(h.drops(), { frame_too_short: 1 });
  });

  test('a superframe parks as one frame and keeps what is left to do', (t, h) => {
    h.memory(1, 2);
    h.offloading(3);
    const all = [superframeOf(tcp4, 300), partialOf(tcp4), { frame: superframes.frameOf(tcp4) }];
    for (const one of all) h.burst(1, one);
    t.match(h.counters(), { rx: 3, held: 3, upcalls: 1 });
    t.equal(h.upcalls[0]!.lengthBytes, all[0]!.frame.length);
    t.same(h.upcalls[0]!.head, all[0]!.frame.subarray(0, 256));
    h.answer(0, output(3, 2));
    Harness.sameOffloaded(
      h.takeOffloaded(3),
      all.map((one): OffloadedFrame => ({ offload: undefined, ...one })),
    );
    const complete = superframes.frameOf(tcp4);
    Harness.same(h.take(2), [...segmentsOf(tcp4, 300), complete, complete]);
  });

  test('a dropped or consumed superframe is one frame', (t, h) => {
    h.memory(1);
    h.burst(1, superframeOf(tcp4, 300));
    h.burst(1, superframeOf(tcp6, 300));
    h.burst(1, superframeOf(udp4, 300));
    h.answer(0, [{ op: 'drop', reason: 'spoof_mac' }]);
    h.answer(1, [{ op: 'consume' }]);
    h.answer(2, [...output(9), encap(7, '192.0.2.2')]);
    t.match(h.counters(), {
      ...{ rx: 3, consumed: 1, segments: 0, copies: 1 },
      drops: { spoof_mac: 1, port_gone: 1, underlay_missing: 1 },
    });
  });

  test('a mirror sees a superframe where it is one, and its segments where they are', (t, h) => {
    h.memory(1, 2);
    h.offloading(3);
    h.vxlan(5, '192.0.2.1');
    h.forward(1, [...output(3, 2), encap(7, '192.0.2.2')]);
    const seen: MirroredFrame[] = [];
    h.dp.mirror({ snapBytes: 100_000 }, (batch) => seen.push(...batch));
    const superframe = superframeOf(tcp4, 400);
    h.burst(1, superframe);
    const segments = segmentsOf(tcp4, 400);
    const places = seen.map(({ direction, port, lengthBytes }) => `${direction} ${port} ${lengthBytes}`);
    t.same(places, [
      ...[`rx 1 1054`, `tx 3 1054`],
      ...['tx 2 454', 'tx 2 454', 'tx 2 254'],
      ...['tx 5 454', 'tx 5 454', 'tx 5 254'],
    ]);
    Harness.same(
      seen.map(({ bytes }) => bytes),
      [superframe.frame, superframe.frame, ...segments, ...segments],
    );
  });

  test('an unfinished checksum from the tunnel stays partial for a port that takes it', (_, h) => {
    h.memory(1);
    h.offloading(2);
    h.vxlan(5, '192.0.2.1');
    h.forward(5, output(2, 1));
    for (const base of [tcp4, tcp6, udp4, udp6]) {
      for (const one of [base, { ...base, vlan }]) {
        const partial = partialOf(one);
        h.injectDatagram(5, '192.0.2.9', buildVxlan({ vni: 7, frame: partial.frame }));
        Harness.sameOffloaded(h.takeOffloaded(2), [partial]);
        Harness.same(h.take(1), [superframes.frameOf(one)]);
      }
    }
    const extended = withPartialSum(superframes.frameOf({ ...tcp6, extension: true }));
    h.injectDatagram(5, '192.0.2.9', buildVxlan({ vni: 7, frame: extended }));
    Harness.sameOffloaded(
      h.takeOffloaded(2),
      [{ frame: extended, offload: undefined }],
      'not behind extension headers',
    );
    const fragment = fragmentOf(tcp4).frame;
    h.injectDatagram(5, '192.0.2.9', buildVxlan({ vni: 7, frame: fragment }));
    Harness.sameOffloaded(h.takeOffloaded(2), [{ frame: fragment, offload: undefined }], 'not in a fragment');
  });

  test('what weft makes has nothing left to do', (_, h) => {
    h.offloading(1);
    const frame = partialOf(tcp4).frame;
    h.dp.execute({ frame }, output(1));
    Harness.sameOffloaded(h.takeOffloaded(1), [{ frame, offload: undefined }]);
  });
}

/** The first fragment of a stretch, a multiple of 8 bytes, with the offload of a superframe. */
function fragmentOf(stretch: Stretch): OffloadedFrame & { readonly offload: Offload } {
  const headerBytes = stretch.protocol === 'tcp' ? 20 + (stretch.tcpOptions?.length ?? 0) : 8;
  const payload = stretch.payload.subarray((headerBytes + stretch.payload.length) % 8);
  const { frame, offload } = superframeOf({ ...stretch, payload }, 100);
  if (stretch.family === 4) {
    const fragment = frame.slice();
    setU16(fragment, 20, 0x2000);
    return { frame: fragment, offload };
  }
  const ends = { src: 'fd00::1', dst: 'fd00::2' };
  const nextHeader = stretch.protocol === 'tcp' ? 6 : 17;
  const inner = buildFragment({ nextHeader, offset: 0, more: true, id: 1 }, frame.subarray(54));
  return { frame: frames.ip(ends, 44, inner), offload: { ...offload, csumStart: offload.csumStart + 8 } };
}

/** A superframe over IPv6 with `units` times 8 bytes of destination options. */
function longHeaders(units: number): OffloadedFrame & { readonly offload: Offload } {
  const { frame, offload } = superframeOf(tcp6, 100);
  const options = zero(units * 8);
  options[0] = 6;
  options[1] = units - 1;
  const long = concat(frame.subarray(0, 54), options, frame.subarray(54));
  long[20] = 60;
  setU16(long, 18, long.length - 54);
  return { frame: long, offload: { ...offload, csumStart: offload.csumStart + options.length } };
}
