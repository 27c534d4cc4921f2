/**
 * Random frames: correct ones of every protocol that `extract` knows, over so few addresses that
 * flows are hit again, and ways to break them.
 */
import { concat, setU16 } from '../../src/wire/bytes.ts';
import { buildExtension, buildFragment } from '../../src/wire/ipv6.ts';
import { buildTcp, buildUdp } from '../../src/wire/l4.ts';
import { parseIp, parseMac } from '../../src/flow/types.ts';
import * as frames from './frames.ts';
import type { Random } from './random.ts';

const macs = [
  '02:00:00:00:00:01',
  '02:00:00:00:00:02',
  '02:00:00:00:00:03',
  '02:00:00:00:00:07',
  'ff:ff:ff:ff:ff:ff',
  '33:33:00:00:00:01',
];
/** MACs of the gateways of VNI 1 and 100, and of a host; used as destinations only. */
const routerMacs = ['02:77:66:00:00:01', '02:77:66:00:00:64', '02:77:65:00:00:01'];
/** The last two of each family are outside of all networks, and the destination of packets that come from there. */
const ip4s = [
  '10.0.0.1',
  '10.0.0.2',
  '10.0.0.3',
  '10.0.1.1',
  '255.255.255.255',
  '0.0.0.0',
  '198.51.100.1',
  '198.51.100.2',
];
const ip6s = [
  'fd00::1',
  'fd00::2',
  'fe80::ff:fe00:1',
  'ff02::1',
  'ff02::1:ff00:2',
  '::',
  '2001:db8:99::1',
  '2001:db8:99::2',
];
export const l4Ports = [1, 53, 80, 443, 1234, 4789, 65535];

export function randomFrame(random: Random): Uint8Array {
  const packet = random.chance(0.01) ? withMapped(random) : randomPacket(random);
  const frame = random.chance(0.1) ? frames.unfinished(packet) : packet;
  // The shortest frame on a wire has 60 bytes, with anything in its padding.
  if (frame.length < 60 && random.chance(0.5)) return concat(frame, random.bytes(60 - frame.length));
  return random.chance(0.05) ? concat(frame, random.bytes(random.int(40))) : frame;
}

/** An IPv6 packet that claims to be from or to an IPv4 address. */
function withMapped(random: Random): Uint8Array {
  const frame = frames.udp(ends6(random), random.pick(l4Ports), random.pick(l4Ports)).slice();
  frame.set(parseIp('::ffff:10.0.0.1'), frame.length - 8 - random.pick([16, 32]));
  return frame;
}

function randomPacket(random: Random): Uint8Array {
  const v6 = random.chance(0.45);
  const ends = v6 ? ends6(random) : ends4(random);
  switch (random.int(17)) {
    case 0:
      return random.chance(0.5) ? frames.arpRequest(ends4(random)) : frames.arpReply(ends4(random));
    case 1:
    case 2:
      return neighbor(random);
    case 3:
      return frames.ethernet(
        ends,
        random.pick([0x88cc, 0x88f7, 0x8035, 0x0026, 0x05dc, 0x8100, 0x9100, 0x8808, 0x1234]),
        random.bytes(random.int(60)),
      );
    case 4:
    case 5:
      return frames.echo(ends, random.int(3), random.int(5), payload(random));
    case 6:
      return frames.ip(ends, random.pick([0, 1, 2, 43, 44, 47, 51, 58, 59, 60, 132, 135, 255]), payload(random));
    case 7:
    case 8:
      return fragmented(random, v6);
    case 9:
      return frames.ip(ends6(random), ...chain(random));
    case 10:
      return frames.ip(ends, 132, concat(random.bytes(12), payload(random)));
    case 11:
    case 12:
    case 13:
      return frames.udp(ends, random.pick(l4Ports), random.pick(l4Ports), payload(random));
    case 14:
      return icmpError(random, v6);
    default: {
      const options = random.chance(0.5) ? tcpOptions(random) : new Uint8Array(random.int(4) * 4);
      const ports = { sourcePort: random.pick(l4Ports), destinationPort: random.pick(l4Ports) };
      const [sequence, acknowledgment] = random.chance(0.2) ? [random.u32(), random.u32()] : [0, 0];
      const flags = random.int(64);
      return frames.tcp(ends, { ...ports, sequence, acknowledgment, flags, options, payload: payload(random) });
    }
  }
}

