/** What is read and written without the library is what the library reads and writes. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import t from 'tap';
import { textOf, wordsOf } from '../../src/wire/address-text.ts';

/** By the library; undefined for what is no address. */
function bytesByLibrary(text: string): number[] | undefined {
  const isIp6 = text.includes(':');
  if (!(isIp6 ? ipaddr.IPv6.isValid(text) : ipaddr.IPv4.isValidFourPartDecimal(text))) return undefined;
  return isIp6 ? ipaddr.IPv6.parse(text).toByteArray() : ipaddr.IPv4.parse(text).toIPv4MappedAddress().toByteArray();
}

function bytesOf(words: Uint32Array): number[] {
  return [...words].flatMap((word) => [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255]);
}

const byte = fc.nat(255);
const group = fc.oneof(fc.constant(0), fc.nat(0xffff));
const groups = fc.array(group, { minLength: 8, maxLength: 8 });
const ip4Text = fc.tuple(byte, byte, byte, byte).map((bytes) => bytes.join('.'));

t.test('what is read is what the library reads', async (t) => {
  // Whole addresses, parts of them, and almost anything.
  const text = fc.oneof(
    ip4Text,
    groups.map((all) => new ipaddr.IPv6(all).toString()),
    groups.map((all) => new ipaddr.IPv6(all).toNormalizedString().toUpperCase()),
    fc.ipV6(),
    fc.string({ unit: fc.constantFrom(...'0123456789abcdefABCDEF::::....%g/ '.split('')), maxLength: 20 }),
    fc
      .array(fc.constantFrom('0', '1', 'fd00', '00001', '10000', ':', '::', '.', '255', '256', '01', '1.2.3.4'), {
        maxLength: 17,
      })
      .map((parts) => parts.join('')),
  );
  let known = 0;
  fc.assert(
    fc.property(text, (one) => {
      const words = wordsOf(one);
      if (!words) return;
      known++;
      assert.deepEqual(bytesOf(words), bytesByLibrary(one), one);
    }),
    { numRuns: 20_000 },
  );
  t.ok(known > 5000, `${known} addresses`);
});

t.test('texts are those of the library, and all of these are read', async (t) => {
  const check = (text: string): void => {
    const words = wordsOf(text);
    assert.equal(words && textOf(words), text);
  };
  fc.assert(fc.property(ip4Text, check), { numRuns: 2000 });
  fc.assert(
    fc.property(groups, (all) => {
      const address = new ipaddr.IPv6(all);
      if (!address.isIPv4MappedAddress()) check(address.toRFC5952String());
    }),
    { numRuns: 20_000 },
  );
  t.pass();
});
