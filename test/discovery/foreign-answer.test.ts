/** What is read of answers of other name servers. */
import t from 'tap';
import { encode } from 'dns-packet';
import { recordsOf } from '../../src/discovery/foreign-answer.ts';

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
  t.same(recordsOf(answer(1)), [
    { name: 'a', type: 'CNAME', data: 'b.example', ttl: 7 },
    { name: 'b.example', type: 'A', data: '192.0.2.1', ttl: 7 },
  ]);
  t.equal(recordsOf(answer(250))!.length, 251);
  t.equal(recordsOf(answer(1).subarray(0, 30)), undefined, 'broken off');
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
  t.equal(recordsOf(message), undefined);
});