/** About a packet that was sent in the other direction, or about any packet; its checksum is arbitrary. */
function icmpError(random: Random, v6: boolean): Uint8Array {
  const quoted = randomPacket(random).subarray(14);
  const about = random.chance(0.8) ? quoted.subarray(0, random.pick([28, 48, 200])) : random.bytes(random.int(60));
  const [protocol, types] = v6 ? [58, [1, 2, 3]] : [1, [3, 4, 11]];
  const message = concat(Uint8Array.of(random.pick(types), random.int(5)), random.bytes(6), about);
  return frames.ip(v6 ? ends6(random) : ends4(random), protocol, message);
}

/** The options of a SYN, also where they are rare or not allowed. */
function tcpOptions(random: Random): Uint8Array {
  const some = [[1], [1], [2, 4, ...random.bytes(2)], [2, 4, 5, 180], [3, 3, 7], [4, 2], [8, 10, ...random.bytes(8)]];
  const wrong = [[0], [2, 3, 9], [2, 0], [2, 4, 255], [254, 40], [2]];
  const list = Array.from({ length: random.int(5) }, () => random.pick(random.chance(0.1) ? wrong : some)).flat();
  const options = new Uint8Array(Math.min(40, Math.ceil(list.length / 4) * 4)).fill(random.pick([0, 1]));
  options.set(list.slice(0, options.length));
  return options;
}

/** Breaks a frame in one or several ways, or replaces it with garbage. Does not change `frame`. */
export function mutate(frame: Uint8Array, random: Random): Uint8Array {
  let broken: Uint8Array = frame.slice();
  do {
    const at = random.int(Math.min(broken.length, 90) || 1);
    switch (random.int(6)) {
      case 0:
        broken = broken.slice(0, random.int(broken.length + 1));
        break;
      case 1:
        if (at < broken.length) broken[at]! ^= 1 << random.int(8);
        break;
      case 2:
        if (at < broken.length) broken[at] = random.pick([0, 1, 4, 5, 6, 8, 44, 51, 58, 60, 0x40, 0x80, 0xff]);
        break;
      case 3:
        if (at + 1 < broken.length)
          setU16(broken, at, random.pick([0, 1, 8, 20, 40, broken.length, broken.length - 14, 0xffff]));
        break;
      case 4:
        broken = concat(broken, random.bytes(random.int(30)));
        break;
      default:
        // Garbage that begins like a frame of a known type gets further than pure garbage.
        broken = random.bytes(random.int(120));
        if (broken.length > 14) setU16(broken, 12, random.pick([0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x0600]));
        if (broken.length > 15 && random.chance(0.7)) broken[14] = random.pick([0x45, 0x46, 0x60]);
    }
  } while (random.chance(0.3));
  return broken;
}

function vlanOf(random: Random): { vlan?: { tpid: number; tci: number } } {
  return random.chance(0.08) ? { vlan: { tpid: random.pick([0x8100, 0x88a8]), tci: random.pick([0, 5, 0xe005]) } } : {};
}

export function ends4(random: Random): frames.Ends {
  return {
    srcMac: random.pick(macs),
    dstMac: random.pick(random.chance(0.3) ? routerMacs : macs),
    src: random.pick(ip4s),
    dst: random.pick(ip4s),
    ...vlanOf(random),
    ip4: {
      ttl: random.pick([64, 64, 64, 1, 255]),
      tos: random.pick([0, 0, 0, 0xb8, 3]),
      dontFragment: random.chance(0.5),
      options: new Uint8Array(random.chance(0.1) ? random.int(11) * 4 : 0),
    },
  };
}

