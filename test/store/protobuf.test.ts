/** The encoding of etcd's messages: known bytes, everything that can be encoded, and bytes that are no message. */
import fc from 'fast-check';
import t from 'tap';
import { decode, encode, message } from '../../src/store/etcd/protobuf.ts';

const inner = message({ id: [1, 'id'], text: [2, 'text'] });
const all = message({
  int: [1, 'int'],
  id: [2, 'id'],
  bool: [3, 'bool'],
  bytes: [4, 'bytes'],
  text: [5, 'text'],
  one: [6, inner],
  many: [16, [inner]],
  words: [2047, ['text']],
});
const nothing = { int: 0, id: 0n, bool: false, bytes: new Uint8Array(), text: '', one: undefined, many: [], words: [] };

t.test('the examples of the specification', (t) => {
  // https://protobuf.dev/programming-guides/encoding: 150, "testing", and a message in another
  t.equal(encode(message({ a: [1, 'int'] }), { a: 150 }).toString('hex'), '089601');
  t.equal(encode(message({ b: [2, 'text'] }), { b: 'testing' }).toString('hex'), '120774657374696e67');
  const nested = message({ c: [3, message({ a: [1, 'int'] })] });
  t.equal(encode(nested, { c: { a: 150 } }).toString('hex'), '1a03089601');
  t.same(decode(nested, Buffer.from('1a03089601', 'hex')), { c: { a: 150 } });
  t.equal(encode(message({ a: [1, 'int'] }), { a: -2 }).toString('hex'), '08feffffffffffffffff01');
  t.end();
});

t.test('what is missing has its default, what is given is encoded also if it is the default', (t) => {
  t.same(decode(all, new Uint8Array()), nothing);
  t.equal(encode(all, { int: 0, id: undefined, bool: false }).toString('hex'), '08001800');
  t.same(decode(all, encode(all, { one: {} })), { ...nothing, one: { id: 0n, text: '' } });
  t.end();
});

t.test('what was encoded is decoded', (t) => {
  const innerValue = fc.record({ id: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), text: fc.string() });
  const value = fc.record({
    int: fc.maxSafeInteger(),
    id: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    bool: fc.boolean(),
    bytes: fc.uint8Array(),
    text: fc.string({ unit: 'binary' }),
    one: innerValue,
    many: fc.array(innerValue),
    words: fc.array(fc.string()),
  });
  fc.assert(
    fc.property(value, (given) => {
      t.same(decode(all, encode(all, given)), given);
    }),
  );
  t.end();
});

t.test('fields of a newer version are skipped', (t) => {
  const newer = message({ a: [7, 'id'], b: [8, 'bytes'], c: [9, [inner]], int: [1, 'int'] });
  const bytes = encode(newer, { a: 2n ** 63n, b: Buffer.alloc(300), c: [{ text: 'x' }, {}], int: 5 });
  const fixed = Buffer.from('5100000000000000005d00000000', 'hex');
  t.same(decode(all, Buffer.concat([bytes, fixed])), { ...nothing, int: 5 });
  t.end();
});

t.test('bytes that are no message are refused, or are some message', (t) => {
  for (const wrong of [
    '08',
    '0880',
    '08ffffffffffffffffffff01',
    '22',
    '2205',
    '22ffffffffffffffffff01',
    '0a00',
    '0b',
  ]) {
    t.throws(() => decode(all, Buffer.from(wrong, 'hex')), Error, wrong);
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        decode(all, bytes);
      } catch (error) {
        t.type(error, Error);
      }
    }),
  );
  t.end();
});
