/** Messages of DNS. The numbers of tests are those of the list of known traps of DNS for containers. */
import * as packet from 'dns-packet';
import t from 'tap';
import {
  DATAGRAM_BYTES,
  datagramLimit,
  MOST_BYTES,
  readQuestion,
  writeRefusal,
  writeResponse,
  type Question,
  type Refusal,
  type Response,
} from '../../src/discovery/message.ts';
import { addressRecords as addressesOf, type ResourceRecord } from '../../src/discovery/resource-record.ts';
import { parseIp } from '../../src/flow/types.ts';
import { Random } from '../support/random.ts';

const RD = packet.RECURSION_DESIRED;

function ask(name: string, type: string, more: Partial<packet.Packet> = {}): Uint8Array {
  return packet.encode({ type: 'query', id: 77, flags: RD, questions: [{ name, type: type as 'A' }], ...more });
}

function opt(udpPayloadSize: number, more: object = {}): packet.Answer {
  return {
    type: 'OPT',
    name: '.',
    udpPayloadSize,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
    ...more,
  };
}

function question(bytes: Uint8Array): Question {
  const read = readQuestion(bytes);
  t.ok('name' in read, JSON.stringify(read));
  return read as Question;
}

const plain: Response = { rcode: 'NOERROR', isAuthoritative: true, isRecursive: false };

function respond(asked: Question, response: Partial<Response>, limit = datagramLimit(asked.edns)) {
  const bytes = writeResponse(asked, { ...plain, ...response }, limit, 5);
  return { bytes, message: packet.decode(Buffer.from(bytes)) };
}

const addressRecords = (name: string, ips: readonly Uint8Array[]): ResourceRecord[] =>
  addressesOf(ips).map((record) => ({ name, ...record }));

const addresses = (name: string, count: number): ResourceRecord[] =>
  addressRecords(
    name,
    Array.from({ length: count }, (_, i) => parseIp(`10.0.${i >> 8}.${i & 255}`)),
  );

t.test('11: names match without case, and the question goes back as it came', async (t) => {
  const asked = question(ask('WeB.Red.wEFt', 'AAAA'));
  t.equal(asked.name, 'web.red.weft');
  const { bytes, message } = respond(asked, { answers: addressRecords('web.red.weft', [parseIp('fd44::2')]) });
  t.equal(message.questions![0]!.name, 'WeB.Red.wEFt');
  t.match(message.answers, [{ name: 'WeB.Red.wEFt', type: 'AAAA', data: 'fd44::2', ttl: 5 }], 'the owner, too');
  t.match(message, { id: 77, flag_qr: true, flag_aa: true, flag_rd: true, flag_ra: false, flag_tc: false });
  t.equal(bytes.length, 12 + 14 + 4 + 12 + 16, 'with the name once');
});

t.test('8: how large an answer may be, and what is left out', async (t) => {
  const name = 'large.red.weft';
  t.equal(datagramLimit(question(ask(name, 'A')).edns), 512);
  const sizes = [
    [100, 512],
    [512, 512],
    [1000, 1000],
    [4096, DATAGRAM_BYTES],
    [65_535, DATAGRAM_BYTES],
  ] as const;
  for (const [size, limit] of sizes) {
    t.equal(
      datagramLimit(question(ask(name, 'A', { additionals: [opt(size)] })).edns),
      limit,
      `a client that takes ${size}`,
    );
  }
  const answers = addresses(name, 60);
  const small = respond(question(ask(name, 'A')), { answers });
  t.match(small.message, { flag_tc: true, answers: [], additionals: [] }, 'a set of records is whole, or left out');
  const edns = question(ask(name, 'A', { additionals: [opt(1232)] }));
  t.match(respond(edns, { answers }).message, { flag_tc: false, answers: { length: 60 } });
  const most = respond(edns, { answers: addresses(name, 73) });
  t.ok(most.bytes.length <= DATAGRAM_BYTES);
  t.equal(most.message.answers!.length, 73);
  const over = respond(edns, { answers: addresses(name, 76) });
  t.match(over.message, { flag_tc: true, answers: [], additionals: [{ type: 'OPT' }] }, 'with OPT all the same');
  t.equal(respond(edns, { answers: addresses(name, 1000) }, MOST_BYTES).message.answers!.length, 1000, 'over TCP');
  const alias: ResourceRecord = { name, type: 'CNAME', data: 'other.weft' };
  const chain = respond(question(ask(name, 'A')), { answers: [alias, ...addresses('other.weft', 60)] });
  t.match(chain.message, { flag_tc: true, answers: [{ type: 'CNAME', data: 'other.weft' }] }, 'the set before stays');
  const additionals = addresses('other.weft', 60);
  const srv: ResourceRecord = { name, type: 'SRV', data: { priority: 0, weight: 1, port: 80, target: 'other.weft' } };
  t.match(
    respond(question(ask(name, 'SRV')), { answers: [srv], additionals }).message,
    { flag_tc: false, answers: { length: 1 }, additionals: [] },
    'nobody has to ask again for additional records',
  );
});

t.test('8: OPT is answered to who sent one, and to nobody else', async (t) => {
  t.same(respond(question(ask('a.weft', 'A')), {}).message.additionals, []);
  const asked = question(ask('a.weft', 'A', { additionals: [opt(4096, { flags: packet.DNSSEC_OK })] }));
  t.same(asked.edns, { sizeBytes: 4096, version: 0, isDnssec: true });
  const { message } = respond(asked, {});
  t.match(message.additionals, [{ type: 'OPT', udpPayloadSize: DATAGRAM_BYTES, ednsVersion: 0, flag_do: true }]);
  const other = question(ask('a.weft', 'A', { additionals: [opt(4096, { ednsVersion: 1 })] }));
  t.equal(other.edns!.version, 1);
  t.match(respond(other, { rcode: 'BADVERS' }).message, { rcode: 'NOERROR', additionals: [{ extendedRcode: 1 }] });
});

