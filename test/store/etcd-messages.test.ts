/** etcd's messages: known bytes, numbers of 64 bits, fields of a newer version, and bytes that are no message. */
import fc from 'fast-check';
import t from 'tap';
import * as etcd from '../../src/store/etcd/messages.ts';
import { header, messageOf } from '../support/false-member.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytes = (text: string): Buffer => Buffer.from(text, 'hex');

t.test('requests have the numbers of etcd’s API, and a default that is given is sent', (t) => {
  const [a, b, c] = ['a', 'b', 'c'].map((text) => Buffer.from(text));
  t.equal(hex(etcd.range.encode({ key: a!, rangeEnd: b!, limit: 500, revision: 0 })), '0a01611201621' + '8f4032000');
  t.equal(hex(etcd.range.encode({ key: a!, revision: 2 ** 53 - 1 })), '0a016120ffffffffffffff0f');
  const transaction = {
    compare: [{ ...etcd.COMPARE_MOD_REVISION, key: a!, modRevision: 0 }],
    success: [{ requestPut: { key: a!, value: b!, lease: '255' } }, { requestDeleteRange: { key: c! } }],
    failure: [{ requestRange: { key: a!, keysOnly: true } }],
  };
  t.equal(
    hex(etcd.transaction.encode(transaction)),
    // compare: EQUAL, MOD, key, mod_revision 0; then the two operations, and the one of a failure
    '0a09080010021a01613000' + '120b12090a016112016218ff01' + '12051a030a0163' + '1a070a050a01614001',
  );
  const create = { key: a!, rangeEnd: b!, startRevision: 300, fragment: true };
  t.equal(hex(etcd.watch.encode({ createRequest: create })), '0a0b0a016112016218ac024001');
  t.equal(hex(etcd.watch.encode({ progressRequest: {} })), '1a00');
  t.equal(hex(etcd.leaseGrant.encode({ TTL: 15 })), '080f');
  t.equal(hex(etcd.authenticate.encode({ name: 'a', password: 'b' })), '0a0161120162');
  t.end();
});

t.test('what an answer does not have has its default', (t) => {
  const { header, kvs, more } = etcd.range.decode(bytes('0a001200'));
  t.same([header.clusterId.toString(16), header.revision.toNumber(), kvs.length, more], ['0', 0, 1, false]);
  const [{ key, value, modRevision, lease }] = kvs as [etcd.KeyValue];
  t.same([key.length, value.length, modRevision.toNumber(), lease.toString(16)], [0, 0, 0, '0']);
  t.equal(etcd.transaction.decode(bytes('0a001a00')).responses[0]?.responseRange, null);
  t.end();
});

t.test('ids have 64 bits, and numbers as many as can be computed with', (t) => {
  for (const id of ['1', '326c8f5d3a1b2c3d', '7fffffffffffffff', 'ffffffffffffffff']) {
    const request = etcd.leaseRevoke.encode({ ID: BigInt(`0x${id}`).toString() });
    // The same field of the answer has the number 2.
    const answer = Buffer.concat([bytes('0a0010'), request.subarray(1)]);
    t.equal(etcd.leaseGrant.decode(answer).ID.toString(16), id);
  }
  const answer = (revision: string): number =>
    etcd.range.decode(messageOf('RangeResponse', { header: { revision } })).header.revision.toNumber();
  for (const revision of [0, 1, -1, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER, -1e15]) {
    t.equal(answer(String(revision)), revision);
  }
  for (const revision of [2n ** 53n, 2n ** 63n - 1n, -(2n ** 53n)]) {
    t.throws(() => answer(String(revision)), { message: 'a number is too large' });
  }
  t.end();
});

t.test('fields of a newer version are skipped', (t) => {
  const unknown = '38' + 'ffffffffffffffffff01' + '4203aabbcc' + '51' + '00'.repeat(8) + '5d' + '00'.repeat(4);
  const answer = bytes(unknown + hex(messageOf('RangeResponse', { header, more: true })) + unknown);
  t.same([etcd.range.decode(answer).header.revision.toNumber(), etcd.range.decode(answer).more], [7, true]);
  t.end();
});

t.test('bytes that are no message are refused, or are some message', (t) => {
  const whole = '0a00';
  for (const wrong of [
    '',
    // It ends too early.
    '0a',
    '0a05',
    `${whole}12`,
    `${whole}1205`,
    // Four gigabytes are to follow.
    `${whole}12ffffffff0f`,
    `${whole}12ffffffffffffffffff01`,
    // A number of more than ten bytes, groups that never end, and an unknown type.
    `${whole}18ffffffffffffffffffffff01`,
    `${whole}${'3b'.repeat(10_000)}`,
    `${whole}3f`,
    // An entry that ends within a field.
    `${whole}12020a05`,
  ]) {
    t.throws(() => etcd.range.decode(bytes(wrong)), Error, wrong.slice(0, 60));
  }
  t.throws(() => etcd.watch.decode(bytes(`${whole}5a00`)), { message: 'an answer lacks a message' }, 'no entry');
  for (const { decode } of [etcd.range, etcd.watch, etcd.transaction, etcd.leaseKeepAlive, etcd.authenticate]) {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (random) => {
        try {
          decode(Buffer.concat([bytes(whole), random]));
        } catch (error) {
          t.type(error, Error);
        }
      }),
    );
  }
  t.end();
});
