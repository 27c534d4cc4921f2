/** Subnets and VNIs of networks are found to clash as if all were compared, and few are. `SEED` repeats a run. */
import t from 'tap';
import { NetworkClaims, type ClaimingNetwork } from '../../src/cluster/addresses/network-claims.ts';
import { addressText, overlaps, parseSubnet } from '../../src/model/address.ts';
import { Random } from '../support/random.ts';

const seed = Number(process.env['SEED'] ?? (process.hrtime.bigint() % 1_000_000n).toString());

function network(name: string, vni: number, subnets: readonly string[]): ClaimingNetwork {
  return { name, vni, pools: subnets.map((subnet) => ({ subnet, addresses: parseSubnet(subnet) })) };
}

t.test(`as if all were compared (SEED=${seed})`, async (t) => {
  const random = new Random(seed);
  const subnet = (): string => {
    const bits = random.pick([20, 22, 24]);
    const { first } = parseSubnet(`10.0.${random.int(16) * 16}.0/${bits}`);
    return `${addressText(first + BigInt(random.int(16)) * (1n << BigInt(32 - bits)))}/${bits}`;
  };
  const claims = new NetworkClaims();
  const all = new Map<string, ClaimingNetwork>();
  let clashes = 0;
  for (let round = 0; round < 3000; round++) {
    const name = `n${random.int(40)}`;
    const known = all.get(name);
    if (known && random.chance(0.4)) {
      claims.remove(known);
      all.delete(name);
      continue;
    }
    const wanted = network(name, random.int(60), [
      subnet(),
      ...(random.chance(0.5) ? [`fd00::${random.int(9)}:0/112`] : []),
    ]);
    const texts = wanted.pools.map((pool) => pool.subnet);
    const others = [...all.values()].filter((other) => other.name !== name);
    const isClash = others.some(
      (other) =>
        other.vni === wanted.vni ||
        other.pools.some((theirs) => wanted.pools.some((own) => overlaps(own.addresses, theirs.addresses))),
    );
    const found = claims.clash(name, texts.map(parseSubnet), texts, wanted.vni);
    if ((found !== undefined) !== isClash) {
      t.equal(found, isClash, `round ${round}: ${texts.join()}`);
      return;
    }
    clashes += isClash ? 1 : 0;
    if (isClash || (texts.length === 2 && overlaps(wanted.pools[0]!.addresses, wanted.pools[1]!.addresses))) continue;
    if (known) claims.remove(known);
    claims.add(wanted);
    all.set(name, wanted);
  }
  t.ok(clashes > 500 && clashes < 2500, `${clashes} clashes`);
});

t.test('with many networks a new one is compared with few of them', async (t) => {
  const MANY = 4096;
  const claims = new NetworkClaims();
  let looks = 0;
  for (let n = 0; n < MANY; n++) {
    claims.add(network(`n${n}`, n + 1, [`10.${n >> 8}.${n & 255}.0/24`]));
  }
  const counted = (text: string) => {
    const { first, last, prefixLength } = parseSubnet(text);
    const look = <T>(value: T): T => (looks++, value);
    return {
      get first() {
        return look(first);
      },
      get last() {
        return look(last);
      },
      prefixLength,
    };
  };
  t.equal(claims.clash('new', [counted('10.16.0.0/24')], ['10.16.0.0/24']), undefined);
  t.match(
    claims.clash('new', [counted('10.7.0.0/16')], ['10.7.0.0/16']),
    /overlaps 10\.7\.255\.0\/24 of network "n2047"/,
  );
  t.equal(looks, 4, 'each address of the new one is read once and compared in a search');
});
