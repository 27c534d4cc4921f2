/** Each builder against its parser, and both against bytes captured from other implementations. */
import { deepStrictEqual as deepEqual } from 'node:assert';
import t from 'tap';
import fc from 'fast-check';
import { buildArp, buildArpReply, parseArp } from '../../src/wire/arp.ts';
import { concat, getU16, setU16 } from '../../src/wire/bytes.ts';
import { checksum, l4Checksum, onesSum, udpChecksum } from '../../src/wire/checksum.ts';
import { buildEthernet, ETH_QINQ, parseEthernet } from '../../src/wire/ethernet.ts';
import { buildEchoBody, buildIcmp4, buildIcmp6, parseEcho, parseIcmp } from '../../src/wire/icmp.ts';
import { buildIpv4, parseIpv4 } from '../../src/wire/ipv4.ts';
import { buildExtension, buildFragment, buildIpv6, parseIpv6 } from '../../src/wire/ipv6.ts';
import { buildTcp, buildUdp, parseTcp, parseUdp } from '../../src/wire/l4.ts';
import { buildNeighborBody, buildNeighborReply, parseNdOptions, parseNeighbor } from '../../src/wire/nd.ts';
import { summary } from '../../src/wire/summary.ts';
import { buildVxlan, parseVxlan } from '../../src/wire/vxlan.ts';
import * as frames from '../support/frames.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const plain = (value: unknown) => JSON.parse(JSON.stringify(value, (_, v) => (v instanceof Uint8Array ? [...v] : v)));

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const words = fc.integer({ min: 0, max: 10 }).chain((n) => bytes(n * 4));
const payload = fc.uint8Array({ maxLength: 200 });

t.test('the checksum is that of RFC 1071 §3', async (t) => {
  const example = hex('0001 f203 f4f5 f6f7');
  t.equal(onesSum(example), 0xddf2);
  t.equal(checksum(example), ~0xddf2 & 0xffff);
  t.equal(checksum(hex('01')), ~0x0100 & 0xffff, 'an odd byte is padded behind');
  t.equal(checksum(new Uint8Array(65536).fill(0xff)), 0, 'carries are folded');
});

t.test('a known IPv4 header has its checksum', async (t) => {
  const header = hex('4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7');
  t.equal(checksum(header), 0);
  const built = buildIpv4({
    source: header.slice(12, 16),
    destination: header.slice(16, 20),
    protocol: 17,
    dontFragment: true,
    payload: new Uint8Array(0x73 - 20),
  });
  t.same(built.slice(0, 20), header);
});

t.test('a computed UDP checksum of zero is sent as all ones', async (t) => {
  const source = Uint8Array.of(10, 0, 0, 1);
  const datagram = Uint8Array.of(0, 1, 0, 2, 0, 10, 0, 0, 0, 0);
  // The last word makes the sum 0xffff, whose complement is 0.
  setU16(datagram, 8, checksum(concat(datagram, source, source, Uint8Array.of(0, 17, 0, 10))));
  t.equal(l4Checksum(source, source, 17, datagram), 0);
  t.equal(udpChecksum(source, source, datagram), 0xffff);
  setU16(datagram, 6, 0xffff);
  t.equal(l4Checksum(source, source, 17, datagram), 0, 'and verifies');
});

