/** The extraction rules, one by one. The fields that a case does not name must be zero. */
import t, { type Test } from 'tap';
import { extract, MAX_FRAME_BYTES } from '../../src/flow/extract.ts';
import { fieldList } from '../../src/flow/fields.ts';
import { emptyKey, formatField, readBytes } from '../../src/flow/key.ts';
import { isZero, parseIp } from '../../src/flow/types.ts';
import type { DropReason } from '../../src/flow/reason.ts';
import { concat, setU16 } from '../../src/wire/bytes.ts';
import { buildExtension, buildFragment } from '../../src/wire/ipv6.ts';
import { buildTcp, buildUdp } from '../../src/wire/l4.ts';
import * as frames from '../support/frames.ts';

const zero = (length: number) => new Uint8Array(length);
const v6 = { src: 'fd00::1', dst: 'fd00::2' };
const macs = 'eth_dst=02:00:00:00:00:02,eth_src=02:00:00:00:00:01';
const udp6 = buildUdp(frames.wireIp(v6.src), frames.wireIp(v6.dst), {
  sourcePort: 7,
  destinationPort: 9,
  payload: zero(0),
});

/** All fields that are not zero, in the form of `weft flows`. */
function text(key: Uint8Array): string {
  const set = fieldList.filter((field) => !isZero(readBytes(key, field)));
  return set.map((field) => formatField(field.name, key)).join(',');
}

function changed(frame: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const copy = frame.slice();
  copy.set(values, at);
  return copy;
}

/** Extraction gives exactly `expected`, the fields that are not zero. */
function gives(t: Test, name: string, frame: Uint8Array, expected: string, lengthBytes = frame.length): void {
  // A key that was used before: nothing of an earlier frame may show.
  const key = emptyKey().fill(0xaa, 24);
  const extracted = extract(frame, key);
  t.match(extracted, { ok: true, lengthBytes }, name);
  t.equal(text(key), expected, name);
}

function fails(t: Test, name: string, frame: Uint8Array, reason: DropReason): void {
  t.strictSame(extract(frame, emptyKey()), { ok: false, reason }, name);
}

/** The frame without its last `bytes` bytes, with a matching IPv6 payload length. */
function shortened6(frame: Uint8Array, bytes: number): Uint8Array {
  const short = frame.slice(0, frame.length - bytes);
  setU16(short, 18, short.length - 54);
  return short;
}

t.test('Ethernet and VLAN', async (t) => {
  fails(t, '13 bytes', zero(13), 'frame_too_short');
  fails(t, 'too long', zero(MAX_FRAME_BYTES + 1), 'frame_too_long');
  gives(t, 'unknown type', frames.ethernet({}, 0x88cc, zero(3)), `${macs},eth_type=0x88cc`);
  gives(t, 'a length is no type', frames.ethernet({}, 0x05dc, zero(50)), `${macs},eth_type=0x05ff`);
  gives(t, 'the longest', frames.ethernet({}, 0x1234, zero(MAX_FRAME_BYTES - 14)), `${macs},eth_type=0x1234`);
  const vlan = { tpid: 0x8100, tci: 0x2005 };
  gives(
    t,
    'tagged',
    frames.udp({ vlan }, 7, 9),
    `${macs},eth_type=ip,vlan_tci=12293,ip_src=10.0.0.1,ip_dst=10.0.0.2,ip_proto=17,ip_ttl=64,l4_src=7,l4_dst=9`,
  );
  gives(
    t,
    'VLAN 0 is a tag too',
    frames.ethernet({ vlan: { tpid: 0x88a8, tci: 0 } }, 0x1234, zero(0)),
    `${macs},eth_type=0x1234,vlan_tci=4096`,
  );
  gives(
    t,
    'a second tag is a type',
    frames.ethernet({ vlan }, 0x8100, zero(4)),
    `${macs},eth_type=0x8100,vlan_tci=12293`,
  );
  fails(t, 'cut in the tag', frames.ethernet({ vlan }, 0x0800, zero(0)).slice(0, 17), 'frame_too_short');
});

