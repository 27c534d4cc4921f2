/**
 * Frames whose virtio_net_hdr is wrong, or only just right. A kernel may refuse or correct some
 * of them before they leave the container. The list says what must happen to each one that a
 * kernel leaves unchanged.
 */
import { ETH_VLAN } from '../../src/wire/ethernet.ts';
import { TCP_CSUM_OFFSET, UDP_CSUM_OFFSET } from '../../src/datapath/reference/offload.ts';
import type { DropReason } from '../../src/flow/reason.ts';
import { concat, setU16 } from '../../src/wire/bytes.ts';
import { arpRequest, ethernet, tcp, udp, unfinished, type Ends } from './frames.ts';
import type { FrameWithVnet, VnetHeader } from './vnet.ts';

/** The destination port of case 0; each further case has the next one. */
export const FIRST_PORT = 5000;

export interface HostileFrame extends FrameWithVnet {
  readonly what: string;
  /** As every kernel sends it. */
  readonly isRight: boolean;
  /** Why it is dropped; undefined if it arrives. */
  readonly reason?: DropReason;
  /** What arrives, in however many segments. */
  readonly payload: Uint8Array;
}

const L4_IP4 = 34;
const L4_IP6 = 54;
const BULK_BYTES = 4000;
const SEGMENT_BYTES = 1000;
const SMALL_BYTES = 100;

const NEEDS_CSUM = 1;
const GSO_TCP4 = 1;
const GSO_TCP6 = 4;
const GSO_UDP = 5;
const GSO_ECN = 0x80;

const tcp4: VnetHeader = {
  flags: NEEDS_CSUM,
  gsoType: GSO_TCP4,
  headerBytes: L4_IP4 + 20,
  gsoSize: SEGMENT_BYTES,
  csumStart: L4_IP4,
  csumOffset: TCP_CSUM_OFFSET,
};
const tcp6: VnetHeader = { ...tcp4, gsoType: GSO_TCP6, headerBytes: L4_IP6 + 20, csumStart: L4_IP6 };
const udp4: VnetHeader = { ...tcp4, gsoType: GSO_UDP, headerBytes: L4_IP4 + 8, csumOffset: UDP_CSUM_OFFSET };
const udp6: VnetHeader = { ...udp4, headerBytes: L4_IP6 + 8, csumStart: L4_IP6 };
const checksum4: VnetHeader = { flags: NEEDS_CSUM, csumStart: L4_IP4, csumOffset: UDP_CSUM_OFFSET };

type Build = (ends: { ip4: Ends; ip6: Ends }, port: number) => Omit<HostileFrame, 'what' | 'isRight'>;

/** Bytes that differ from position to position. */
function data(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, n) => (n * 7 + (n >>> 8)) & 0xff);
}

/** TCP over the family of `vnet.csumStart`; `change` modifies the frame after its checksum is computed. */
function tcpFrame(length: number, vnet: VnetHeader, reason?: DropReason, change?: (frame: Uint8Array) => void): Build {
  return ({ ip4, ip6 }, port) => {
    const ends = vnet === tcp6 || vnet.csumStart === L4_IP6 ? ip6 : ip4;
    const payload = data(length);
    const frame = unfinished(tcp(ends, { sourcePort: 4000, destinationPort: port, flags: 0x10, payload }));
    change?.(frame);
    return { frame, vnet, payload, ...(reason && { reason }) };
  };
}

function udpFrame(length: number, vnet: VnetHeader, reason?: DropReason, change?: (frame: Uint8Array) => void): Build {
  return ({ ip4, ip6 }, port) => {
    const payload = data(length);
    const frame = unfinished(udp(vnet.csumStart === L4_IP6 ? ip6 : ip4, 4000, port, payload));
    change?.(frame);
    return { frame, vnet, payload, ...(reason && { reason }) };
  };
}

const tagged = (build: Build): Build => {
  return (ends, port) => {
    const { frame, vnet, payload } = build(ends, port);
    const tag = Uint8Array.of(ETH_VLAN >>> 8, ETH_VLAN & 0xff, 0, 5);
    const shifted = { ...vnet, csumStart: vnet.csumStart! + 4, headerBytes: (vnet.headerBytes ?? 0) + 4 };
    return {
      frame: concat(frame.subarray(0, 12), tag, frame.subarray(12)),
      vnet: shifted,
      payload,
      reason: 'vlan_not_carried',
    };
  };
};

