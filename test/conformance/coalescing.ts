/**
 * Coalescing: what becomes one superframe, and what never does. Each burst goes to a port that takes
 * superframes and to one that does not: the first shows what was merged, the second that the stream
 * is the same as before.
 */
import type { Test } from 'tap';
import type { OffloadedFrame } from '../../src/datapath/datapath.ts';
import { parseIp } from '../../src/flow/types.ts';
import { concat, setU16 } from '../../src/wire/bytes.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import * as frames from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { Random } from '../support/random.ts';
import {
  ACK,
  DATA_VALID,
  frameOf,
  NEEDS_CSUM,
  partialOf,
  PSH,
  segmentsOf,
  someBytes,
  superframeOf,
  type Stretch,
} from '../support/superframes.ts';
import { encap, Harness, output, portNo, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const zero = (length: number) => new Uint8Array(length);
const flows: readonly Stretch[] = ([4, 6] as const).flatMap((family) =>
  (['tcp', 'udp'] as const).map((protocol) => ({ family, protocol, payload: someBytes(1000) })),
);
const [tcp4, , tcp6] = flows as [Stretch, Stretch, Stretch, Stretch];
const nameOf = ({ family, protocol }: Stretch) => `${protocol.toUpperCase()} over IPv${family}`;
const complete = (...list: Uint8Array[]): OffloadedFrame[] => list.map((frame) => ({ frame }));

/** Ports 2 (takes offloads) and 3 (does not) get everything that comes in by port 1 and the tunnel, 5. */
function begin(h: Harness): void {
  h.memory(1, 3);
  h.offloading(2);
  h.vxlan(5, '192.0.2.1');
  h.forward(1, output(2, 3));
  h.forward(5, output(2, 3));
}

/** Sends a burst; returns what comes out of each port. */
function merged(h: Harness, burst: readonly OffloadedFrame[]): { whole: OffloadedFrame[]; cut: Uint8Array[] } {
  h.burst(1, ...burst);
  h.counters();
  return { whole: h.takeOffloaded(2), cut: h.take(3) };
}

/** The burst comes out as it went in, in order, and nothing is merged. */
function staysApart(t: Test, h: Harness, what: string, burst: readonly OffloadedFrame[]): void {
  const before = h.counters();
  const { whole } = merged(h, burst);
  Harness.same(
    whole.map(({ frame }) => frame),
    burst.map(({ frame }) => frame),
    what,
  );
  t.equal(h.counters().coalesced, before.coalesced, what);
}

export function runCoalescing(name: string, open: Open): void {
  const test = conformanceTests(name, open);

  for (const flow of flows) {
    test(`segments of one burst become a superframe: ${nameOf(flow)}`, (t, h) => {
      begin(h);
      for (const [bytes, size] of [
        [4000, 1000],
        [4001, 1000],
        [3999, 1333],
        [2, 1],
        [40, 7],
      ] as const) {
        const stretch = { ...flow, payload: someBytes(bytes), id: 0xffff };
        const segments = segmentsOf(stretch, size);
        const before = h.counters();
        const { whole, cut } = merged(h, complete(...segments));
        Harness.sameOffloaded(whole, [superframeOf(stretch, size)], `${bytes} bytes in segments of ${size}`);
        Harness.same(cut, segments, 'and cut again they are what they were');
        const { rx, coalesced, tx } = h.counters();
        t.equal(rx - before.rx, segments.length);
        t.equal(coalesced - before.coalesced, segments.length - 1);
        t.equal(tx - before.tx, 1 + segments.length);
        h.injectDatagrams(5, '192.0.2.9', ...segments.map((frame) => buildVxlan({ vni: 7, frame })));
        Harness.sameOffloaded(h.takeOffloaded(2), [superframeOf(stretch, size)], 'from the tunnel');
        Harness.same(h.take(3), segments);
      }
      const hits = [...h.dp.flowDump()].reduce((sum, { packets }) => sum + packets, 0);
      t.equal(hits, 10, 'each is one frame to its flow');
    });
  }

  test('frames of two bursts stay apart', (t, h) => {
    begin(h);
    const [first, second] = segmentsOf(tcp4, 500) as [Uint8Array, Uint8Array];
    h.inject(1, first, second);
    h.burst(1, { frame: first });
    h.burst(1, { frame: second });
    for (const frame of [first, second]) h.injectDatagram(5, '192.0.2.9', buildVxlan({ vni: 7, frame }));
    Harness.same(h.take(2), [first, second, first, second, first, second]);
    t.equal(h.counters().coalesced, 0);
  });

  test('an empty burst is nothing', (t, h) => {
    begin(h);
    h.burst(1);
    h.injectDatagrams(5, '192.0.2.9');
    t.match(h.counters(), { rx: 0, tx: 0 });
  });

  test('partial and known checksums merge as complete ones do', (_, h) => {
    begin(h);
    for (const flow of flows) {
      const stretch = { ...flow, payload: someBytes(1200) };
      const parts = segmentsOf(stretch, 400);
      const spoilt = (index: number) => {
        const frame = parts[index]!.slice();
        frame[parsePacket(frame).l4Offset + (flow.protocol === 'tcp' ? 16 : 6)]! ^= 0x55;
        return frame;
      };
      const valid = { flags: DATA_VALID, gsoType: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };
      const partial = (index: number) => {
        const payload = stretch.payload.subarray(index * 400, index * 400 + 400);
        return partialOf({ ...stretch, payload, sequence: 1 + index * 400, id: 7 + index });
      };
      const burst = [{ frame: parts[0]! }, partial(1), { frame: spoilt(2), offload: valid }];
      const { whole, cut } = merged(h, burst);
      Harness.sameOffloaded(whole, [superframeOf(stretch, 400)], `${nameOf(flow)}: said to be valid, so not summed`);
      Harness.same(cut, parts);
      const both = { ...partial(2), offload: { ...partial(2).offload, flags: NEEDS_CSUM | DATA_VALID } };
      Harness.sameOffloaded(merged(h, [partial(0), partial(1), both]).whole, [superframeOf(stretch, 400)]);
    }
  });

  test('a wrong checksum is neither merged nor mended', (t, h) => {
    begin(h);
    for (const flow of flows) {
      const segments = segmentsOf({ ...flow, payload: someBytes(900) }, 300);
      const { l4Offset } = parsePacket(segments[1]!);
      const spoil = (at: number) => {
        const frame = segments[1]!.slice();
        frame[at]! ^= 1;
        return complete(segments[0]!, frame, segments[2]!);
      };
      const field = l4Offset + (flow.protocol === 'tcp' ? 16 : 6);
      for (const at of [field, field + 1, segments[1]!.length - 1]) {
        staysApart(t, h, `${nameOf(flow)}, byte ${at}`, spoil(at));
      }
      if (flow.family === 4) staysApart(t, h, 'the IPv4 header’s', spoil(24));
      if (flow.protocol === 'tcp') continue;
      // The checksum of a packet inside this one, for which superframes have no place.
      const inner = { flags: NEEDS_CSUM, gsoType: 0, gsoSize: 0, csumStart: l4Offset + 8, csumOffset: 6 };
      for (const flags of [NEEDS_CSUM, NEEDS_CSUM | DATA_VALID]) {
        const middle = { frame: segments[1]!, offload: { ...inner, flags } };
        staysApart(t, h, 'one that is asked for inside', [{ frame: segments[0]! }, middle, { frame: segments[2]! }]);
      }
    }
  });

  test('UDP without a checksum does not get one', (t, h) => {
    begin(h);
    const bare = segmentsOf({ ...flows[1]!, payload: someBytes(600) }, 300).map((frame) => {
      const copy = frame.slice();
      setU16(copy, 40, 0);
      return copy;
    });
    staysApart(t, h, 'no checksum', complete(...bare));
    const { offload } = partialOf(flows[1]!);
    staysApart(
      t,
      h,
      'nor where it is partial',
      bare.map((frame) => ({ frame, offload })),
    );
  });

  test('what differs is never merged', (t, h) => {
    begin(h);
    const changes: [string, Partial<Stretch>, ((flow: Stretch) => boolean)?][] = [
      ['TOS', { tos: 4 }],
      ['ECN', { tos: 3 }],
      ['TTL', { ttl: 63 }],
      ['source port', { sourcePort: 1001 }],
      ['IP options', { ipOptions: Uint8Array.of(148, 4, 0, 0) }, ({ family }) => family === 4],
      ['an extension header', { extension: true }, ({ family }) => family === 6],
      ['a flow label', { flowLabel: 1 }, ({ family }) => family === 6],
      ['DF', { dontFragment: false }, ({ family }) => family === 4],
      ['VLAN tag', { vlan: { tpid: 0x8100, tci: 5 } }],
      ['no payload', { payload: zero(0) }],
      ['more payload', { payload: someBytes(401) }],
      ...[
        ['TCP options', { tcpOptions: Uint8Array.of(1, 1, 1, 1) }],
        ['a gap', { sequence: 402 }],
        ['the same bytes again', { sequence: 1 }],
        ['acknowledgment', { acknowledgment: 6 }],
        ['window', { window: 501 }],
        ...[0, 1, 2, 4, 32, 64, 128].map((flag) => [`flag ${flag}`, { flags: flag === 0 ? 0 : ACK | flag }]),
      ].map(([what, change]): [string, Partial<Stretch>, (flow: Stretch) => boolean] => [
        what as string,
        change as Partial<Stretch>,
        ({ protocol }) => protocol === 'tcp',
      ]),
    ];
    for (const flow of flows) {
      const first: Stretch = { ...flow, payload: someBytes(400) };
      const next: Stretch = { ...first, sequence: 401, id: 8 };
      t.equal(merged(h, complete(frameOf(first), frameOf(next))).whole.length, 1, 'those without a difference merge');
      for (const [what, change, applies = () => true] of changes) {
        if (!applies(flow)) continue;
        const one = frameOf(first);
        const other = frameOf({ ...next, ...change });
        staysApart(t, h, `${nameOf(flow)}: ${what}`, complete(one, other));
        if ('sequence' in change || what === 'more payload') continue;
        staysApart(t, h, `${what}, turned round`, complete(frameOf({ ...first, ...change }), frameOf(next)));
      }
      const urgent = frameOf(next);
      urgent[parsePacket(urgent).l4Offset + 19] = 1;
      const { csumStart } = partialOf(flow).offload;
      const asPartial = { ...partialOf(next).offload };
      if (flow.protocol === 'tcp') {
        t.equal(asPartial.csumStart, csumStart);
        staysApart(t, h, 'urgent pointer', [{ frame: frameOf(first) }, { frame: urgent, offload: asPartial }]);
        const reserved = frameOf(next);
        reserved[csumStart + 12]! |= 1;
        const both = frameOf(first);
        both[csumStart + 12]! |= 1;
        staysApart(t, h, 'reserved bits', [
          { frame: both, offload: asPartial },
          { frame: reserved, offload: asPartial },
        ]);
      }
    }
  });

  test('timestamps and other options merge when they are the same', (t, h) => {
    begin(h);
    const stretch = {
      ...tcp4,
      payload: someBytes(900),
      tcpOptions: Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2),
    };
    const segments = segmentsOf(stretch, 300);
    const { whole, cut } = merged(h, complete(...segments));
    Harness.sameOffloaded(whole, [superframeOf(stretch, 300)]);
    Harness.same(cut, segments);
    const later = { ...stretch, tcpOptions: Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 3) };
    staysApart(t, h, 'another timestamp', complete(segments[0]!, segmentsOf(later, 300)[1]!));
  });

  test('without DF only consecutive IDs merge; with DF any', (t, h) => {
    begin(h);
    for (const protocol of ['tcp', 'udp'] as const) {
      const first: Stretch = { family: 4, protocol, payload: someBytes(400), dontFragment: false, id: 0xffff };
      const pair = (changes: Partial<Stretch>) => {
        const { dontFragment = false } = changes;
        return complete(frameOf({ ...first, dontFragment }), frameOf({ ...first, sequence: 401, ...changes }));
      };
      t.equal(merged(h, pair({ id: 0 })).whole.length, 1, 'the next one, beyond 65,535');
      for (const id of [0xffff, 0xfffe, 1]) staysApart(t, h, `ID ${id} after 65,535`, pair({ id }));
      for (const id of [0xffff, 3]) t.equal(merged(h, pair({ id, dontFragment: true })).whole.length, 1);
    }
  });

  test('PSH and a shorter segment end a superframe', (t, h) => {
    begin(h);
    const sizes = (whole: readonly OffloadedFrame[]) => whole.map(({ frame }) => parsePacket(frame).payload.length);
    for (const base of [tcp4, tcp6]) {
      const at = (index: number, flags: number, length = 100) =>
        frameOf({ ...base, payload: someBytes(length), sequence: 1 + index * 100, id: 7 + index, flags });
      const pushed = merged(h, complete(at(0, ACK), at(1, ACK | PSH), at(2, ACK), at(3, ACK))).whole;
      t.same(sizes(pushed), [200, 200]);
      t.same(
        pushed.map(({ frame }) => parsePacket(frame).flags),
        [ACK | PSH, ACK],
      );
      const alone = merged(h, complete(at(0, ACK | PSH), at(1, ACK), at(2, ACK))).whole;
      t.same(sizes(alone), [100, 200], 'PSH in the first');
      const short = merged(h, complete(at(0, ACK), at(1, ACK, 99), at(2, ACK), at(3, ACK))).whole;
      t.same(sizes(short), [199, 200], 'a gap follows, but it was over before');
      const larger = merged(h, complete(at(0, ACK, 100), at(1, ACK, 101), at(2, ACK))).whole;
      t.same(sizes(larger), [100, 101, 100]);
    }
    const datagrams = [100, 100, 50, 100, 100, 101, 1].map((length) =>
      frameOf({ ...flows[1]!, payload: someBytes(length) }),
    );
    const { whole, cut } = merged(h, complete(...datagrams));
    t.same(sizes(whole), [250, 200, 102], 'datagrams of one size, the last may be shorter');
    t.same(
      cut.map((frame) => parsePacket(frame).payload.length),
      [100, 100, 50, 100, 100, 101, 1],
    );
  });

  test('64 frames, and no more than an IP packet holds', (t, h) => {
    begin(h);
    for (const flow of flows) {
      const many = { ...flow, payload: someBytes(65 * 100) };
      const { whole, cut } = merged(h, complete(...segmentsOf(many, 100)));
      t.same(
        whole.map(({ frame }) => parsePacket(frame).payload.length),
        [6400, 100],
        nameOf(flow),
      );
      Harness.same(cut, segmentsOf(many, 100));

      const l4Header = flow.protocol === 'tcp' ? 20 : 8;
      const limit = 65535 - l4Header - (flow.family === 4 ? 20 : 40);
      for (const [last, count] of [
        [limit % 8000, 1],
        [(limit % 8000) + 1, 2],
      ] as const) {
        const stretch = { ...flow, payload: someBytes(limit - (limit % 8000)) };
        const tail = frameOf({ ...flow, payload: someBytes(last), sequence: 1 + stretch.payload.length, id: 7 + 8 });
        const out = merged(h, complete(...segmentsOf(stretch, 8000), tail)).whole;
        t.equal(out.length, count, `${nameOf(flow)}, ${last} bytes at the end`);
      }
    }
  });

  test('flows that take turns merge each by itself, up to eight; the ninth ends the first', (t, h) => {
    begin(h);
    const turns = (count: number) =>
      [0, 1, 2].flatMap((round) =>
        Array.from({ length: count }, (_, flow) =>
          frameOf({ ...tcp4, payload: someBytes(100), sourcePort: 1 + flow, sequence: 1 + round * 100, id: 7 + round }),
        ),
      );
    const portsOf = (whole: readonly OffloadedFrame[]) => whole.map(({ frame }) => parsePacket(frame).sourcePort);
    const eight = merged(h, complete(...turns(8))).whole;
    t.same(portsOf(eight), [1, 2, 3, 4, 5, 6, 7, 8], 'in the order in which they began');
    t.ok(eight.every(({ frame }) => parsePacket(frame).payload.length === 300));
    const nine = merged(h, complete(...turns(9))).whole;
    t.equal(nine.length, 27, 'each finds its place taken when its turn comes again');
    t.same(
      portsOf(nine),
      [0, 1, 2].flatMap(() => [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    );
    const second = turns(9)[9 + 1]!;
    const { whole } = merged(h, complete(...turns(9).slice(0, 9), second));
    t.same(portsOf(whole), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    t.equal(parsePacket(whole[1]!.frame).payload.length, 200, 'only the oldest had to go');
  });

  test('flows are told apart by all that makes a flow', (t, h) => {
    begin(h);
    const first: Stretch = { ...tcp4, payload: someBytes(100) };
    const next = { ...first, sequence: 101, id: 8 };
    const ip4 = { dontFragment: true, id: 8 };
    for (const ends of [
      { src: '10.0.0.9' },
      { dst: '10.0.0.9' },
      { srcMac: '02:00:00:00:00:09' },
      { dstMac: '02:00:00:00:00:09' },
    ]) {
      staysApart(t, h, Object.keys(ends)[0]!, complete(frameOf(first), frameOf({ ...next, ends: { ...ends, ip4 } })));
    }
    const tunnelled = (vni: number, stretch: Stretch) => buildVxlan({ vni, frame: frameOf(stretch) });
    h.injectDatagrams(5, '192.0.2.9', tunnelled(7, first), tunnelled(8, next));
    Harness.same(h.take(2), [frameOf(first), frameOf(next)], 'the VNI');
    const datagram = (source: string, stretch: Stretch) => ({
      source: parseIp(source),
      destination: parseIp('192.0.2.1'),
      sourcePort: 50000,
      payload: tunnelled(7, stretch),
    });
    h.dp.injectDatagrams(portNo(5), [datagram('192.0.2.8', first), datagram('192.0.2.9', next)]);
    Harness.same(h.take(2), [frameOf(first), frameOf(next)], 'the sender');
  });

  test('no frame overtakes another of its flow, nor one that may belong to it', (t, h) => {
    begin(h);
    const part = (index: number, change: Partial<Stretch> = {}) =>
      frameOf({ ...tcp4, payload: someBytes(100), sequence: 1 + index * 100, id: 7 + index, ...change });
    const shapes = (burst: Uint8Array[]) => {
      const { whole } = merged(h, complete(...burst));
      return whole.map(({ frame }) => {
        const isFragment = (Buffer.from(frame).readUInt16BE(20) & 0x3fff) !== 0;
        const isTransport = frame[12] === 8 && [6, 17].includes(frame[23]!) && !isFragment;
        return isTransport ? `${parsePacket(frame).sourcePort}:${parsePacket(frame).payload.length}` : 'other';
      });
    };
    const other = (index: number) => part(index, { sourcePort: 2000 });
    const ack = part(2, { payload: zero(0) });
    t.same(shapes([part(0), other(0), part(1), ack, other(1), part(2), part(3)]), [
      '1000:200',
      '1000:0',
      '2000:200',
      '1000:200',
    ]);
    const end = [
      frames.arpRequest({}),
      frames.echo({}, 1, 1),
      frames.ip({}, 132, zero(20)),
      frames.ip({}, 47, zero(4)),
    ];
    end.push(
      frames.udp({ ip4: { moreFragments: true } }, 1, 2, zero(8)),
      frames.udp({ ip4: { fragmentOffset: 16 } }, 1, 2),
    );
    for (const one of end) {
      t.same(shapes([part(0), other(0), part(1), one, other(1), part(2), part(3)]), [
        '1000:200',
        '2000:100',
        'other',
        '2000:100',
        '1000:200',
      ]);
    }
    // The frame's own superframe ends the open one of its flow.
    const superframe = superframeOf({ ...tcp4, payload: someBytes(300), sequence: 101, id: 8 }, 100);
    h.burst(1, { frame: part(0) }, superframe, { frame: part(4) }, { frame: part(5) });
    t.same(
      h.take(2).map((frame) => parsePacket(frame).payload.length),
      [100, 300, 200],
    );
  });

  test('a coalesced frame parks as one, and bad frames between do no harm', (t, h) => {
    h.memory(1, 3);
    h.offloading(2);
    const segments = segmentsOf({ ...tcp4, payload: someBytes(400) }, 100);
    const bad = { frame: segments[0]!, offload: { flags: 64, gsoType: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 } };
    const [a, b, c, d] = complete(...segments);
    h.burst(1, a!, bad, b!, { frame: zero(5) }, c!, d!);
    t.match(h.counters(), { rx: 6, coalesced: 3, held: 1, upcalls: 1, drops: { bad_vnet_hdr: 1, frame_too_short: 1 } });
    t.equal(h.upcalls[0]!.lengthBytes, 454);
    h.answer(0, [...output(2, 3), encap(7, '192.0.2.2')]);
    Harness.sameOffloaded(h.takeOffloaded(2), [superframeOf({ ...tcp4, payload: someBytes(400) }, 100)]);
    Harness.same(h.take(3), segments);
    t.match(h.counters(), { held: 0, segments: 3, drops: { underlay_missing: 1 } });
  });

  test('padding is no payload', (_, h) => {
    begin(h);
    const stretch = { ...tcp4, payload: someBytes(12) };
    const padded = segmentsOf(stretch, 3).map((frame) => concat(frame, zero(3).fill(9)));
    Harness.sameOffloaded(merged(h, complete(...padded)).whole, [superframeOf(stretch, 3)]);
  });

  test('random bursts: each flow keeps its bytes, its order and its checksums', (t, h) => {
    begin(h);
    const seed = Number(process.env['WEFT_SEED'] ?? process.hrtime.bigint() % 0x7fffffffn);
    t.comment(`WEFT_SEED=${seed}`);
    const random = new Random(seed);
    for (let round = 0; round < 60; round++) {
      const next = new Map<number, { sequence: number; id: number }>();
      const expected: Uint8Array[] = [];
      const burst = Array.from({ length: 1 + random.int(64) }, () => {
        const sourcePort = 1 + random.int(random.pick([2, 12]));
        const at = next.get(sourcePort) ?? { sequence: 0xffffff00, id: 0xfff0 };
        const base = flows[sourcePort % 4]!;
        const payload = someBytes(random.pick([0, 90, 100, 100, 100, 100]), at.sequence);
        const flags = random.pick([ACK, ACK, ACK, ACK, ACK, ACK | PSH, ACK | 1, ACK | 128]);
        const made = { ...base, ...at, sourcePort, payload, flags, dontFragment: sourcePort % 8 > 3 };
        next.set(sourcePort, { sequence: (at.sequence + payload.length) >>> 0, id: (at.id + 1) & 0xffff });
        expected.push(frameOf(made));
        return random.chance(0.5) ? partialOf(made) : { frame: frameOf(made) };
      });
      const { whole, cut } = merged(h, burst);
      t.ok(whole.length <= burst.length);
      const of = (list: readonly Uint8Array[], port: number) =>
        list.filter((frame) => parsePacket(frame).sourcePort === port);
      for (const port of next.keys()) Harness.same(of(cut, port), of(expected, port), `round ${round}, flow ${port}`);
      if (cut.some((frame) => parsePacket(frame).checksum !== 'good')) t.fail(`round ${round}: a wrong checksum`);
    }
    t.ok(h.counters().coalesced > 100, `${h.counters().coalesced} coalesced`);
  });
}