t.test('ARP', async (t) => {
  const request = frames.arpRequest({});
  const key = 'eth_dst=ff:ff:ff:ff:ff:ff,eth_src=02:00:00:00:00:01,eth_type=arp,ip_src=10.0.0.1,ip_dst=10.0.0.2';
  const lla = 'nd_lla=02:00:00:00:00:01';
  gives(t, 'request', request, `${key},ip_proto=1,${lla}`);
  gives(t, 'padding stays', concat(request, zero(18)), `${key},ip_proto=1,${lla}`);
  gives(t, 'operation 256', changed(request, 20, 1, 0), `${key},${lla}`);
  fails(t, '27 bytes', request.slice(0, -1), 'arp_malformed');
  fails(t, 'hardware type', changed(request, 15, 6), 'arp_malformed');
  fails(t, 'protocol type', changed(request, 16, 0x86, 0xdd), 'arp_malformed');
  fails(t, 'hardware length', changed(request, 18, 8), 'arp_malformed');
  fails(t, 'protocol length', changed(request, 19, 16), 'arp_malformed');
});

t.test('IPv4', async (t) => {
  const frame = frames.udp({ ip4: { tos: 0xb9, ttl: 3 } }, 7, 9, zero(1));
  const ip = `${macs},eth_type=ip,ip_src=10.0.0.1,ip_dst=10.0.0.2`;
  const all = `${ip},ip_proto=17,ip_tos=185,ip_ttl=3,l4_src=7,l4_dst=9`;
  gives(t, 'UDP', frame, all);
  gives(t, 'padding goes', concat(frame, zero(17)), all, frame.length);
  gives(
    t,
    'options',
    frames.udp({ ip4: { options: zero(40) } }, 7, 9),
    `${ip},ip_proto=17,ip_ttl=64,l4_src=7,l4_dst=9`,
  );
  gives(
    t,
    'first fragment',
    frames.udp({ ip4: { moreFragments: true } }, 7, 9),
    `${ip},ip_proto=17,ip_ttl=64,ip_frag=1,l4_src=7,l4_dst=9`,
  );
  gives(
    t,
    'middle fragment',
    frames.udp({ ip4: { moreFragments: true, fragmentOffset: 8 } }, 7, 9),
    `${ip},ip_proto=17,ip_ttl=64,ip_frag=2`,
  );
  gives(
    t,
    'last fragment',
    frames.ip({ ip4: { fragmentOffset: 65504 } }, 6, zero(11)),
    `${ip},ip_proto=6,ip_ttl=64,ip_frag=2`,
  );
  gives(t, 'unknown protocol', frames.ip({}, 47, zero(8)), `${ip},ip_proto=47,ip_ttl=64`);
  gives(t, 'ICMPv6 over IPv4 has no meaning', frames.ip({}, 58, zero(0)), `${ip},ip_proto=58,ip_ttl=64`);
  fails(t, 'no header', frame.slice(0, 33), 'ipv4_malformed');
  fails(t, 'version 6', changed(frame, 14, 0x65), 'ipv4_malformed');
  fails(t, 'IHL 4', changed(frame, 14, 0x44), 'ipv4_malformed');
  fails(t, 'IHL beyond the total length', changed(frame, 14, 0x4f), 'ipv4_malformed');
  fails(t, 'total length beyond the frame', frame.slice(0, -1), 'ipv4_malformed');
  fails(t, 'total length below the header', changed(frame, 16, 0, 19), 'ipv4_malformed');
});

