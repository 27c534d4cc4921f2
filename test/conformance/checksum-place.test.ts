/**
 * In both datapaths a frame may only ask for its own checksum, of TCP or UDP, or for one inside a
 * packet that it tunnels: a checksum is written after the frame was decided, and elsewhere it would
 * change what the decision had read. For each frame, every place is tried.
 */
import t from 'tap';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { NEEDS_CSUM, NO_OFFLOAD } from '../../src/datapath/reference/offload.ts';
import { buildFragment } from '../../src/wire/ipv6.ts';
import * as frames from '../support/frames.ts';
import { Harness, output, portNo, type Open } from './harness.ts';

const opens: Readonly<Record<string, Open>> = {
  native: (options) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

/** Its length makes a fragment with it a multiple of 8 bytes. */
const data = new Uint8Array(32);
const ip6 = { src: 'fd00::1', dst: 'fd00::2' };
const vlan = { vlan: { tpid: 0x8100, tci: 5 } };
const ports = { sourcePort: 1000, destinationPort: 2000, payload: data };
const udpSegment = frames.udp(ip6, 1000, 2000, data).subarray(54);

interface Places {
  /** Start and offset of the frame's own checksum. */
  readonly own?: readonly [start: number, offset: number];
  /** Where a packet inside may begin. */
  readonly inner?: number;
}

const cases: Readonly<Record<string, readonly [frame: Uint8Array, places?: Places]>> = {
  TCP: [frames.tcp({}, ports), { own: [34, 16] }],
  'TCP over IPv6': [frames.tcp(ip6, ports), { own: [54, 16] }],
  UDP: [frames.udp({}, 1000, 2000, data), { own: [34, 6], inner: 42 }],
  'UDP over IPv6': [frames.udp(ip6, 1000, 2000, data), { own: [54, 6], inner: 62 }],
  'UDP behind a tag': [frames.udp(vlan, 1000, 2000, data), { own: [38, 6], inner: 46 }],
  'UDP of a first fragment': [frames.udp({ ip4: { moreFragments: true } }, 1000, 2000, data)],
  'UDP of a first fragment over IPv6': [
    frames.ip(ip6, 44, buildFragment({ nextHeader: 17, offset: 0, more: true, id: 1 }, udpSegment)),
  ],
  ICMP: [frames.echo({}, 1, 2, data)],
  ICMPv6: [frames.echo(ip6, 1, 2, data)],
  'neighbor discovery': [frames.solicitation({ ...ip6, target: 'fd00::2' })],
  ARP: [frames.arpRequest({})],
  GRE: [frames.ip({}, 47, data), { inner: 34 }],
  'another protocol': [frames.ip({}, 99, data)],
  'no IP': [frames.ethernet({}, 0x88b5, data)],
};

for (const [name, open] of Object.entries(opens)) {
  for (const [what, [frame, { own, inner = Infinity } = {}]] of Object.entries(cases)) {
    t.test(`${name}: ${what}`, async (t) => {
      const h = new Harness(open);
      h.memory(1, 2);
      h.onUpcall = (batch) => batch.forEach(({ token }) => h.dp.execute(token, output(2)));
      const wrong: string[] = [];
      let refused = 0;
      for (let csumStart = 0; csumStart <= frame.length; csumStart++) {
        for (let csumOffset = 0; csumStart + csumOffset <= frame.length; csumOffset++) {
          h.dp.inject(portNo(1), frame, { ...NO_OFFLOAD, flags: NEEDS_CSUM, csumStart, csumOffset });
          const isTaken = h.take(2).length > 0;
          const isOwn = own?.[0] === csumStart && own[1] === csumOffset;
          const isInner = csumStart >= inner && csumStart + csumOffset + 2 <= frame.length;
          if (isTaken !== (isOwn || isInner)) wrong.push(`${csumStart}+${csumOffset}`);
          if (!isTaken) refused++;
        }
      }
      t.same(wrong, [], 'taken where it may be, and nowhere else');
      t.match(h.drops(), { bad_vnet_hdr: refused });
      h.close();
    });
  }
}