export function ends6(random: Random): frames.Ends {
  return {
    srcMac: random.pick(macs),
    dstMac: random.pick(random.chance(0.3) ? routerMacs : macs),
    src: random.pick(ip6s),
    dst: random.pick(ip6s),
    ...vlanOf(random),
    ip6: {
      hopLimit: random.pick([64, 64, 64, 1, 255]),
      trafficClass: random.pick([0, 0, 0, 0xb8, 3]),
      flowLabel: random.int(3) * 0x12345,
    },
  };
}

function payload(random: Random): Uint8Array {
  const length = random.chance(0.01) ? random.pick([1400, 9000, 65000]) : random.int(40);
  return new Uint8Array(length).fill(random.u32());
}

function neighbor(random: Random): Uint8Array {
  const type = random.pick([133, 134, 135, 135, 135, 136, 136, 136, 137]);
  const isOfTarget = type === 136 || type === 137;
  const lla = { type: isOfTarget ? 2 : 1, data: parseMac(random.pick(macs)) };
  const options = Array.from({ length: random.int(3) }, () => (random.chance(0.2) ? oddOption(random) : lla));
  const hopLimit = random.chance(0.9) ? 255 : 64;
  const ends = { ...ends6(random), target: random.pick(ip6s.slice(0, 4)), options, ip6: { hopLimit } };
  if (type === 135) return frames.solicitation(ends);
  if (type === 136) return frames.advertisement(ends);
  const rest = random.bytes(random.chance(0.2) ? random.int(40) : { 133: 4, 134: 12, 137: 36 }[type]!);
  const option = random.chance(0.5) ? concat(Uint8Array.of(lla.type, 1), lla.data) : new Uint8Array();
  return frames.ip(ends, 58, concat(Uint8Array.of(type, 0, 0, 0), rest, option));
}

function oddOption(random: Random): { type: number; data: Uint8Array } {
  return { type: random.pick([1, 2, 3, 14]), data: random.bytes(random.pick([6, 6, 14])) };
}

function fragmented(random: Random, v6: boolean): Uint8Array {
  const offset = random.pick([0, 0, 8, 1480, 65528]);
  const more = random.chance(0.6);
  const [protocol, segment] = transport(random);
  if (!v6) {
    const ends = ends4(random);
    return frames.ip({ ...ends, ip4: { ...ends.ip4, fragmentOffset: offset, moreFragments: more } }, protocol, segment);
  }
  return frames.ip(
    ends6(random),
    44,
    buildFragment({ nextHeader: protocol, offset, more, id: random.int(3) }, segment),
  );
}

/** Up to ten extension headers of all kinds in front of a segment. */
function chain(random: Random): [first: number, bytes: Uint8Array] {
  let [next, bytes]: [number, Uint8Array] = transport(random);
  for (let left = random.pick([1, 1, 2, 3, 7, 8, 9, 10]); left > 0; left--) {
    const header = random.pick([0, 43, 60, 135, 51, 44]);
    if (header === 51) {
      const words = random.int(5);
      bytes = concat(Uint8Array.of(next, words), random.bytes((words + 2) * 4 - 2), bytes);
    } else if (header === 44) {
      bytes = buildFragment(
        { nextHeader: next, offset: random.pick([0, 0, 0, 8]), more: random.chance(0.3), id: 1 },
        bytes,
      );
    } else {
      bytes = buildExtension(next, random.bytes(random.pick([6, 6, 14])), bytes);
    }
    next = header;
  }
  return [next, bytes];
}

function transport(random: Random): [protocol: number, bytes: Uint8Array] {
  const ports = { sourcePort: random.pick(l4Ports), destinationPort: random.pick(l4Ports) };
  const anyIp = new Uint8Array(16);
  switch (random.int(4)) {
    case 0:
      return [6, buildTcp(anyIp, anyIp, ports)];
    case 1:
      return [
        random.pick([58, 1]),
        concat(Uint8Array.of(random.pick([1, 128, 129, 133, 135, 136, 8, 0]), 0), random.bytes(30)),
      ];
    case 2:
      return [random.pick([59, 47, 132]), random.bytes(random.int(20))];
    default:
      return [17, buildUdp(anyIp, anyIp, { ...ports, payload: payload(random) })];
  }
}