t.test('IPv6', async (t) => {
  const ip = `${macs},eth_type=ipv6,ip_src=fd00::1,ip_dst=fd00::2`;
  const frame = frames.udp({ ...v6, ip6: { trafficClass: 0xb9, flowLabel: 0xfffff, hopLimit: 3 } }, 7, 9, zero(1));
  const all = `${ip},ip_proto=17,ip_tos=185,ip_ttl=3,l4_src=7,l4_dst=9`;
  gives(t, 'UDP', frame, all);
  gives(t, 'padding goes', concat(frame, zero(17)), all, frame.length);
  gives(t, 'no next header', frames.ip(v6, 59, zero(0)), `${ip},ip_proto=59,ip_ttl=64`);
  gives(t, 'an empty payload', frames.ip(v6, 47, zero(0)), `${ip},ip_proto=47,ip_ttl=64`);
  gives(t, 'ICMP over IPv6 has no meaning', frames.ip(v6, 1, zero(0)), `${ip},ip_proto=1,ip_ttl=64`);
  fails(t, 'no header', frame.slice(0, 53), 'ipv6_malformed');
  fails(t, 'version 4', changed(frame, 14, 0x45), 'ipv6_malformed');
  fails(t, 'payload length beyond the frame', frame.slice(0, -1), 'ipv6_malformed');
  fails(t, 'a jumbogram', changed(frames.ip(v6, 0, zero(8)), 18, 0, 0), 'ipv6_malformed');
});

t.test('IPv6 extension headers', async (t) => {
  const ip = `${macs},eth_type=ipv6,ip_src=fd00::1,ip_dst=fd00::2`;
  const all = `${ip},ip_proto=17,ip_ttl=64,l4_src=7,l4_dst=9`;
  for (const header of [0, 43, 60, 135]) {
    const frame = frames.ip(v6, header, buildExtension(17, zero(14), udp6));
    gives(t, `header ${header}`, frame, all);
    fails(t, `header ${header} beyond the packet`, changed(frame, 55, 9), 'ipv6_ext_headers');
    fails(t, `header ${header} cut to 7 bytes`, shortened6(frame, 17), 'ipv6_ext_headers');
  }
  gives(t, 'AH counts in words', frames.ip(v6, 51, concat(Uint8Array.of(17, 4), zero(22), udp6)), all);
  const eight = (rest: Uint8Array) => {
    let chain = buildExtension(17, zero(6), rest);
    for (let i = 0; i < 7; i++) chain = buildExtension(60, zero(6), chain);
    return chain;
  };
  gives(t, 'eight', frames.ip(v6, 60, eight(udp6)), all);
  fails(t, 'nine', frames.ip(v6, 60, buildExtension(60, zero(6), eight(udp6))), 'ipv6_ext_headers');
  const fragment = (offset: number, more: boolean, rest: Uint8Array, nextHeader = 17) =>
    frames.ip(v6, 44, buildFragment({ nextHeader, offset, more, id: 5 }, rest));
  gives(t, 'atomic fragment', fragment(0, false, udp6), all);
  gives(t, 'first fragment', fragment(0, true, udp6), `${ip},ip_proto=17,ip_ttl=64,ip_frag=1,l4_src=7,l4_dst=9`);
  gives(t, 'later fragment', fragment(8, true, udp6), `${ip},ip_proto=17,ip_ttl=64,ip_frag=2`);
  gives(
    t,
    'nothing is walked in a later fragment',
    fragment(8, false, zero(1), 60),
    `${ip},ip_proto=60,ip_ttl=64,ip_frag=2`,
  );
  const order = (...headers: number[]) => {
    const [chain] = headers.reduceRight<[Uint8Array, number]>(
      ([rest, next], header) => [buildExtension(next, zero(6), rest), header],
      [udp6, 17],
    );
    return frames.ip(v6, headers[0]!, chain);
  };
  gives(t, 'hop-by-hop first', order(0, 60), all);
  fails(t, 'hop-by-hop behind another', order(60, 0), 'ipv6_ext_headers');
  fails(t, 'hop-by-hop twice', order(0, 0), 'ipv6_ext_headers');
  const twice = buildFragment({ nextHeader: 44, offset: 0, more: false, id: 5 }, fragment(8, true, udp6).slice(54));
  fails(t, 'a fragment header twice', frames.ip(v6, 44, twice), 'ipv6_ext_headers');
  for (const protocol of [50, 59, 139, 200]) {
    gives(t, `${protocol} is a protocol`, frames.ip(v6, protocol, udp6), `${ip},ip_proto=${protocol},ip_ttl=64`);
  }
});

