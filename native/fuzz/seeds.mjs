/** Initial inputs of the fuzz targets: small inputs that lead into each branch. */
const hex = (text) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const ethernet = (type) => `020000000002 020000000001 ${type}`;
const ip4 = (protocol, payload, fragment = '0000') =>
  `${ethernet('0800')} 4500 ${(20 + hex(payload).length).toString(16).padStart(4, '0')} 0000 ${fragment} 40${protocol} 0000 0a000001 0a000002 ${payload}`;
const ip6 = (next, payload) =>
  `${ethernet('86dd')} 60000000 ${hex(payload).length.toString(16).padStart(4, '0')} ${next}ff fd${'00'.repeat(14)}01 fd${'00'.repeat(14)}02 ${payload}`;
const udp = '00350035 0008 0000';
/** One frame for each branch of extract; the fuzzer finds the rest from there. */
const frames = [
  `${ethernet('0806')} 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002`,
  ip4('11', udp),
  ip4('06', `00500051 00000000 00000000 5002 ffff 0000 0000`),
  ip4('01', '0800 0000 0001 0001'),
  ip4('11', udp, '2000'),
  ip4('11', '0000', '0001'),
  ip6('2c', `1100 0009 00000001 ${udp}`),
  ip4('84', '00010002 00000000 00000000'),
  ip6('11', udp),
  ip6('00', `2c00 0502 00000000 1100 0000 00000001 ${udp}`),
  ip6('33', `3c04 0000 ${'00'.repeat(20)} 1100 010400000000 ${udp}`),
  ip6('3a', `8700 0000 00000000 fd${'00'.repeat(14)}02 0101 020000000001`),
  ip6('3a', `8800 0000 60000000 fd${'00'.repeat(14)}02 0201 020000000001`),
  ip6('3a', '8600 0000 40000000 00000000 00000000'),
  `020000000002 020000000001 8100 0064 88a8 0065 0800`,
  `${ethernet('0026')} 424203`,
].map(hex);

/** A burst for the target `offload`: virtio_net_hdr, length and the bytes of each frame. */
const burst = (...records) => Buffer.concat([Buffer.of(records.length - 1), ...records]);
const record = (frame, vnet = '00'.repeat(10)) =>
  Buffer.concat([hex(vnet), Buffer.of(0x80 | (frame.length >> 8), frame.length & 255), frame]);
const le16 = (number) => Buffer.of(number & 255, number >> 8).toString('hex');
const l4 = (version) => 14 + (version === 4 ? 20 : 40);
const partial = (version, field) => `0100 0000 0000 ${le16(l4(version))} ${le16(field)}`;
const superframe = (version, type, field, size) => `010${type} 0000 ${le16(size)} ${le16(l4(version))} ${le16(field)}`;
const number = (value, bytes) => value.toString(16).padStart(2 * bytes, '0');
const tcp = (version, seq, bytes) => {
  const segment = `00500051 ${number(seq, 4)} 00000001 5010 ffff 1234 0000 ${'ab'.repeat(bytes)}`;
  return hex(version === 4 ? ip4('06', segment) : ip6('06', segment));
};
const syn = (version) => {
  const segment = '00500051 00000000 00000000 9002 ffff 1234 0000 01 0204 2300 030307 0402 0101 0101 0101';
  return hex(version === 4 ? ip4('06', segment) : ip6('06', segment));
};
const datagram = (version, bytes) => {
  const segment = `00350035 ${number(8 + bytes, 2)} 1234 ${'cd'.repeat(bytes)}`;
  return hex(version === 4 ? ip4('11', segment) : ip6('11', segment));
};

/** For the target `rewrite`: what to do, an MTU, virtio_net_hdr, and the frame. */
const rewriting = (what, frame, vnet = '00'.repeat(10)) => Buffer.concat([Buffer.of(what, 1, 0), hex(vnet), frame]);

/** For the target `refuse`: the answer and its family, virtio_net_hdr, and the frame. 0x80: through the tunnel. */
const refusing = (what, frame, vnet = '00'.repeat(10)) => Buffer.concat([Buffer.of(what), hex(vnet), frame]);
const [RESET, UNREACHABLE4, UNREACHABLE6] = [0x00, 0x43, 0x03];

/** For the target `nat`: what to do, the tuple that it becomes, and the frame. */
const mapped = (last) => `${'00'.repeat(10)}ffff c633640${last}`;
const tuple = `${mapped(1)} ${mapped(2)} 9c40 0035`;
const translating = (what, frame) => Buffer.concat([Buffer.of(what), hex(tuple), frame]);
/** An error that quotes a datagram with that tuple. */
const quoting = hex(
  ip4('01', `0b00 0000 00000000 4500 001c 0000 0000 4011 0000 c6336401 c6336402 9c40 0035 0008 1234`),
);

/** For the target `bpf`: a program as `tcpdump -ddd` prints it, where the frame is cut, and the frame. */
const filtering = (program, cut, frame) =>
  Buffer.concat([
    Buffer.of(program.length, cut),
    ...program.map(([code, jumpTrue, jumpFalse, k]) => {
      return Buffer.of(code, jumpTrue, jumpFalse, k >>> 24, (k >>> 16) & 255, (k >>> 8) & 255, k & 255);
    }),
    frame,
  ]);