t.test('what is built parses to the same', async (t) => {
  const holds = <T>(name: string, arbitrary: fc.Arbitrary<T>, through: (value: T) => unknown) => {
    fc.assert(
      fc.property(arbitrary, (value) => {
        deepEqual(plain(through(value)), plain(value));
      }),
      { numRuns: 100 },
    );
    t.pass(name);
  };
  holds(
    'ethernet',
    fc.record({
      destination: bytes(6),
      source: bytes(6),
      type: u16,
      vlan: fc.record({ tpid: fc.constantFrom(0x8100, ETH_QINQ), tci: u16 }),
      payload,
    }),
    (value) => parseEthernet(buildEthernet(value)),
  );
  holds(
    'arp',
    fc.record({ operation: u16, senderMac: bytes(6), senderIp: bytes(4), targetMac: bytes(6), targetIp: bytes(4) }),
    (value) => parseArp(buildArp(value)),
  );
  holds(
    'ipv4',
    fc.record({
      source: bytes(4),
      destination: bytes(4),
      protocol: fc.nat(255),
      ttl: fc.nat(255),
      tos: fc.nat(255),
      id: u16,
      dontFragment: fc.boolean(),
      moreFragments: fc.boolean(),
      fragmentOffset: fc.nat(0x1fff).map((units) => units * 8),
      options: words,
      payload,
    }),
    (value) => parseIpv4(concat(buildIpv4(value), new Uint8Array(9))),
  );
  holds(
    'ipv6',
    fc.record({
      source: bytes(16),
      destination: bytes(16),
      nextHeader: fc.integer({ min: 1, max: 255 }),
      hopLimit: fc.nat(255),
      trafficClass: fc.nat(255),
      flowLabel: fc.nat(0xfffff),
      payload,
    }),
    (value) => parseIpv6(concat(buildIpv6(value), new Uint8Array(9))),
  );
  holds(
    'tcp',
    fc.record({
      sourcePort: u16,
      destinationPort: u16,
      sequence: u32,
      acknowledgment: u32,
      flags: fc.nat(255),
      window: u16,
      options: words,
      payload,
    }),
    (value) => parseTcp(buildTcp(new Uint8Array(4), new Uint8Array(4), value)),
  );
  holds('udp', fc.record({ sourcePort: u16, destinationPort: u16, payload }), (value) =>
    parseUdp(concat(buildUdp(new Uint8Array(4), new Uint8Array(4), value), new Uint8Array(3))),
  );
  holds('vxlan', fc.record({ vni: fc.nat(0xffffff), frame: payload }), (value) => parseVxlan(buildVxlan(value)));
  holds('icmp', fc.record({ type: fc.nat(255), code: fc.nat(255), body: payload }), (value) =>
    parseIcmp(buildIcmp4(value)),
  );
  holds(
    'echo',
    fc.record({ type: fc.constantFrom(0, 8, 128, 129), identifier: u16, sequence: u16, data: payload }),
    ({ type, identifier, sequence, data }) =>
      parseEcho(buildIcmp4({ type, code: 0, body: buildEchoBody(identifier, sequence, data) })),
  );
  holds(
    'neighbor',
    fc.record({
      type: fc.constantFrom(135, 136),
      flags: u32,
      target: bytes(16),
      options: fc.array(
        fc.record({ type: fc.nat(255), data: fc.integer({ min: 1, max: 4 }).chain((n) => bytes(n * 8 - 2)) }),
      ),
    }),
    (value) =>
      parseNeighbor(
        buildIcmp6(new Uint8Array(16), new Uint8Array(16), {
          type: value.type,
          code: 0,
          body: buildNeighborBody(value),
        }),
      ),
  );
});

t.test('checksums of built packets verify', async (t) => {
  const [a, b] = [frames.wireIp('10.0.0.1'), frames.wireIp('10.0.0.2')];
  const [c, d] = [frames.wireIp('fd00::1'), frames.wireIp('fd00::2')];
  const data = Uint8Array.of(1, 2, 3);
  for (const [source, destination] of [
    [a, b],
    [c, d],
  ] as const) {
    t.equal(
      l4Checksum(
        source,
        destination,
        6,
        buildTcp(source, destination, { sourcePort: 1, destinationPort: 2, payload: data }),
      ),
      0,
    );
    t.equal(
      l4Checksum(
        source,
        destination,
        17,
        buildUdp(source, destination, { sourcePort: 1, destinationPort: 2, payload: data }),
      ),
      0,
    );
  }
  t.equal(checksum(buildIcmp4({ type: 8, code: 0, body: data })), 0);
  t.equal(l4Checksum(c, d, 58, buildIcmp6(c, d, { type: 128, code: 0, body: data })), 0);
});

t.test('parsers refuse what does not fit, and never throw', async (t) => {
  t.equal(parseEthernet(new Uint8Array(13)), undefined);
  t.equal(parseEthernet(concat(new Uint8Array(12), hex('8100 0001'))), undefined, 'cut in its tag');
  t.equal(parseArp(hex('0006 0800 0604 0001' + '00'.repeat(20))), undefined, 'not Ethernet');
  t.equal(parseIpv4(hex('44' + '00'.repeat(19))), undefined, 'IHL 4');
  t.equal(parseIpv6(hex('6000 0000 0000 00' + '00'.repeat(33))), undefined, 'a jumbogram');
  t.equal(parseNdOptions(hex('0100' + '00'.repeat(6))), undefined, 'an option of length 0');
  t.equal(parseNdOptions(hex('0102' + '00'.repeat(6))), undefined, 'an option that is cut');
  t.equal(parseVxlan(hex('00000000 00000100')), undefined, 'no I flag');
  t.equal(parseVxlan(hex('ffffffff 000001ff'))?.vni, 1, 'reserved bits are ignored');
  t.equal(parseUdp(hex('0001 0002 0007 0000')), undefined, 'a length below the header');
  const parsers = [
    parseEthernet,
    parseArp,
    parseIpv4,
    parseIpv6,
    parseTcp,
    parseUdp,
    parseIcmp,
    parseEcho,
    parseNeighbor,
    parseVxlan,
    summary,
  ];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(...parsers), (garbage, parse) => {
      parse(garbage);
    }),
    { numRuns: 3000 },
  );
});