t.test('IPv6 with an IPv4-mapped address is neither', async (t) => {
  const mapped = parseIp('::ffff:10.0.0.1');
  for (const at of [22, 38]) {
    const frame = frames.udp(v6, 7, 9).slice();
    frame.set(mapped, at);
    fails(t, at === 22 ? 'source' : 'destination', frame, 'ipv4_mapped');
    t.match(extract(frame.with(at + 9, 1), emptyKey()), { ok: true }, '::1:ffff:a00:1 is another address');
    const later = frames.ip(v6, 44, buildFragment({ nextHeader: 17, offset: 64, more: false, id: 1 }, zero(8))).slice();
    later.set(mapped, at);
    fails(t, 'a later fragment', later, 'ipv4_mapped');
  }
});

t.test('fragments', async (t) => {
  const [source, destination] = [frames.wireIp('10.0.0.1'), frames.wireIp('10.0.0.2')];
  const tcp = buildTcp(source, destination, { sourcePort: 7, destinationPort: 9, options: zero(12) });
  const cut = (v6Frame: boolean, offset: number, more: boolean, rest: Uint8Array, protocol = 17) =>
    v6Frame
      ? frames.ip(v6, 44, buildFragment({ nextHeader: protocol, offset, more, id: 5 }, rest))
      : frames.ip({ ip4: { fragmentOffset: offset, moreFragments: more } }, protocol, rest);
  for (const isIp6 of [false, true]) {
    const of = (name: string) => `${isIp6 ? 'IPv6' : 'IPv4'}: ${name}`;
    const refused = (name: string, frame: Uint8Array, reason: DropReason) => fails(t, of(name), frame, reason);
    const taken = (name: string, frame: Uint8Array) => t.match(extract(frame, emptyKey()), { ok: true }, of(name));
    // Header (for IPv6: nothing) and payload are at most 65,535 bytes.
    const most = isIp6 ? 65535 : 65515;
    taken('one that ends at the end of the largest packet', cut(isIp6, 65496, false, zero(most - 65496)));
    refused('one that ends behind it', cut(isIp6, 65496, false, zero(most - 65495)), 'fragment_malformed');
    refused('empty, the first', cut(isIp6, 0, true, zero(0)), 'fragment_malformed');
    refused('empty, the last', cut(isIp6, 64, false, zero(0)), 'fragment_malformed');
    refused('12 bytes, and more', cut(isIp6, 64, true, zero(12)), 'fragment_malformed');
    taken('12 bytes, the last', cut(isIp6, 64, false, zero(12)));

    taken('all of the TCP header', cut(isIp6, 0, true, tcp, 6));
    refused('TCP without its options', cut(isIp6, 0, true, tcp.slice(0, 24), 6), 'fragment_tiny');
    for (const protocol of [6, 132, isIp6 ? 58 : 1]) {
      const bytes = protocol === 58 ? Uint8Array.of(128, ...zero(7)) : zero(8);
      if (protocol === 58 || protocol === 1) taken(`8 bytes of ${protocol}`, cut(isIp6, 0, true, bytes, protocol));
      else refused(`8 bytes of ${protocol}`, cut(isIp6, 0, true, bytes, protocol), 'fragment_tiny');
    }
    taken('8 bytes of UDP', cut(isIp6, 0, true, udp6.slice(0, 8)));
    for (const [protocol, offset, reason] of [
      [6, 8, 'fragment_tiny'],
      [6, 16, 'fragment_tiny'],
      [6, 24, undefined],
      [132, 8, 'fragment_tiny'],
      [132, 16, undefined],
      [17, 8, undefined],
    ] as const) {
      const name = `${protocol} at ${offset}`;
      const frame = cut(isIp6, offset, true, zero(8), protocol);
      if (reason) refused(name, frame, reason);
      else taken(name, frame);
    }
  }
  fails(
    t,
    'a first one that ends before its chain',
    cut(true, 0, true, zero(8), 43).with(62, 17).with(63, 1),
    'fragment_tiny',
  );
  fails(
    t,
    'a first one that ends in its chain',
    cut(true, 0, true, buildExtension(17, zero(6), zero(0)), 60),
    'fragment_tiny',
  );
  const option = buildExtension(
    44,
    zero(6),
    buildFragment({ nextHeader: 17, offset: 65496, more: false, id: 1 }, zero(31)),
  );
  t.match(extract(frames.ip(v6, 60, option), emptyKey()), { ok: true }, 'headers before it count, too');
  const longer = buildExtension(
    44,
    zero(6),
    buildFragment({ nextHeader: 17, offset: 65496, more: false, id: 1 }, zero(32)),
  );
  fails(t, 'and make it too long', frames.ip(v6, 60, longer), 'fragment_malformed');
});

