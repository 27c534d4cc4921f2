/**
 * What hooks set for a connection: the DSCP of its packets, and meters that limit them. Both are in its record, and concern the
 * original direction.
 *
 *   port 1 (10.0.0.1) ──original──► port 2 (10.0.0.2)     both ports are in place 1
 */
import type { Action } from '../../src/flow/action.ts';
import type { Place } from '../../src/flow/connection.ts';
import { FIRST_FREE_OWNER } from '../../src/flow/connection-store.ts';
import { ctState } from '../../src/flow/fields.ts';
import type { Treatment } from '../../src/flow/treatment.ts';
import type { PortNo } from '../../src/flow/types.ts';
import { getU16, setU16 } from '../../src/wire/bytes.ts';
import { checksum } from '../../src/wire/checksum.ts';
import { IP_TCP } from '../../src/wire/ipv4.ts';
import { arpReply, tcp, udp, type Ends } from '../support/frames.ts';
import { segmentsOf, someBytes, superframeOf, type Stretch } from '../support/superframes.ts';
import { encap, Harness, output, type HarnessOptions, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';
import { ACK, back, places, put, room, SYN, there, tuple } from './tracked-harness.ts';

const EF = 46;
const there6: Ends = { src: 'fd00::1', dst: 'fd00::2' };
const back6: Ends = { src: 'fd00::2', dst: 'fd00::1' };
const zero = (length: number) => new Uint8Array(length);
/** Of 1000 bytes. */
const kilobyte = (sourcePort: number) => udp(there, sourcePort, 9, zero(1000 - 42));
const meter = (id: number, kbits: number, packets = 0): Treatment => ({ mark: 0, meter: { id, kbits, packets } });

/** TOS or traffic class of a frame without a tag. */
function tosOf(frame: Uint8Array): number {
  return getU16(frame, 12) === 0x0800 ? frame[15]! : (getU16(frame, 14) >>> 4) & 0xff;
}

const tracked = (treatment: Treatment): Action => ({ op: 'track', replies: 1 as Place, replyFlow: 0, treatment });

/** What begins gets this treatment, in both directions. */
function treat(h: Harness, treatment: Treatment): void {
  for (const port of [1, 2]) {
    put(h, port, ctState.none, [tracked(treatment), ...output(3 - port)]);
    for (const state of [ctState.known, ctState.known_reply])
      put(h, port, state, [{ op: 'count' }, ...output(3 - port)]);
  }
}

export function runTreatment(name: string, open: Open): void {
  const test = conformanceTests(name, open);
  const options = (): HarnessOptions => ({ connections: room(), places });

  for (const [family, ends, replies] of [
    ['IPv4', there, back],
    ['IPv6', there6, back6],
  ] as const) {
    test(
      `all packets of the original direction get the DSCP, and keep their ECN; replies keep both, ${family}`,
      (t, h) => {
        h.memory(1, 2);
        treat(h, { mark: 7, dscp: EF });
        const segment = (tos: number, flags: number, of: Ends = ends) => {
          const ports = of === ends ? { sourcePort: 5, destinationPort: 80 } : { sourcePort: 80, destinationPort: 5 };
          return tcp({ ...of, ip4: { tos }, ip6: { trafficClass: tos } }, { ...ports, flags });
        };
        h.inject(1, segment(0, SYN));
        h.inject(2, segment(0x28, SYN | ACK, replies));
        for (const tos of [1, 2, 3, 0xff, EF << 2]) h.inject(1, segment(tos, ACK));
        const sent = h.take(2);
        t.same(sent.map(tosOf), [EF << 2, 0xb9, 0xba, 0xbb, 0xbb, EF << 2]);
        const [reply] = h.take(1);
        t.equal(tosOf(reply!), 0x28);
        if (family === 'IPv4') for (const frame of sent) t.equal(checksum(frame.subarray(14, 34)), 0, 'its header');
        const expected = segment(0xba, ACK);
        h.inject(1, segment(2, ACK));
        Harness.same(h.take(2), [expected], 'nothing else changes');
        t.match(h.dp.connections.records.read(0), { treatment: { mark: 7, dscp: EF } });
        t.equal(h.dp.connections.records.half(0, false).packets, 7);
      },
      options(),
    );
  }

  test(
    'a DSCP of 0 is one, too; and a wrong checksum stays wrong',
    (t, h) => {
      h.memory(1, 2);
      treat(h, { mark: 0, dscp: 0 });
      const frame = udp({ ...there, ip4: { tos: 0xb9 } }, 7, 9);
      const wrong = frame.slice();
      setU16(wrong, 24, getU16(wrong, 24) ^ 0x1234);
      h.inject(1, frame, wrong);
      const [right, still] = h.take(2);
      t.same([tosOf(right!), tosOf(still!)], [1, 1]);
      t.equal(checksum(right!.subarray(14, 34)), 0);
      t.not(checksum(still!.subarray(14, 34)), 0);
    },
    options(),
  );

  test(
    'what a connection has stays, whatever its flow says later; one that was opened by hand has its own',
    (t, h) => {
      h.memory(1, 2);
      treat(h, { mark: 0, dscp: 10 });
      h.inject(1, udp(there, 7, 9));
      treat(h, { mark: 0, dscp: 20 });
      h.inject(1, udp(there, 7, 9), udp(there, 8, 9));
      t.same(h.take(2).map(tosOf), [40, 40, 80]);
      const original = tuple(5, 80);
      const connection = { kind: 'translated', protocol: IP_TCP, places: [1 as Place, 1 as Place] } as const;
      const translated = { ...original, destinationPort: 8080 };
      const treatment: Treatment = { mark: 3, dscp: 30, meter: { id: 9, kbits: 8, packets: 12 } };
      const slot = h.dp.connections.open(
        { ...connection, original, translated, treatment, port: 40_000 as PortNo },
        ...([FIRST_FREE_OWNER, h.nowMs] as const),
      );
      t.same(h.dp.connections.records.read(slot).treatment, treatment);
      t.equal(h.dp.connections.records.port(slot), 40_000);
      for (const state of [ctState.original, ctState.reply])
        put(h, 1, state, [{ op: 'nat', slot: 0, generation: 0, reply: false }, ...output(2)]);
      h.inject(1, tcp(there, { sourcePort: 5, destinationPort: 80, flags: SYN }));
      const [sent] = h.take(2);
      t.same([tosOf(sent!), getU16(sent!, 36)], [120, 8080]);
    },
    options(),
  );

  test(
    'a superframe has it in each segment, and the outer header of the tunnel does not have it',
    (t, h) => {
      h.offloading(1);
      h.memory(2);
      h.vxlan(3, '192.0.2.1');
      const treatment: Treatment = { mark: 0, dscp: EF };
      put(h, 1, ctState.none, [tracked(treatment), ...output(2), encap(100, '192.0.2.2')]);
      const stretch: Stretch = { family: 4, protocol: 'tcp', payload: someBytes(5000) };
      const frame = superframeOf(stretch, 1000);
      h.burst(1, frame);
      const expected = segmentsOf(stretch, 1000).length;
      const sent = h.take(2);
      t.equal(sent.length, expected);
      t.same(new Set(sent.map((one) => tosOf(one) >>> 2)), new Set([EF]));
      for (const one of sent) t.equal(checksum(one.subarray(14, 34)), 0);
      t.same(new Set(h.datagrams.map(({ tos = 0 }) => tos >>> 2)), new Set([0]));
      t.equal(h.datagrams.length, expected);
    },
    options(),
  );

  for (const family of [4, 6] as const) {
    for (const protocol of ['tcp', 'udp'] as const) {
      test(
        `superframes of IPv${family} and ${protocol}, tagged or not: segments differ from what was sent in the DSCP alone, and keep their ECN`,
        (t, h) => {
          h.offloading(1);
          h.memory(2);
          treat(h, { mark: 0, dscp: EF });
          for (const [at, more] of [{}, { vlan: { tpid: 0x8100, tci: 7 } }].entries()) {
            const stretch: Stretch = { family, protocol, payload: someBytes(5000), sourcePort: 1000 + at, ...more };
            for (const tos of [0, 1, 0x2a, 0xff]) {
              h.burst(1, superframeOf({ ...stretch, tos }, 1000));
              Harness.same(h.take(2), segmentsOf({ ...stretch, tos: (EF << 2) | (tos & 3) }, 1000), `TOS ${tos}`);
            }
          }
          t.same(h.drops(), {});
        },
        options(),
      );
    }
  }

  test('without a table of connections, the DSCP is set, and nothing is limited', (t, h) => {
    h.memory(1, 2);
    treat(h, { ...meter(1, 8), dscp: EF });
    h.inject(1, ...Array.from({ length: 100 }, () => kilobyte(5)));
    t.same(h.take(2).map(tosOf), Array(100).fill(EF << 2));
    t.same(h.drops(), {});
  });

  conformanceTests(name, (given) => open({ ...given, copyDscp: true }))(
    'the outer header of the tunnel has it, too, if it is to have that of the packet',
    (t, h) => {
      h.memory(1);
      h.vxlan(3, '192.0.2.1');
      put(h, 1, ctState.none, [tracked({ mark: 0, dscp: EF }), encap(100, '192.0.2.2')]);
      h.inject(1, udp({ ...there, ip4: { tos: 0x29 } }, 7, 9));
      t.match(h.datagrams, [{ tos: (EF << 2) | 1 }]);
    },
    options(),
  );

  test(
    'a meter admits a tenth of a second at once, and its rate in the long run; all that have it share it',
    (t, h) => {
      h.memory(1, 2);
      // 1 MB a second
      treat(h, meter(1, 8000));
      const burst = (from: number, count: number): number => {
        h.inject(1, ...Array.from({ length: count }, () => kilobyte(from)));
        return h.take(2).length;
      };
      t.equal(burst(5, 200), 100);
      t.same(h.drops(), { hook_rate_limit: 100 });
      t.equal(burst(6, 10), 0, 'another connection');
      t.equal(h.dp.connections.size, 2, 'it is there all the same');
      h.nowMs += 10;
      t.equal(burst(5, 6) + burst(6, 6), 10);
      for (let step = 0; step < 100; step++) {
        h.nowMs += 10;
        burst(5 + (step % 2), 30);
      }
      h.nowMs += 1000;
      t.equal(burst(6, 200), 100, 'a pause saves up no more');
      treat(h, meter(2, 8000));
      t.equal(burst(7, 200), 100, 'another meter');
      t.equal(burst(5, 1), 0);
      h.inject(2, udp(back, 9, 5, zero(5000)));
      t.equal(h.take(1).length, 1, 'replies are not limited');
    },
    options(),
  );

  test(
    'packets a second; a small rate has a burst of 64 KiB or ten packets; a superframe counts as its segments',
    (t, h) => {
      h.memory(2);
      h.offloading(1);
      treat(h, meter(1, 0, 20));
      const burst = (from: number, count: number): number => {
        h.inject(1, ...Array.from({ length: count }, () => kilobyte(from)));
        return h.take(2).length;
      };
      t.equal(burst(5, 30), 10);
      h.nowMs += 500;
      t.equal(burst(5, 30), 10);
      treat(h, meter(2, 1));
      t.equal(burst(6, 100), 66, '65,536 bytes: the last one may pass while anything is left');
      treat(h, meter(3, 1_000_000, 20));
      const stretch: Stretch = { family: 4, protocol: 'tcp', payload: someBytes(20_000) };
      h.burst(1, superframeOf(stretch, 1000));
      t.equal(h.take(2).length, 20, 'whole');
      h.nowMs += 500;
      t.equal(burst(7, 5), 0, 'it is paid for later');
      h.nowMs += 50;
      t.equal(burst(7, 5), 1);
    },
    options(),
  );

  test(
    'what has no room for a record, or can have none, is treated all the same',
    (t, h) => {
      h.memory(1, 2);
      treat(h, { ...meter(1, 8000), dscp: EF });
      h.inject(1, ...Array.from({ length: 60 }, (_, n) => kilobyte(1000 + n)));
      const before = h.take(2);
      t.equal(before.length, 60);
      t.same(new Set(before.map(tosOf)), new Set([EF << 2]));
      t.ok(h.dp.connections.size <= 8);
      h.inject(1, ...Array.from({ length: 60 }, (_, n) => kilobyte(2000 + n)));
      t.equal(h.take(2).length, 40, 'the rate holds for all of them');
      const arp = arpReply({ ...there });
      h.nowMs += 1000;
      h.inject(1, arp);
      Harness.same(h.take(2), [arp], 'what is not IP has no DSCP');
    },
    options(),
  );

  test(
    'so does the answer to an upcall',
    (t, h) => {
      h.memory(1, 2);
      const treatment: Treatment = { ...meter(1, 8000), dscp: EF };
      for (let n = 0; n < 3; n++) {
        h.inject(1, kilobyte(10 + n));
        h.answer(-1, [tracked(treatment), ...output(2)]);
      }
      t.same(h.take(2).map(tosOf), [EF << 2, EF << 2, EF << 2]);
      t.equal(h.dp.connections.size, 3);
      t.match(h.dp.connections.records.read(2), { treatment });
    },
    options(),
  );

  test(
    'meters give way to others once they are full; if none is, what needs another one is refused',
    (t, h) => {
      h.memory(1, 2);
      /** All in one set. */
      const use = (n: number, from: number): number => {
        treat(h, meter(1 + 512 * n, 8000));
        h.inject(1, kilobyte(from));
        return h.take(2).length;
      };
      for (let n = 0; n < 8; n++) t.equal(use(n, 100 + n), 1);
      t.equal(use(8, 200), 0, 'the ninth');
      t.same(h.drops(), { hook_rate_limit: 1 });
      h.nowMs += 1;
      t.equal(use(8, 200), 1, 'the others are full again');
      t.equal(use(9, 201), 1);
    },
    options(),
  );

  test(
    'a flow has the treatment that it was given',
    (t, h) => {
      const treatment: Treatment = {
        mark: 65_535,
        dscp: 63,
        meter: { id: 0xffff_fffe, kbits: 3, packets: 0xffff_ffff },
      };
      const actions = [{ op: 'track', replies: 1 as Place, replyFlow: 5, treatment } as const, ...output(2)];
      put(h, 1, ctState.none, actions);
      t.same([...h.dp.flowDump()][0]!.actions, actions);
    },
    options(),
  );
}