const nothing = new Uint8Array();
const IP4 = 14;

const right: Readonly<Record<string, Build>> = {
  TCP: tcpFrame(BULK_BYTES, tcp4),
  'TCP over IPv6': tcpFrame(BULK_BYTES, tcp6),
  UDP: udpFrame(BULK_BYTES, udp4),
  'UDP over IPv6': udpFrame(BULK_BYTES, udp6),
  'one datagram': udpFrame(SMALL_BYTES, checksum4),
  'TCP with ECN': tcpFrame(BULK_BYTES, { ...tcp4, gsoType: GSO_TCP4 | GSO_ECN }),
};

const hostile: Readonly<Record<string, Build>> = {
  'a flag that nobody knows': udpFrame(SMALL_BYTES, { ...checksum4, flags: 0x80 | NEEDS_CSUM }),
  'a type that nobody knows': tcpFrame(BULK_BYTES, { ...tcp4, gsoType: 6 }, 'bad_vnet_hdr'),
  'ECN alone': tcpFrame(SMALL_BYTES, { ...tcp4, gsoType: GSO_ECN }, 'bad_vnet_hdr'),
  'UDP with ECN': udpFrame(BULK_BYTES, { ...udp4, gsoType: GSO_UDP | GSO_ECN }, 'bad_vnet_hdr'),
  'IPv4 that is IPv6': tcpFrame(BULK_BYTES, { ...tcp6, gsoType: GSO_TCP4 }, 'bad_vnet_hdr'),
  'IPv6 that is IPv4': tcpFrame(BULK_BYTES, { ...tcp4, gsoType: GSO_TCP6 }, 'bad_vnet_hdr'),
  'UDP that is TCP': tcpFrame(BULK_BYTES, { ...tcp4, gsoType: GSO_UDP }, 'bad_vnet_hdr'),
  'TCP that is UDP': udpFrame(BULK_BYTES, { ...udp4, gsoType: GSO_TCP4 }, 'bad_vnet_hdr'),

  'segments of nothing': tcpFrame(BULK_BYTES, { ...tcp4, gsoSize: 0 }, 'bad_vnet_hdr'),
  '4,000 segments': tcpFrame(BULK_BYTES, { ...tcp4, gsoSize: 1 }, 'bad_vnet_hdr'),
  '7,500 segments': tcpFrame(60_000, { ...tcp4, gsoSize: 8 }, 'bad_vnet_hdr'),
  'a thousand segments of a byte': tcpFrame(1000, { ...tcp4, gsoSize: 1 }),
  '50 datagrams of a byte': udpFrame(50, { ...udp4, gsoSize: 1 }),
  'a segment longer than all': tcpFrame(SMALL_BYTES, tcp4),

  'headers of no bytes': tcpFrame(BULK_BYTES, { ...tcp4, headerBytes: 0 }),
  'headers that are all': tcpFrame(BULK_BYTES, { ...tcp4, headerBytes: BULK_BYTES }),
  'headers longer than all': tcpFrame(BULK_BYTES, { ...tcp4, headerBytes: 0xffff }),
  'headers shorter than Ethernet’s': tcpFrame(BULK_BYTES, { ...tcp4, headerBytes: 13 }),

  'a checksum over the Ethernet header': udpFrame(SMALL_BYTES, { ...checksum4, csumStart: 0 }, 'bad_vnet_hdr'),
  'a checksum in the source address': udpFrame(
    SMALL_BYTES,
    { ...checksum4, csumStart: IP4 + 6, csumOffset: 8 },
    'bad_vnet_hdr',
  ),
  'a checksum in the source port': udpFrame(SMALL_BYTES, { ...checksum4, csumOffset: 0 }, 'bad_vnet_hdr'),
  'a checksum in TCP’s payload': tcpFrame(SMALL_BYTES, { ...checksum4, csumStart: 60, csumOffset: 2 }, 'bad_vnet_hdr'),
  'a checksum at the end': tcpFrame(SMALL_BYTES, { ...checksum4, csumStart: 152, csumOffset: 0 }, 'bad_vnet_hdr'),
  'a checksum behind the end': udpFrame(SMALL_BYTES, { ...checksum4, csumStart: 141 }, 'bad_vnet_hdr'),
  'a checksum far away': udpFrame(SMALL_BYTES, { ...checksum4, csumOffset: 0xffff }, 'bad_vnet_hdr'),
  'a checksum of the first fragment': udpFrame(SMALL_BYTES + 4, checksum4, 'bad_vnet_hdr', (frame) => {
    setU16(frame, IP4 + 6, 0x2000);
  }),
  'a checksum in ARP’s sender': ({ ip4 }) => {
    const vnet = { flags: NEEDS_CSUM, csumStart: IP4 + 6, csumOffset: 8 };
    return { frame: arpRequest({ ...ip4, dst: '10.44.0.77' }), vnet, payload: nothing, reason: 'bad_vnet_hdr' };
  },
  'a checksum in no protocol’s frame': ({ ip4 }) => {
    const vnet = { flags: NEEDS_CSUM, csumStart: IP4 + 6, csumOffset: 8 };
    return { frame: ethernet(ip4, 0x88b5, data(SMALL_BYTES)), vnet, payload: nothing, reason: 'bad_vnet_hdr' };
  },
  'TCP with another’s checksum': tcpFrame(BULK_BYTES, { ...tcp4, csumOffset: UDP_CSUM_OFFSET }, 'bad_vnet_hdr'),
  'TCP with a checksum from further on': tcpFrame(BULK_BYTES, { ...tcp4, csumStart: L4_IP4 + 6 }, 'bad_vnet_hdr'),

  'a superframe of a fragment': tcpFrame(BULK_BYTES + 4, tcp4, 'bad_vnet_hdr', (frame) => {
    setU16(frame, IP4 + 6, 0x2000);
  }),
  'a superframe of ARP': ({ ip4 }) => {
    return { frame: arpRequest({ ...ip4, dst: '10.44.0.77' }), vnet: tcp4, payload: nothing, reason: 'bad_vnet_hdr' };
  },
  'TCP with headers of 60 bytes': (ends, port) => {
    const built = tcpFrame(BULK_BYTES, tcp4, undefined, (frame) => (frame[L4_IP4 + 12] = 0xf0))(ends, port);
    return { ...built, payload: built.payload.subarray(40) };
  },
  'TCP with headers of 16 bytes': tcpFrame(BULK_BYTES, tcp4, 'l4_truncated', (frame) => (frame[L4_IP4 + 12] = 0x40)),
  'UDP shorter than it is': udpFrame(BULK_BYTES, udp4, 'bad_vnet_hdr', (frame) => setU16(frame, L4_IP4 + 4, 100)),
  'UDP longer than it is': udpFrame(BULK_BYTES, udp4, 'bad_vnet_hdr', (frame) => setU16(frame, L4_IP4 + 4, 0xffff)),
  'a packet longer than it is': tcpFrame(BULK_BYTES, tcp4, 'ipv4_malformed', (frame) => setU16(frame, IP4 + 2, 0xffff)),
  'a packet shorter than it is': (ends, port) => {
    const built = tcpFrame(BULK_BYTES, tcp4, undefined, (frame) => setU16(frame, IP4 + 2, 100))(ends, port);
    return { ...built, payload: built.payload.subarray(0, 60) };
  },
  'a tagged superframe': tagged(tcpFrame(BULK_BYTES, tcp4)),
  'a tagged datagram': tagged(udpFrame(SMALL_BYTES, checksum4)),
  'an Ethernet header alone': (ends, port) => {
    const { frame, payload } = udpFrame(SMALL_BYTES, checksum4)(ends, port);
    return { frame: frame.subarray(0, IP4), vnet: {}, payload, reason: 'ipv4_malformed' };
  },
};

/** All cases, from `ip4.src` and `ip6.src`; case n goes to port FIRST_PORT + n. */
export function hostileFrames(ends: { readonly ip4: Ends; readonly ip6: Ends }): HostileFrame[] {
  return [...Object.entries(right), ...Object.entries(hostile)].map(([what, build], n) => ({
    what,
    isRight: what in right,
    ...build(ends, FIRST_PORT + n),
  }));
}