/** `udp port 53` for IPv4; each kind of arithmetic and memory; a load from beyond the end. */
const programs = [
  [
    [0x28, 0, 0, 12],
    [0x15, 0, 7, 0x800],
    [0x30, 0, 0, 23],
    [0x15, 0, 5, 17],
    [0xb1, 0, 0, 14],
    [0x48, 0, 0, 16],
    [0x15, 1, 0, 53],
    [0x05, 0, 0, 1],
    [0x06, 0, 0, 262144],
    [0x06, 0, 0, 0],
  ],
  [
    [0x80, 0, 0, 0],
    [0x02, 0, 0, 15],
    [0x61, 0, 0, 15],
    ...[0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x64, 0x74, 0x94, 0xa4].map((code) => [code, 0, 0, 3]),
    ...[0x0c, 0x1c, 0x2c, 0x3c, 0x4c, 0x5c, 0x6c, 0x7c, 0x9c, 0xac, 0x84, 0x07, 0x87].map((code) => [code, 0, 0, 0]),
    ...[0x1d, 0x2d, 0x3d, 0x4d].map((code) => [code, 0, 0, 0]),
    [0x16, 0, 0, 0],
  ],
  [
    [0x01, 0, 0, 0xffffffff],
    [0x50, 0, 0, 0xffffffff],
    [0x06, 0, 0, 1],
  ],
];

/** Initial inputs by target. */
/** A record for the target `probe`. */
function probing(what, time, { session, seq, echo = 0 }) {
  const body = Buffer.alloc(68 + 6);
  body.set([1, 1, 1, 0x2c]);
  body.writeUInt32BE(seq, 4);
  body.write(session.repeat(8), 8, 'hex');
  body.writeUInt32BE(echo, 56);
  body.writeUInt16BE(2, 66);
  body.set([0, 0, 100, 0, 0, 200], 68);
  return Buffer.concat([Buffer.of(what, time, body.length / 2), body]);
}

export const seeds = {
  bpf: programs.flatMap((program) => [filtering(program, 34, datagram(4, 20)), filtering(program, 13, frames[1])]),
  extract: frames,
  vxlan: frames.map((frame) => Buffer.concat([hex('0800000000000700'), frame])),
  offload: [
    ...frames.map((frame) => burst(record(frame), record(frame, '02000000000000000000'))),
    ...[4, 6].flatMap((version) => [
      burst(...[0, 8, 16].map((seq) => record(tcp(version, seq, 8), partial(version, 16)))),
      burst(record(tcp(version, 0, 60), superframe(version, version === 4 ? 1 : 4, 16, 8))),
      burst(...[8, 8, 3].map((bytes) => record(datagram(version, bytes), partial(version, 6)))),
      burst(record(datagram(version, 60), superframe(version, 5, 6, 8))),
      burst(record(tcp(version, 0, 1100), superframe(version, version === 4 ? 1 : 4, 16, 1))),
    ]),
  ],
  // In order, backwards, overlapping, repeated, and with time in between.
  fragments: [
    '080007 080807 001013',
    '001013 080807 080007',
    '080007 080801 001013',
    '080808 080808 f0ff00 080007',
  ].map(hex),
  rewrite: [
    ...frames.flatMap((frame) => [4, 5].map((what) => rewriting(what, frame))),
    rewriting(5, tcp(4, 0, 900), superframe(4, 1, 16, 300)),
    rewriting(5, datagram(4, 900), partial(4, 6)),
    rewriting(5, datagram(6, 900)),
    rewriting(5, tcp(4, 0, 3000), superframe(4, 1, 16, 2)),
    rewriting(7, syn(4)),
    rewriting(7, syn(6), partial(6, 16)),
    rewriting(4, hex(ip4('01', `0800 0000 0001 0001 ${'ef'.repeat(900)}`))),
  ],
  probe: [
    probing(0x0f, 0, { session: 'aa', seq: 1 }),
    Buffer.concat([1, 2, 3].map((seq) => probing(0x0f, 75, { session: 'aa', seq, echo: seq }))),
    Buffer.concat([
      probing(0x0f, 75, { session: 'aa', seq: 1, echo: 1 }),
      probing(0x0f, 75, { session: 'bb', seq: 1, echo: 2 }),
    ]),
    Buffer.concat([probing(0x0e, 75, { session: 'aa', seq: 1 }), probing(0x1f, 75, { session: 'aa', seq: 1 })]),
  ],
  refuse: [
    ...frames.flatMap((frame) => [RESET, UNREACHABLE4, UNREACHABLE6].map((what) => refusing(what, frame))),
    ...[RESET, UNREACHABLE4].flatMap((what) => [
      refusing(what | 0x80, tcp(4, 7, 20)),
      refusing(what, tcp(4, 0, 900), superframe(4, 1, 16, 300)),
      refusing(what, tcp(4, 0, 900), partial(4, 16)),
    ]),
    ...[RESET, UNREACHABLE6].map((what) => refusing(what, tcp(6, 0, 3000), superframe(6, 4, 16, 1400))),
    ...[syn(4), syn(6)].map((frame) => refusing(RESET, frame)),
  ],
  nat: [
    ...[...frames, tcp(4, 7, 20), tcp(6, 7, 20)].map((frame) => translating(0, frame)),
    ...[1, 3].map((what) => translating(what, quoting)),
  ],
};
