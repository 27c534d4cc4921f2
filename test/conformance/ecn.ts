/** ECN across the tunnel (RFC 6040): the resulting field, for every combination. */
import { fields } from '../../src/flow/fields.ts';
import { readNumber } from '../../src/flow/key.ts';
import { parseIp } from '../../src/flow/types.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import * as frames from '../support/frames.ts';
import { parsePacket } from '../support/packets.ts';
import { segmentsOf, someBytes, superframeOf } from '../support/superframes.ts';
import { encap, output, portNo, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const [NOT_ECT, ECT_1, ECT_0, CE] = [0, 1, 2, 3];
const VXLAN_BYTES = 8;
const DSCP = 46 << 2;
const names = ['Not-ECT', 'ECT(1)', 'ECT(0)', 'CE'];

/** RFC 6040 Figure 4: by the inner field, then by the outer one. */
const combined: readonly (readonly (number | 'drop')[])[] = [
  [NOT_ECT, NOT_ECT, NOT_ECT, 'drop'],
  [ECT_1, ECT_1, ECT_1, CE],
  [ECT_0, ECT_1, ECT_0, CE],
  [CE, CE, CE, CE],
];

const families = {
  IPv4: (tos: number) => frames.udp({ ip4: { tos } }, 1, 2),
  'tagged IPv4': (tos: number) => frames.udp({ ip4: { tos }, vlan: { tpid: 0x8100, tci: 5 } }, 1, 2),
  IPv6: (tos: number) => frames.udp({ src: 'fd00::1', dst: 'fd00::2', ip6: { trafficClass: tos } }, 1, 2),
};

export function runEcn(name: string, open: Open): void {
  const test = conformanceTests(name, open);

  for (const [family, build] of Object.entries(families)) {
    for (const [inner, row] of combined.entries()) {
      for (const [outer, expected] of row.entries()) {
        test(`${family}: inner ${names[inner]} and outer ${names[outer]}`, (t, h) => {
          h.memory(1);
          h.vxlan(5, '192.0.2.1');
          const payload = buildVxlan({ vni: 7, frame: build(DSCP | inner) });
          const untouched = payload.slice();
          h.injectDatagram(5, '192.0.2.2', payload, outer);
          t.same(payload, untouched, 'the datagram stays its owner’s');
          if (expected === 'drop') {
            t.same(h.drops(), { ecn_ce_not_ect: 1 });
            t.equal(h.upcalls.length, 0);
            return;
          }
          t.equal(readNumber(h.upcalls[0]!.key, fields.ip_tos), DSCP | expected);
          h.answer(0, output(1));
          t.same(h.take(1), [build(DSCP | expected)], 'all else stays, and the header checksum is right');
        });
      }
    }

    test(`${family}: the outer ECN is the inner one, the outer DSCP 0`, (t, h) => {
      h.memory(1);
      h.vxlan(5, '192.0.2.1');
      h.forward(1, [encap(7, '192.0.2.2')]);
      for (const ecn of [NOT_ECT, ECT_1, ECT_0, CE]) h.inject(1, build(DSCP | ecn));
      t.same(
        h.datagrams.map(({ tos }) => tos),
        [NOT_ECT, ECT_1, ECT_0, CE],
      );
    });
  }

  for (const family of [4, 6] as const) {
    for (const protocol of ['tcp', 'udp'] as const) {
      const stretch = { family, protocol, payload: someBytes(5000) } as const;
      const marks = (list: readonly Uint8Array[]) => list.map((frame) => parsePacket(frame).tos);

      test(`a superframe of ${protocol} over IPv${family} has its mark on every segment, inside and outside`, (t, h) => {
        h.offloading(1);
        h.vxlan(5, '192.0.2.1');
        h.forward(1, [encap(7, '192.0.2.2')]);
        for (const ecn of [NOT_ECT, ECT_1, ECT_0, CE]) {
          h.burst(1, superframeOf({ ...stretch, tos: DSCP | ecn }, 1000));
          const datagrams = h.datagrams.splice(0);
          t.same(
            datagrams.map(({ tos }) => tos),
            [ecn, ecn, ecn, ecn, ecn],
          );
          t.same(marks(datagrams.map(({ payload }) => payload.subarray(VXLAN_BYTES))), Array(5).fill(DSCP | ecn));
        }
      });

      test(`${protocol} over IPv${family}: CE outside stays on its segment, and on no other`, (t, h) => {
        h.offloading(1);
        h.vxlan(5, '192.0.2.1');
        h.forward(5, output(1));
        const segments = segmentsOf({ ...stretch, tos: ECT_0 }, 1000);
        const arrive = (outer: readonly number[]) => {
          const datagrams = segments.map((frame, i) => ({
            source: parseIp('192.0.2.2'),
            destination: parseIp('192.0.2.1'),
            sourcePort: 50_000,
            tos: outer[i]!,
            payload: buildVxlan({ vni: 7, frame }),
          }));
          h.dp.injectDatagrams(portNo(5), datagrams);
          return h.take(1).map((frame) => [parsePacket(frame).tos, parsePacket(frame).payload.length]);
        };
        t.same(arrive([CE, CE, CE, CE, CE]), [[CE, 5000]]);
        t.same(arrive([ECT_0, ECT_0, CE, ECT_0, ECT_0]), [
          [ECT_0, 2000],
          [CE, 1000],
          [ECT_0, 2000],
        ]);
      });
    }
  }

  test('what is not IP has no ECN: Not-ECT outside, and CE outside changes nothing', (t, h) => {
    h.memory(1);
    h.vxlan(5, '192.0.2.1');
    h.forward(1, [encap(7, '192.0.2.2')]);
    h.forward(5, output(1));
    const arp = frames.arpRequest({});
    h.inject(1, arp);
    t.equal(h.datagrams[0]!.tos, NOT_ECT);
    h.injectDatagram(5, '192.0.2.2', buildVxlan({ vni: 7, frame: arp }), CE);
    t.same(h.take(1), [arp]);
  });
}
