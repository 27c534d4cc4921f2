/**
 * Address pools: compared with a naive twin that knows every address of a small subnet, and tested at sizes that no
 * twin could handle.
 */
import { deepStrictEqual as deepEqual } from 'node:assert';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import t from 'tap';
import { AddressPool, generateMac } from '../../src/cluster/addresses/ipam.ts';
import { findOverlap, rangeIsWithin } from '../../src/cluster/addresses/subnet.ts';

/** All addresses of a subnet of at most 256, in order. */
function enumerate(subnet: string): string[] {
  const [first, length] = ipaddr.parseCIDR(subnet);
  const bytes = first.toByteArray();
  const count = 2 ** (bytes.length * 8 - length);
  return Array.from({ length: count }, (_, index) => {
    const address = ipaddr.fromByteArray([...bytes.slice(0, -1), (bytes.at(-1) ?? 0) + index]);
    return address.kind() === 'ipv6' ? (address as ipaddr.IPv6).toRFC5952String() : address.toString();
  });
}

/** Does with simple lists what the pool has to do. */
class NaivePool {
  readonly all: readonly string[];
  /** Addresses that can be chosen and never were, in order. */
  #fresh: string[];
  /** Addresses that came back, in that order, and who had them. */
  #rested: { readonly address: string; readonly owner: string }[] = [];
  /** What each endpoint has given back last. */
  readonly #left = new Map<string, string>();
  readonly #choosable: ReadonlySet<string>;
  readonly #reserved: ReadonlySet<string>;
  readonly #owners = new Map<string, string>();

  constructor(subnet: string, range: string | undefined) {
    this.all = enumerate(subnet);
    const [network = '', gateway = ''] = this.all;
    const isV4 = !subnet.includes(':');
    this.#reserved = new Set([network, gateway, ...(isV4 ? [this.all.at(-1) ?? ''] : [])]);
    const [first = '', last = ''] = range?.split('-') ?? [];
    const inRange =
      range === undefined ? this.all : this.all.slice(this.all.indexOf(first), this.all.indexOf(last) + 1);
    this.#fresh = inRange.filter((address) => !this.#reserved.has(address));
    this.#choosable = new Set(this.#fresh);
  }

  get free(): number {
    return [...this.#choosable].filter((address) => !this.#owners.has(address)).length;
  }

  take(owner: string, requested?: string): string {
    if (requested !== undefined) {
      if (this.#reserved.has(requested)) return 'invalid';
      if (this.#owners.has(requested)) return 'conflict';
    }
    const own = this.#rested.find((one) => one.owner === owner && one.address === this.#left.get(owner))?.address;
    const skipped = this.#fresh.findIndex((address) => !this.#owners.has(address));
    const address = requested ?? own ?? this.#fresh[skipped] ?? this.#rested[0]?.address;
    if (requested === undefined && own === undefined) this.#fresh = skipped < 0 ? [] : this.#fresh.slice(skipped + 1);
    if (address === undefined) return 'exhausted';
    this.#rested = this.#rested.filter((other) => other.address !== address);
    this.#owners.set(address, owner);
    return address;
  }

  release(address: string): void {
    const owner = this.#owners.get(address);
    this.#owners.delete(address);
    if (owner === undefined || !this.#choosable.has(address) || this.#fresh.includes(address)) return;
    this.#rested.push({ address, owner });
    this.#left.set(owner, address);
  }
}

type Step =
  | { readonly kind: 'take'; readonly owner: number }
  | { readonly kind: 'request'; readonly owner: number; readonly index: number }
  | { readonly kind: 'release'; readonly index: number };

/** Some of them have several addresses, and come again. */
const owner = fc.nat(11);
const index = fc.nat(31);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('take' as const), owner }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('request' as const), owner, index }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('release' as const), index }) },
);

t.test('every step is that of the naive twin', async (t) => {
  const pools = fc.constantFrom<[string, string | undefined]>(
    ['10.0.0.16/28', undefined],
    ['10.0.0.16/28', '10.0.0.20-10.0.0.25'],
    ['10.0.0.16/28', '10.0.0.16-10.0.0.31'],
    ['10.0.0.4/30', undefined],
    ['fd00::20/123', undefined],
    ['fd00::20/123', 'fd00::38-fd00::3f'],
    ['fd00::4/126', undefined],
  );
  fc.assert(
    fc.property(pools, fc.array(step, { maxLength: 120 }), ([subnet, range], steps) => {
      const pool = new AddressPool({ network: 'blue', subnet, ...(range !== undefined && { range }) });
      const naive = new NaivePool(subnet, range);
      const taken = new Set<string>();
      for (const step of steps) {
        const requested = 'index' in step ? naive.all[step.index % naive.all.length] : undefined;
        if (step.kind === 'release') {
          pool.release(requested ?? '');
          naive.release(requested ?? '');
          taken.delete(requested ?? '');
        } else {
          const owner = `web${step.owner}`;
          const given = outcome(() => pool.take(owner, requested));
          deepEqual(given, naive.take(owner, requested));
          deepEqual(taken.has(given), false, `${given} twice`);
          if (/[.:]/.test(given)) taken.add(given);
        }
        deepEqual(pool.free, naive.free);
      }
    }),
    { numRuns: 400 },
  );
  t.pass('in 400 sequences');
});