t.test('names are written once: targets of aliases and services are pointed to', async (t) => {
  const name = '_http._tcp.a.b.svc.cluster.local';
  const target = 'a.b.svc.cluster.local';
  const srv: ResourceRecord = { name, type: 'SRV', data: { priority: 0, weight: 1, port: 80, target } };
  const { bytes, message } = respond(question(ask(name, 'SRV')), { answers: [srv], additionals: addresses(target, 2) });
  t.match(message.answers, [{ data: { port: 80, target } }]);
  t.match(message.additionals, [
    { name: target, data: '10.0.0.0' },
    { name: target, data: '10.0.0.1' },
  ]);
  t.equal(bytes.length, 12 + 34 + 4 + (12 + 6 + 23) + 2 * 16);
});

t.test('what is no question is refused, or not answered', async (t) => {
  const whole = ask('a.red.weft', 'A');
  const changed = (at: number, byte: number): Uint8Array => Uint8Array.from(whole, (was, i) => (i === at ? byte : was));
  const refusals: readonly (readonly [string, Uint8Array, Refusal['rcode']])[] = [
    ['nothing', new Uint8Array(), undefined],
    ['half a header', whole.subarray(0, 11), undefined],
    ['an answer', changed(2, 0x81), undefined],
    ['another operation', changed(2, 0x29), 'NOTIMP'],
    ['no question', changed(5, 0), 'FORMERR'],
    ['two questions', changed(5, 2), 'FORMERR'],
    ['an answer in the question', changed(7, 1), 'FORMERR'],
    ['more records than there are', changed(11, 1), 'FORMERR'],
    ['a name that is broken off', whole.subarray(0, 20), 'FORMERR'],
    ['a name that points to itself', changed(12, 0xc0), 'FORMERR'],
    ['a label of a kind that nobody uses', changed(12, 0x41), 'FORMERR'],
    ['two OPT', ask('a.weft', 'A', { additionals: [opt(512), opt(512)] }), 'FORMERR'],
    ['a name of 256 bytes', ask(`${`${'x'.repeat(49)}.`.repeat(5)}abcd`, 'A'), 'FORMERR'],
    [
      'a message that is far too long',
      ask('a.weft', 'A', { additionals: [opt(512, { options: [{ code: 12, length: 3000 }] })] }),
      'FORMERR',
    ],
  ];
  for (const [what, bytes, rcode] of refusals) t.same((readQuestion(bytes) as Refusal).rcode, rcode, what);
  t.equal(question(ask(`${`${'x'.repeat(49)}.`.repeat(5)}abc`, 'A')).name.length, 253, 'a name of 255 bytes is one');
  const refused = packet.decode(Buffer.from(writeRefusal({ id: 77, flags: 0x2900, rcode: 'NOTIMP' })));
  t.match(refused, { id: 77, flag_qr: true, flag_rd: true, rcode: 'NOTIMP', opcode: 'UPDATE', questions: [] });
});

t.test('bytes within a label are not taken for dots, or for other letters', async (t) => {
  const bytes = Buffer.from(ask('abc.red.weft', 'A'));
  bytes.write('\x03a.\xff', 12, 'latin1');
  const asked = question(bytes);
  t.equal(asked.name, 'a\\046\\255.red.weft');
  const { bytes: answer } = respond(asked, { rcode: 'NXDOMAIN' });
  t.same(Buffer.from(answer.subarray(12, 12 + asked.bytes.length)), Buffer.from(asked.bytes));
  t.equal(question(ask('.', 'NS')).name, '');
  t.equal(question(ask('*.a-b_c.weft', 'A')).name, '*.a-b_c.weft');
});

t.test('pointers to pointers cost nothing', async (t) => {
  const bytes = Buffer.alloc(60_000);
  bytes.writeUInt16BE(5000, 4);
  for (let at = 12; at + 2 <= bytes.length; at += 2)
    bytes.writeUInt16BE(0xc000 | Math.min(0x3fff, Math.max(0, at - 2)), at);
  t.equal((readQuestion(bytes) as Refusal).rcode, 'FORMERR', 'before anything is followed');
});

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
t.test(`messages with random changes are read or refused, seed ${seed}`, async (t) => {
  const random = new Random(seed);
  const samples = [
    ask('web.red.weft', 'A'),
    ask('_http._tcp.a.b.svc.cluster.local', 'SRV', {
      additionals: [opt(1232, { options: [{ code: 10, data: Buffer.alloc(8) }] })],
    }),
    ask('a.b', 'AAAA', {
      additionals: [opt(4096, { options: [{ code: 8, ip: '10.0.0.0', sourcePrefixLength: 24 }] })],
    }),
  ];
  let read = 0;
  for (let i = 0; i < 20_000; i++) {
    const bytes = Uint8Array.from(random.pick(samples));
    for (let changes = random.int(4); changes >= 0; changes--) bytes[random.int(bytes.length)] = random.u32();
    const result = readQuestion(bytes.subarray(0, random.chance(0.2) ? random.int(bytes.length) : bytes.length));
    if (!('name' in result)) continue;
    read++;
    const { message } = respond(result, { answers: addresses(result.name, random.int(50)) });
    if (message.questions!.length !== 1) t.fail('the answer has the question');
  }
  t.ok(read > 1000, `${read} were read`);
});
