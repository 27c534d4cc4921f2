/**
 * What a mirror copies: the frames that a filter selects, which must be the same as tcpdump selects
 * from the same file, and as many as there is room for.
 */
import { spawnSync } from 'node:child_process';
import { compileFilter } from '../../src/cli/filter.ts';
import { MIRROR_BYTES, mirrorRecordBytes, type MirroredFrame } from '../../src/datapath/datapath.ts';
import type { BpfProgram } from '../../src/flow/bpf.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import * as frames from '../support/frames.ts';
import { mutate, randomFrame } from '../support/random-frames.ts';
import { Random } from '../support/random.ts';
import { segmentsOf, someBytes } from '../support/superframes.ts';
import { encap, numbered, output, portNo, type Open } from './harness.ts';
import { conformanceTests } from './suite.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** Expressions of every kind that libpcap compiles differently. */
const expressions = [
  'arp',
  'ip',
  'ip6',
  'tcp',
  'udp port 53',
  'tcp port 80 or tcp port 443',
  'port 53',
  'portrange 1-1024',
  'src port 80 and not dst port 80',
  'net 10.0.0.0/8',
  'host 10.0.0.1',
  'src host 10.0.0.2 and (tcp or icmp)',
  'ip6 host fd00::1',
  'ip6 net fd00::/16',
  'icmp[icmptype] == icmp-echo',
  'icmp6',
  'tcp[tcpflags] & (tcp-syn|tcp-fin) != 0',
  'ip[6:2] & 0x1fff != 0',
  'ether broadcast',
  'ether multicast',
  'ether src 02:00:00:00:00:01',
  'vlan',
  'vlan 100 and udp',
  'greater 100',
  'less 60',
  'len > 64 and len < 128',
  'ip[2:2] - ((ip[0] & 0xf) << 2) > 40',
  'ip[8] * 2 / 3 % 7 ^ 5 == 0 or ip[8] | 1 == 65',
  'ether[len - 1] = 0',
  'udp[8:4] = 0x01020304',
  'ip proto 132',
  'not (arp or ip or ip6)',
  'ether[500] = 1',
];

const seed = Number(process.env['WEFT_SEED'] ?? process.hrtime.bigint() % 0x7fffffffn);

/** A pcap file in which the time of each frame is its index. */
function pcapFile(all: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262_144, 16);
  header.writeUInt32LE(1, 20);
  const records = all.flatMap((frame, index) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(index, 0);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return [record, frame];
  });
  return Buffer.concat([header, ...records]);
}

/** Indexes of the frames that tcpdump selects. */
function selected(file: Buffer, expression: string): number[] {
  const { status, stdout, stderr } = spawnSync('tcpdump', ['-r', '-', '-w', '-', expression], {
    input: file,
    maxBuffer: 1 << 26,
  });
  if (status !== 0) throw new Error(`tcpdump ${expression}: ${stderr.toString()}`);
  const indexes: number[] = [];
  for (let at = 24; at < stdout.length; at += 16 + stdout.readUInt32LE(at + 8)) indexes.push(stdout.readUInt32LE(at));
  return indexes;
}

const random = new Random(seed);
const given = Array.from({ length: 600 }, () => {
  const frame = randomFrame(random);
  return random.chance(0.3) ? mutate(frame, random) : frame;
}).filter(({ length }) => length >= 14);
const file = pcapFile(given);
const cases = await Promise.all(
  expressions.map(async (expression) => ({
    expression,
    program: await compileFilter(expression),
    selected: selected(file, expression),
  })),
);
/** Across the end of a segment of 1000 bytes. */
const inThePayload = await compileFilter('tcp[20 + 2998:4] = 0x61626364');
const behindThePayload = await compileFilter('tcp[20 + 3997:4] >= 0');

/** Programs that cannot be run: one for every rule of the check. */
const ret = { code: 0x06, jumpTrue: 0, jumpFalse: 0, k: 1 };
const instruction = (code: number, k = 0, jumpTrue = 0, jumpFalse = 0) => ({ code, jumpTrue, jumpFalse, k });
const refused: Readonly<Record<string, readonly [program: BpfProgram, says: RegExp]>> = {
  'nothing at all': [[], /0 instructions: accepted are 1 to 4096/],
  'too many': [new Array(4097).fill(ret), /4097 instructions/],
  'no return at the end': [[ret, instruction(0x00)], /does not end in a return/],
  'an unknown instruction': [[instruction(0xb0), ret], /instruction 0 has the unknown code 176/],
  'an instruction of more than 16 bits': [[instruction(0x10006), ret], /unknown code/],
  'a jump behind the end': [[instruction(0x05, 1), ret], /instruction 0 jumps out/],
  'a jump backwards, as a number without a sign': [[instruction(0x05, 0xffff_ffff), ret], /jumps out/],
  'a branch behind the end': [[instruction(0x15, 0, 1, 0), ret], /jumps out/],
  'the other branch behind the end': [[instruction(0x25, 0, 0, 1), ret], /jumps out/],
  'memory that there is not': [[instruction(0x02, 16), ret], /instruction 0 uses memory/],
  'memory far behind': [[instruction(0x61, 0xffff_ffff), ret], /uses memory/],
  'a division by 0': [[instruction(0x34, 0), ret], /divides by 0/],
  'a remainder by 0': [[instruction(0x94, 0), ret], /divides by 0/],
  'a shift by 32': [[instruction(0x64, 32), ret], /shifts by 32/],
};