t.test('an ARP request is answered', async (t) => {
  const request = parseEthernet(frames.arpRequest({ src: '10.0.0.1', dst: '10.0.0.9' }))!;
  const mac = hex('02 00 00 00 00 09');
  const reply = parseEthernet(buildArpReply(parseArp(request.payload)!, mac))!;
  t.same(reply.destination, request.source);
  t.same(
    plain(parseArp(reply.payload)),
    plain({
      operation: 2,
      senderMac: mac,
      senderIp: frames.wireIp('10.0.0.9'),
      targetMac: request.source,
      targetIp: frames.wireIp('10.0.0.1'),
    }),
  );
});

t.test('a neighbor solicitation is answered, to all nodes when the asker has no address', async (t) => {
  const mac = hex('02 00 00 00 00 09');
  const askerMac = hex('02 00 00 00 00 01');
  const target = frames.wireIp('fd00::9');
  const cases = [
    { asker: 'fd00::1', flags: 0x60000000, to: 'fd00::1', toMac: askerMac },
    { asker: '::', flags: 0x20000000, to: 'ff02::1', toMac: hex('33 33 00 00 00 01') },
    { asker: 'fd00::1', isRouter: true, flags: 0xe0000000, to: 'fd00::1', toMac: askerMac },
  ];
  for (const { asker, isRouter = false, flags, to, toMac } of cases) {
    const askerIp = frames.wireIp(asker);
    const frame = parseEthernet(buildNeighborReply({ mac, target, askerMac, askerIp, isRouter }))!;
    t.same(frame.destination, toMac);
    const packet = parseIpv6(frame.payload)!;
    t.equal(packet.hopLimit, 255);
    t.same(packet.destination, frames.wireIp(to));
    t.equal(l4Checksum(packet.source, packet.destination, 58, packet.payload), 0);
    const neighbor = parseNeighbor(packet.payload)!;
    t.equal(neighbor.flags, flags);
    t.same(neighbor.target, target);
    t.same(plain(neighbor.options), plain([{ type: 2, data: mac }]));
  }
});

t.test('one line a frame', async (t) => {
  const v6 = { src: 'fd00::1', dst: '2001:db8:0:0:1::2' };
  const lines: [Uint8Array, string][] = [
    [frames.tcp({}, { sourcePort: 1234, destinationPort: 80 }), 'IP 10.0.0.1.1234 > 10.0.0.2.80: tcp S, length 0'],
    [frames.udp(v6, 53, 5353, new Uint8Array(4)), 'IP6 fd00::1.53 > 2001:db8::1:0:0:2.5353: udp, length 4'],
    [frames.arpRequest({}), 'ARP who-has 10.0.0.2 tell 10.0.0.1'],
    [frames.arpReply({}), 'ARP 10.0.0.1 is-at 02:00:00:00:00:01'],
    [frames.echo({}, 7, 1), 'IP 10.0.0.1 > 10.0.0.2: icmp echo request, id 7, seq 1, length 8'],
    [
      frames.solicitation({ src: '::', dst: 'ff02::1:ff00:9', target: 'fe80::9' }),
      'IP6 :: > ff02::1:ff00:9: icmp6 neighbor solicitation, who has fe80::9',
    ],
    [
      frames.ip({ ip4: { fragmentOffset: 16 } }, 17, new Uint8Array(8)),
      'IP 10.0.0.1 > 10.0.0.2: fragment of udp at 16',
    ],
    [
      frames.ip(v6, 44, buildFragment({ nextHeader: 6, offset: 8, more: false, id: 1 }, new Uint8Array(8))),
      'IP6 fd00::1 > 2001:db8::1:0:0:2: fragment of tcp at 8',
    ],
    [
      frames.ip(v6, 60, buildExtension(59, new Uint8Array(6), new Uint8Array())),
      'IP6 fd00::1 > 2001:db8::1:0:0:2: proto 59, length 0',
    ],
    [
      frames.ethernet({ vlan: { tpid: 0x8100, tci: 5 } }, 0x1234, new Uint8Array(2)),
      'vlan 5, 02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 0x1234, length 20',
    ],
    [new Uint8Array(3), 'truncated frame, length 3'],
    [frames.ethernet({}, 0x0800, hex('4f')), 'IP malformed'],
  ];
  for (const [frame, line] of lines) t.equal(summary(frame), line);
  const long = frames.udp({}, 1, 2, new Uint8Array(1000));
  t.equal(summary(long.slice(0, 60), long.length), summary(long), 'a captured beginning reads as the whole');
});

t.test('getU16 reads what setU16 wrote', async (t) => {
  const word = new Uint8Array(2);
  setU16(word, 0, 0xfedc);
  t.equal(getU16(word, 0), 0xfedc);
});
