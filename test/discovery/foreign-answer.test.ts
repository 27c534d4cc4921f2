/** What is read of answers of other name servers. */
import t from 'tap';
import { decode, encode } from 'dns-packet';
import { readAnswer, readTarget, recordsOf, relay } from '../../src/discovery/foreign-answer.ts';
import { readQuestion, type Question } from '../../src/discovery/message.ts';
import { Random } from '../support/random.ts';

const answer = (count: number): Buffer =>
  encode({
    type: 'response',
    id: 1,
    questions: [{ type: 'A', name: 'a' }],
    answers: [
      { type: 'CNAME', name: 'A', ttl: 7, data: 'B.Example' },
      { type: 'TXT', name: 'a', ttl: 7, data: 'x' },
      ...Array.from({ length: count }, () => ({ type: 'A' as const, name: 'b.example', ttl: 7, data: '192.0.2.1' })),
    ],
  });

t.test('the addresses of an answer, and its aliases', async (t) => {
  t.same(recordsOf(answer(1), 'a'), [
    { name: 'a', type: 'CNAME', data: 'b.example', ttl: 7 },
    { name: 'b.example', type: 'A', data: '192.0.2.1', ttl: 7 },
  ]);
  t.equal(recordsOf(answer(250), 'a')!.length, 251);
  t.equal(recordsOf(answer(1).subarray(0, 30), 'a'), undefined, 'broken off');
});

t.test('what an alias leads to may not exist, or nobody may know', async (t) => {
  const code = (rcode: number): Buffer => {
    const bytes = Buffer.from(answer(0));
    bytes.writeUInt16BE(0x8180 | rcode, 2);
    return bytes;
  };
  const records = [{ name: 'a', type: 'CNAME', data: 'b.example', ttl: 7 }];
  t.same(readTarget(code(0), 'a'), { rcode: 'NOERROR', records });
  t.same(readTarget(code(3), 'a'), { rcode: 'NXDOMAIN', records });
  for (const rcode of [1, 2, 4, 5]) t.equal(readTarget(code(rcode), 'a'), undefined);
});

t.test('an answer whose pointers would take seconds to follow is not read', async (t) => {
  // A record with nothing but pointers, each to the one before, and 3000 records whose names begin at its end.
  const chain = Buffer.alloc(16_000);
  const start = 19 + 11;
  for (let at = 0; at < chain.length; at += 2) chain.writeUInt16BE(0xc000 | (at === 0 ? 12 : start + at - 2), at);
  const first = Buffer.from([0, 0xff, 0, 0, 1, 0, 0, 0, 0, chain.length >>> 8, chain.length & 0xff]);
  const last = 0xc000 | (start + chain.length - 2);
  const record = Buffer.from([last >>> 8, last & 0xff, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1]);
  const count = 3000;
  const header = Buffer.from([0, 1, 0x81, 0x80, 0, 1, (count + 1) >>> 8, (count + 1) & 0xff, 0, 0, 0, 0]);
  const question = Buffer.from([1, 97, 0, 0, 1, 0, 1]);
  const message = Buffer.concat([header, question, first, chain, ...Array.from({ length: count }, () => record)]);
  t.ok(message.length < 65_536);
  t.equal(recordsOf(message, 'a'), undefined);
});

/** `NAME TYPE DATA`, of which NAME and DATA may have any bytes. */
const said = (...records: readonly string[]): Buffer =>
  encode({
    type: 'response',
    questions: [{ type: 'A', name: 'a.example' }],
    answers: records.map((text) => {
      const [name = '', type, data = ''] = text.split(' ');
      return { name, type: type as 'A', data };
    }),
  });