export function runMirror(name: string, open: Open): void {
  const test = conformanceTests(name, open);

  test('a mirror copies what comes in and goes out, up to its snap length', (t, h) => {
    h.memory(1, 2);
    h.vxlan(5, '192.0.2.1');
    const seen: MirroredFrame[] = [];
    const sink = (batch: readonly MirroredFrame[]) => seen.push(...batch);
    const text = () =>
      seen.splice(0).map((one) => `${one.direction} ${one.port} ${one.lengthBytes} ${one.timeMs} ${hex(one.bytes)}`);
    h.dp.mirror({ snapBytes: 40 }, sink);
    const frame = numbered(0, 0);
    const cut = hex(frame.subarray(0, 40));
    h.inject(1, frame);
    h.answer(0, [...output(2), encap(7, '192.0.2.2')]);
    t.same(text(), [`rx 1 44 1000 ${cut}`, `tx 2 44 1000 ${cut}`, `tx 5 44 1000 ${cut}`]);
    h.injectDatagram(5, '192.0.2.2', buildVxlan({ vni: 7, frame }));
    t.same(text(), [`rx 5 44 1000 ${cut}`], 'the inner frame');
    h.dp.mirror({ snapBytes: 1000, port: portNo(2) }, sink);
    h.inject(1, numbered(1, 0));
    h.answer(-1, output(2));
    t.same(text(), [`tx 2 44 1000 ${hex(numbered(1, 0))}`], 'one port only');
    h.dp.mirror(null);
    h.inject(2, frame);
    t.same(text(), []);
  });

  test('a filter wants the frames that tcpdump selects', (t, h) => {
    h.memory(1);
    for (const { expression, program, selected } of cases) {
      const wanted: number[] = [];
      let index = 0;
      h.dp.mirror({ snapBytes: 64, filter: program }, (batch) => wanted.push(...batch.map(() => index)));
      for (; index < given.length; index++) h.inject(1, given[index]!);
      t.same(wanted, selected, `${expression}: ${selected.length} of ${given.length} (WEFT_SEED=${seed})`);
    }
    t.ok(cases.filter(({ selected }) => selected.length > 0).length > cases.length / 2);
  });

  test('a filter that cannot be run is refused, and what was mirrored goes on', (t, h) => {
    h.memory(1);
    const seen: MirroredFrame[] = [];
    h.dp.mirror({ snapBytes: 64 }, (batch) => seen.push(...batch));
    for (const [what, [filter, says]] of Object.entries(refused)) {
      t.throws(() => h.dp.mirror({ snapBytes: 64, filter }), { code: 'invalid', message: says }, what);
    }
    h.inject(1, given[0]!);
    t.equal(seen.length, 1);
  });

  test('a filter sees all of a frame, whatever is copied and however it lies in memory', (t, h) => {
    h.memory(1);
    h.offloading(2);
    h.forward(1, output(2));
    const payload = someBytes(4000);
    payload.set([0x61, 0x62, 0x63, 0x64], 2998);
    const segments = segmentsOf({ family: 4, protocol: 'tcp', payload }, 1000).map((frame) => ({ frame }));
    const seen: MirroredFrame[] = [];
    for (const [filter, count] of [
      [inThePayload, 1],
      [behindThePayload, 0],
    ] as const) {
      h.dp.mirror({ snapBytes: 64, port: portNo(2), filter }, (batch) => seen.push(...batch));
      h.burst(1, ...segments);
      t.equal(h.takeOffloaded(2).length, 1, 'they were put together');
      t.same(
        seen.splice(0).map(({ lengthBytes, bytes }) => [lengthBytes, bytes.length]),
        new Array(count).fill([14 + 20 + 20 + payload.length, 64]),
      );
    }
  });

  test('what there is no room for is left out and counted', (t, h) => {
    h.memory(1, 2);
    const packet = frames.udp({}, 7, 9, new Uint8Array(60_000));
    const copies = 600;
    h.forward(1, output(...new Array<number>(copies).fill(2)));
    const batches: { frames: number; lost: number }[] = [];
    const sink = (batch: readonly MirroredFrame[], lost: number) => batches.push({ frames: batch.length, lost });
    h.dp.mirror({ snapBytes: 262_144, port: portNo(2) }, sink);
    h.inject(1, packet);
    const room = Math.floor(MIRROR_BYTES / mirrorRecordBytes(packet.length));
    t.ok(room < copies);
    t.same(batches.splice(0), [{ frames: room, lost: copies - room }]);
    t.equal(h.take(2).length, copies, 'all of them were forwarded');
    h.inject(1, frames.udp({}, 7, 9, new Uint8Array(10)));
    t.same(batches, [{ frames: copies, lost: 0 }], 'and there is room again');
  });
}