t.test('what is asked for is checked', async (t) => {
  const pool = new AddressPool({ network: 'blue', subnet: '10.0.0.0/24', range: '10.0.0.10-10.0.0.19' });
  const six = new AddressPool({ network: 'blue', subnet: 'fd00::/64' });
  t.match(pool, {
    gateway: '10.0.0.1',
    prefixLength: 24,
    subnet: '10.0.0.0/24',
    range: '10.0.0.10-10.0.0.19',
    free: 10,
  });
  t.match(six, { gateway: 'fd00::1', prefixLength: 64, free: Number.MAX_SAFE_INTEGER });
  const refuses = (of: AddressPool, address: string, code: string, message: RegExp) => {
    t.throws(() => of.check('db', address), { code, message }, address);
    t.throws(() => of.take('db', address), { code, message }, address);
  };
  t.equal(pool.take('web', '10.0.0.200'), '10.0.0.200', 'outside of the range');
  t.equal(pool.free, 10);
  refuses(pool, '10.0.1.5', 'invalid', /"db".*10\.0\.1\.5.*outside.*10\.0\.0\.0\/24.*"blue"/);
  refuses(pool, 'fd00::5', 'invalid', /outside/);
  refuses(pool, '10.0.0.0', 'invalid', /10\.0\.0\.0.*network address/);
  refuses(pool, '10.0.0.1', 'invalid', /10\.0\.0\.1.*gateway/);
  refuses(pool, '10.0.0.255', 'invalid', /10\.0\.0\.255.*broadcast/);
  refuses(pool, '10.0.0.200', 'conflict', /10\.0\.0\.200.*taken by endpoint "web"/);
  refuses(six, 'fd00::', 'invalid', /anycast/);
  refuses(six, 'fd00::1', 'invalid', /gateway/);
  t.equal(six.take('web', 'fd00::ffff:ffff:ffff:ffff'), 'fd00::ffff:ffff:ffff:ffff', 'no broadcast in IPv6');
  t.equal(pool.take('db', '10.0.0.10'), '10.0.0.10');
  t.equal(pool.take('db', '10.0.0.12'), '10.0.0.12', 'two of one family');
  t.equal(pool.take('db'), '10.0.0.11');
  t.equal(pool.free, 7);
});

t.test('a full subnet says so', async (t) => {
  const pool = new AddressPool({ network: 'blue', subnet: '10.0.0.0/30' });
  t.equal(pool.free, 1);
  t.equal(pool.take('web'), '10.0.0.2');
  t.throws(() => pool.take('db'), {
    code: 'exhausted',
    message: /subnet 10\.0\.0\.0\/30 of network "blue" is full \(1 address(es)?, all taken\)/,
  });
  pool.release('10.0.0.2');
  pool.release('10.0.0.2');
  t.equal(pool.free, 1, 'released once');
  t.equal(pool.take('db'), '10.0.0.2');
  const share = new AddressPool({ network: 'blue', subnet: '10.0.0.0/24', range: '10.0.0.9-10.0.0.9' });
  share.take('web');
  t.throws(() => share.take('db'), { code: 'exhausted', message: /10\.0\.0\.9-10\.0\.0\.9/ });
  t.equal(share.take('db', '10.0.0.10'), '10.0.0.10', 'outside of the range there are others');
});

t.test('an address that was released is not the next one', async (t) => {
  const pool = new AddressPool({ network: 'blue', subnet: '10.0.0.0/24' });
  const seen = new Set<string>();
  for (let i = 0; i < 253; i++) {
    const address = pool.take(`web${i}`);
    t.notOk(seen.has(address));
    seen.add(address);
    pool.release(address);
  }
  t.equal(pool.take('web'), '10.0.0.2', 'all others rest less long');
});

t.test(
  'an endpoint that comes back under its name has its address again, unless another one has got that',
  async (t) => {
    const pool = new AddressPool({ network: 'blue', subnet: '10.0.0.0/29' });
    t.same([pool.take('web'), pool.take('db')], ['10.0.0.2', '10.0.0.3']);
    pool.release('10.0.0.2');
    pool.release('10.0.0.3');
    t.equal(pool.take('api'), '10.0.0.4', 'others get fresh ones');
    t.equal(pool.take('db'), '10.0.0.3');
    t.equal(pool.take('web'), '10.0.0.2');
    pool.release('10.0.0.2');
    t.equal(pool.take('other', '10.0.0.2'), '10.0.0.2', 'or that one, if they ask for it');
    t.equal(pool.take('web'), '10.0.0.5');
    t.equal(pool.take('more'), '10.0.0.6');
    pool.release('10.0.0.5');
    t.equal(pool.take('last'), '10.0.0.5', 'or it is the last');
    t.throws(() => pool.take('web'), { code: 'exhausted' });
  },
);