t.test('only what a name leads to is said in weft’s name', async (t) => {
  const names = (...records: string[]) => recordsOf(said(...records), 'a.example')?.map(({ name }) => name);
  t.same(
    names('api.default.svc.cluster.local A 192.0.2.66', 'a.example A 192.0.2.1', 'b.example A 192.0.2.66'),
    ['a.example'],
    'nothing about other names',
  );
  t.same(
    names('c.example A 192.0.2.1', 'b.example CNAME c.example', 'a.example CNAME b.example'),
    ['a.example', 'b.example', 'c.example'],
    'in the order of the way',
  );
  t.same(names('b.example A 192.0.2.66'), []);
  t.equal(names('a.example CNAME b.example', 'b.example CNAME a.example'), undefined, 'a way without an end');
  for (const name of ['a/b.example', 'a\0.example', 'ä.example'])
    t.equal(names(`a.example CNAME ${name}`), undefined, 'names that would be written in another way');
});

t.test('OPT is taken off, wherever it is among the additional records, and with it what follows', async (t) => {
  const asked = readQuestion(
    encode({ type: 'query', id: 7, questions: [{ type: 'A', name: 'A.example' }] }),
  ) as Question;
  const opt = Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
  const whole = said('a.example A 192.0.2.1');
  const glue = encode({
    type: 'response',
    additionals: [{ type: 'A', name: 'b.example', data: '192.0.2.2' }],
  }).subarray(12);
  const withCounts = (counts: readonly number[], ...parts: readonly Buffer[]): Buffer => {
    const message = Buffer.concat([whole, ...parts]);
    for (const [i, count] of counts.entries()) message.writeUInt16BE(count, 6 + 2 * i);
    return message;
  };
  for (const [what, message, additionals] of [
    ['at the end', withCounts([1, 0, 1], opt), 0],
    ['behind others', withCounts([1, 0, 2], glue, opt), 1],
    ['before others', withCounts([1, 0, 2], opt, glue), 0],
    ['twice', withCounts([1, 0, 2], opt, opt), 0],
    ['nowhere, with bytes behind the end', withCounts([1, 0, 0], Buffer.alloc(9)), 0],
  ] as const) {
    const answer = readAnswer(message, 0)!;
    const shown = decode(Buffer.from(relay(answer, asked, 512, 0)));
    t.match(shown, { answers: [{ name: 'A.example', data: '192.0.2.1' }], additionals: { length: additionals } }, what);
    t.equal(answer.bytes.length, whole.length + additionals * glue.length, what);
  }
  t.equal(readAnswer(withCounts([2, 0, 0], opt), 0), undefined, 'no answer has it among its answers');
  t.equal(readAnswer(withCounts([1, 1, 0], opt), 0), undefined);
});

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
t.test(`answers with random changes are relayed or refused, seed ${seed}`, async (t) => {
  const random = new Random(seed);
  const asked = readQuestion(encode({ type: 'query', questions: [{ type: 'A', name: 'a.example' }] })) as Question;
  const opt = { type: 'OPT' as const, name: '.' as const, udpPayloadSize: 1232, flags: 0, options: [] };
  const more = decode(said('a.example CNAME b.example', 'b.example A 192.0.2.1'));
  const samples = [
    encode({ ...more, additionals: [opt as never] }),
    encode({ ...more, authorities: more.answers!, additionals: [...more.answers!, opt as never] }),
  ];
  let relayed = 0;
  for (let i = 0; i < 20_000; i++) {
    const bytes = Uint8Array.from(random.pick(samples));
    // The question is as it was asked, as upstreams.ts sees to it.
    for (let changes = random.int(4); changes >= 0; changes--) {
      const at = random.int(bytes.length);
      if (at < 4 || (at >= 6 && at < 12) || at >= 12 + asked.bytes.length) bytes[at] = random.u32();
    }
    const answer = readAnswer(bytes, 0);
    if (!answer) continue;
    relayed++;
    const message = relay(answer, asked, random.chance(0.5) ? 512 : 65_535, 1000);
    if (!Buffer.from(message.subarray(12)).subarray(0, asked.bytes.length).equals(Buffer.from(asked.bytes)))
      t.fail('the question');
    recordsOf(answer.bytes, 'a.example');
  }
  t.ok(relayed > 1000, `${relayed} were relayed`);
});