t.test('L4', async (t) => {
  const [source, destination] = [frames.wireIp('10.0.0.1'), frames.wireIp('10.0.0.2')];
  const ip = `${macs},eth_type=ip,ip_src=10.0.0.1,ip_dst=10.0.0.2`;
  const segment = buildTcp(source, destination, { sourcePort: 7, destinationPort: 9, options: zero(4) });
  gives(t, 'TCP', frames.ip({}, 6, segment), `${ip},ip_proto=6,ip_ttl=64,l4_src=7,l4_dst=9`);
  fails(t, 'TCP options cut', frames.ip({}, 6, segment.slice(0, 23)), 'l4_truncated');
  fails(t, 'TCP data offset 4', frames.ip({}, 6, changed(segment, 12, 0x40)), 'l4_truncated');
  for (const [protocol, needed] of [
    [6, 20],
    [17, 8],
    [132, 12],
    [1, 8],
  ] as const) {
    fails(t, `protocol ${protocol}`, frames.ip({}, protocol, zero(needed - 1)), 'l4_truncated');
  }
  gives(
    t,
    'SCTP',
    frames.ip({}, 132, concat(Uint8Array.of(0, 7, 0, 9), zero(8))),
    `${ip},ip_proto=132,ip_ttl=64,l4_src=7,l4_dst=9`,
  );
  gives(
    t,
    'ICMP',
    frames.ip({}, 1, concat(Uint8Array.of(3, 4), zero(6))),
    `${ip},ip_proto=1,ip_ttl=64,l4_src=3,l4_dst=4`,
  );
  const ip6 = `${macs},eth_type=ipv6,ip_src=fd00::1,ip_dst=fd00::2`;
  gives(t, 'ICMPv6', frames.ip(v6, 58, Uint8Array.of(2, 1, 0, 0)), `${ip6},ip_proto=58,ip_ttl=64,l4_src=2,l4_dst=1`);
  gives(t, 'ICMPv6 echo', frames.echo(v6, 7, 1), `${ip6},ip_proto=58,ip_ttl=64,l4_src=128,icmp_id=7`);
  fails(t, 'ICMPv6 of 3 bytes', frames.ip(v6, 58, zero(3)), 'l4_truncated');
  fails(t, 'ICMPv6 echo of 7 bytes', frames.ip(v6, 58, concat(Uint8Array.of(129), zero(6))), 'l4_truncated');
});