t.test('what a plan chose and gave up is as if it had not been chosen', async (t) => {
  const pool = new AddressPool({ network: 'blue', subnet: '10.0.0.0/29' });
  pool.take('db', '10.0.0.3');
  const plan = (count: number): string[] => {
    const chosen = Array.from({ length: count }, (_, i) => pool.takeForPlan(`new${i}`));
    for (const { undo } of chosen.toReversed()) undo();
    return chosen.map(({ address }) => address);
  };
  t.same(plan(3), ['10.0.0.2', '10.0.0.4', '10.0.0.5']);
  t.equal(pool.free, 4);
  t.same(plan(3), ['10.0.0.2', '10.0.0.4', '10.0.0.5'], 'the same again');
  t.same(
    [pool.take('a'), pool.take('b'), pool.take('c')],
    ['10.0.0.2', '10.0.0.4', '10.0.0.5'],
    'and for the endpoint that comes after it',
  );
  pool.release('10.0.0.4');
  pool.release('10.0.0.2');
  t.same(plan(3), ['10.0.0.6', '10.0.0.4', '10.0.0.2'], 'those that rest, too, in their order');
  const back = pool.takeForPlan('a');
  t.equal(back.address, '10.0.0.2');
  back.undo();
  t.equal(pool.takeForPlan('a').address, '10.0.0.2', 'and who had one finds it again');
  pool.release('10.0.0.2');
  t.same([pool.take('d'), pool.take('e'), pool.take('f')], ['10.0.0.6', '10.0.0.4', '10.0.0.2']);
});

t.test('a large pool takes no longer, full or empty', { timeout: 30_000 }, async (t) => {
  const pool = new AddressPool({ network: 'blue', subnet: '10.0.0.0/16' });
  for (let i = 0; i < 65_533; i++) pool.take('web');
  t.equal(pool.free, 0);
  // Each of these would look at 65,533 addresses.
  for (let i = 0; i < 100_000; i++) {
    const address = `10.0.${(i * 7) % 250}.${(i % 250) + 2}`;
    pool.release(address);
    if (pool.take('db') !== address) t.fail(`${address} was the only free one`);
  }
  t.throws(() => pool.take('db'), { code: 'exhausted' });

  for (const subnet of ['10.0.0.0/8', 'fd00::/64', 'fd00::/32']) {
    const large = new AddressPool({ network: 'blue', subnet });
    t.equal(large.contains(large.take('web')), true, subnet);
  }
});

t.test('memory of a large pool goes with what is taken, not with what ever was', { timeout: 30_000 }, async (t) => {
  const pool = new AddressPool({ network: 'blue', subnet: 'fd00::/64' });
  const ever = new Set<string>();
  for (let i = 0; i < 20_000; i++) {
    const address = pool.take(`web${i}`);
    ever.add(address);
    pool.release(address);
  }
  t.ok(ever.size < 10_000, `${ever.size} addresses in turn`);
  t.ok(ever.size > 1000, 'and yet a long rest for each');
});

t.test('MAC addresses', async (t) => {
  const [here, elsewhere] = [Uint8Array.of(1, 2, 3), Uint8Array.of(1, 2, 4)];
  const mac = generateMac('blue', 'web', here, 0);
  t.match(mac, /^02(:[0-9a-f]{2}){5}$/, 'unicast, locally administered');
  t.equal(generateMac('blue', 'web', here, 0), mac, 'the same again');
  const others = [
    generateMac('red', 'web', here, 0),
    generateMac('blue', 'db', here, 0),
    generateMac('blue', 'web', elsewhere, 0),
    generateMac('blue', 'web', here, 1),
  ];
  t.equal(new Set([mac, ...others]).size, 5, 'each name, host and attempt counts');
});

t.test('subnets that overlap', async (t) => {
  t.same(findOverlap(['10.0.0.0/24'], ['10.0.0.128/25']), ['10.0.0.0/24', '10.0.0.128/25']);
  t.same(findOverlap(['fd01::/64', '10.0.1.0/24'], ['10.0.0.0/8', 'fd00::/64']), ['10.0.1.0/24', '10.0.0.0/8']);
  t.same(findOverlap(['fd00::/64'], ['fd00::/32']), ['fd00::/64', 'fd00::/32']);
  t.equal(findOverlap(['10.0.0.0/24', 'fd00::/64'], ['10.0.1.0/24', 'fd00:0:0:1::/64']), undefined);
  t.equal(rangeIsWithin('10.0.0.0-10.0.0.255', '10.0.0.0/24'), true);
  t.equal(rangeIsWithin('10.0.0.0-10.0.1.0', '10.0.0.0/24'), false);
  t.equal(rangeIsWithin('10.0.0.1-10.0.0.2', 'fd00::/64'), false);
});

function outcome(take: () => string): string {
  try {
    return take();
  } catch (error) {
    return (error as { code: string }).code;
  }
}
