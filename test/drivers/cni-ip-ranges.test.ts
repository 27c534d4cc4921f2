/** `ipRanges` where hosts share a store: what this host can give by itself comes before what another one would have to give up. */
import t from 'tap';
import { addressesFrom } from '../../src/drivers/cni/ip-ranges.ts';
import { attach, blue, openHost, settled } from '../cluster/block-hosts.ts';
import { openStore } from '../cluster/control-plane.ts';

t.setTimeout(120_000);

/** Blocks of 16 addresses: more than are tried in vain. */
const BLOCKS = 80;

const from = (rangeStart: string, rangeEnd: string) => [
  [{ subnet: '10.0.0.0/16', rangeStart, rangeEnd, gateway: undefined }],
];

t.test('nobody is asked for an address while this host has one in the ranges', async (t) => {
  const shared = await openStore(t);
  const [a, b] = [await openHost(t, shared, 'a'), await openHost(t, shared, 'b')];
  await a.cluster.apply([blue('10.0.0.0/16')]);
  t.equal(await attach(a, 'a1'), '10.0.0.2');
  const value = { host: 'a', claimed: {} };
  await shared.transact({
    put: Array.from({ length: BLOCKS }, (_, n) => {
      const first = 16 * (n + 1);
      return { key: `blocks/blue/4-10.0.${first >> 8}.${first & 255}`, value };
    }),
  });
  // The other one does not look whether it needs them.
  await settled(b);
  const network = b.networks.get('blue');
  const [pool] = network.pools;
  let looked = 0;
  const ownerOf = pool!.ownerOf.bind(pool);
  pool!.ownerOf = (address) => {
    looked++;
    return ownerOf(address);
  };
  const given = (start: string, end: string) => addressesFrom(from(start, end), { network, endpoint: 'b1', asked: [] });
  t.same(given('10.0.0.0', '10.0.255.255'), ['10.0.5.16'], 'the first one that is of no block');
  t.ok(looked < 1024 + 2 * 16, `blocks of others are stepped over: ${looked} addresses of ${16 * (BLOCKS + 1)}`);
  t.throws(
    () => given('10.0.0.0', '10.0.1.0'),
    { message: /10\.0\.0\.3 is of a block of host "a"/ },
    'else another host is asked',
  );
});