t.test('neighbor discovery', async (t) => {
  const lla = (type: number, last: number) => ({ type, data: Uint8Array.of(2, 0, 0, 0, 0, last) });
  const ip = `${macs},eth_type=ipv6,ip_src=fd00::1,ip_dst=fd00::2,ip_proto=58,ip_ttl=255`;
  const ends = { ...v6, target: 'fe80::9' };
  const nonce = { type: 14, data: zero(6).fill(7) };
  const ns = frames.solicitation({ ...ends, options: [nonce, lla(1, 9), nonce] });
  gives(t, 'the source option of an NS', ns, `${ip},l4_src=135,nd_lla=02:00:00:00:00:09,nd_target=fe80::9`);
  const na = frames.advertisement({ ...ends, options: [nonce, lla(2, 9)] });
  gives(t, 'the target option of an NA', na, `${ip},l4_src=136,nd_lla=02:00:00:00:00:09,nd_target=fe80::9`);
  gives(t, 'no option', frames.solicitation(ends), `${ip},l4_src=135,nd_target=fe80::9`);
  const odd = (name: string, ...options: { type: number; data: Uint8Array }[]) =>
    fails(t, name, frames.solicitation({ ...ends, options }), 'nd_malformed');
  odd('a link-layer option of another length', { type: 1, data: zero(14).fill(4) });
  odd('two of them', lla(1, 9), lla(1, 9));
  odd('a target option in an NS', lla(2, 9));
  odd('a group’s MAC', { type: 1, data: Uint8Array.of(1, 0, 0x5e, 0, 0, 1) });
  odd('a MAC of zeros', { type: 1, data: zero(6) });
  fails(t, 'a source option in an NA', frames.advertisement({ ...ends, options: [lla(1, 9)] }), 'nd_malformed');
  fails(t, 'an option from ::', frames.solicitation({ ...ends, src: '::', options: [lla(1, 9)] }), 'nd_malformed');
  fails(t, 'a group as target', frames.solicitation({ ...ends, target: 'ff02::1' }), 'nd_malformed');
  fails(t, 'an IPv4-mapped target', frames.solicitation({ ...ends, target: '::ffff:10.0.0.1' }), 'nd_malformed');
  fails(t, 'hop limit 254', changed(ns, 21, 254), 'nd_malformed');
  fails(t, 'code 1', changed(ns, 55, 1), 'nd_malformed');
  fails(t, 'no target', shortened6(frames.solicitation(ends), 1), 'nd_malformed');
  fails(t, 'an option of length 0', changed(ns, 79, 0), 'nd_malformed');
  fails(t, 'an option beyond the message', changed(ns, 95, 3), 'nd_malformed');
  fails(t, 'half an option', shortened6(ns, 4), 'nd_malformed');
  const fragment = buildFragment({ nextHeader: 58, offset: 0, more: true, id: 5 }, ns.slice(54));
  fails(t, 'fragmented', frames.ip({ ...v6, ip6: { hopLimit: 255 } }, 44, fragment), 'nd_malformed');
  for (const [type, headerBytes, wanted] of [
    [133, 8, 1],
    [134, 16, 1],
    [137, 40, 2],
  ] as const) {
    const message = concat(Uint8Array.of(type), zero(headerBytes - 1));
    const nd = (bytes: Uint8Array, hopLimit = 255) => frames.ip({ ...v6, ip6: { hopLimit } }, 58, bytes);
    const option = (of: number) => concat(message, Uint8Array.of(of, 1, 2, 0, 0, 0, 0, 9));
    gives(t, `type ${type}`, nd(message), `${ip},l4_src=${type}`);
    gives(t, `type ${type}, with a MAC`, nd(option(wanted)), `${ip},l4_src=${type},nd_lla=02:00:00:00:00:09`);
    fails(t, `type ${type}, with the wrong option`, nd(option(3 - wanted)), 'nd_malformed');
    fails(t, `type ${type}, cut`, nd(message.slice(0, -1)), 'nd_malformed');
    fails(t, `type ${type}, hop limit 64`, nd(message, 64), 'nd_malformed');
  }
});
