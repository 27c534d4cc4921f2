/** Addresses of manifests: their canonical text, and which of them nobody may have. */
import t from 'tap';
import { addressText, addressValue, canonicalAddress, isAddress, parseSubnet } from '../../src/model/address.ts';
import { outsideAddress, unicastAddress } from '../../src/model/value.ts';

t.test('the canonical text is that of the value', async (t) => {
  const texts = [
    '10.0.0.1',
    '255.255.255.255',
    '0.0.0.0',
    '::ffff:10.0.0.1',
    '::FFFF:a00:1',
    '2001:DB8::1',
    'fd00:0:0::2',
  ];
  for (const text of texts) {
    t.ok(isAddress(text), text);
    t.equal(canonicalAddress(text), addressText(addressValue(text)), text);
  }
});

t.test('reserved blocks, up to their last addresses and no further', async (t) => {
  const blocks = {
    '::/128': 'unspecified',
    '0.0.0.0/8': 'unspecified',
    '127.0.0.0/8': 'loopback',
    '169.254.0.0/16': 'link-local',
    '224.0.0.0/4': 'multicast',
    '240.0.0.0/4': 'reserved',
    '::1/128': 'loopback',
    'fe80::/10': 'link-local',
    'fd77:6566:7430::/126': 'weft’s own link to its host',
    'ff00::/8': 'multicast',
  };
  const all = Object.entries(blocks).map(([text, what]) => ({ ...parseSubnet(text), what }));
  const ends = all.flatMap(({ first, last }) => [first - 1n, first, first + 1n, last - 1n, last, last + 1n]);
  const last = (1n << 128n) - 1n;
  for (const value of ends.filter((one) => one >= 0n && one <= last)) {
    const text = addressText(value);
    const what = all.find((one) => one.first <= value && value <= one.last)?.what;
    const said = (schema: typeof unicastAddress) => schema.safeParse(text).error?.issues[0]?.message;
    t.equal(said(outsideAddress)?.startsWith(`"${text}" is ${what}: `) ?? false, what !== undefined, text);
    const isRefused = what !== undefined && what !== 'loopback';
    t.equal(said(unicastAddress)?.startsWith(`"${text}" is ${what}: `) ?? false, isRefused, text);
  }
});
