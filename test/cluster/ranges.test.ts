/**
 * Shares of subnets: an IPv6 share follows from the IPv4 share, and a changed share keeps the addresses that it gave.
 */
import t from 'tap';
import type { Endpoint } from '../../src/cluster/endpoint.ts';
import { AddressPool } from '../../src/cluster/addresses/ipam.ts';
import type { Network } from '../../src/cluster/network.ts';
import { rangeOf, refuseOutOfRange } from '../../src/cluster/ranges.ts';
import type { NetworkResource } from '../../src/model/kinds/network.ts';

const subnets = ['10.0.0.0/24', 'fd00:1::/64'];

t.test('an IPv6 subnet without a range has the one at the places of the IPv4 range', async (t) => {
  const ranges = ['10.0.0.10-10.0.0.99'];
  t.equal(rangeOf({ subnets, ranges }, '10.0.0.0/24'), ranges[0]);
  t.equal(rangeOf({ subnets, ranges }, 'fd00:1::/64'), 'fd00:1::a-fd00:1::63');
  t.equal(rangeOf({ subnets, ranges: ['10.0.0.100-10.0.0.199'] }, 'fd00:1::/64'), 'fd00:1::64-fd00:1::c7', 'elsewhere');
  t.equal(
    rangeOf({ subnets, ranges: [...ranges, 'fd00:1::100-fd00:1::1ff'] }, 'fd00:1::/64'),
    'fd00:1::100-fd00:1::1ff',
  );
  t.equal(rangeOf({ subnets, ranges: [] }, 'fd00:1::/64'), undefined);
  t.equal(rangeOf({ subnets, ranges: ['fd00:1::a-fd00:1::b'] }, '10.0.0.0/24'), undefined, 'never of IPv4');
  t.equal(
    rangeOf({ subnets: ['10.0.0.0/24', 'fd00::/124'], ranges }, 'fd00::/124'),
    undefined,
    'one that is too small',
  );
});

t.test('a range changes as long as it has what it gave', async (t) => {
  const network = (range?: string): Network =>
    ({
      name: 'blue',
      pools: [new AddressPool({ network: 'blue', subnet: '10.0.0.0/24', ...(range !== undefined && { range }) })],
    }) as unknown as Network;
  const web: Endpoint = { name: 'web', addresses: ['10.0.0.10'], local: {} } as unknown as Endpoint;
  const to = (range: string): NetworkResource =>
    ({ spec: { subnets: ['10.0.0.0/24'], ranges: [range] } }) as unknown as NetworkResource;
  const change = (before: string | undefined, after: string, endpoint = web) => {
    refuseOutOfRange(network(before), to(after), [endpoint]);
  };
  change('10.0.0.10-10.0.0.99', '10.0.0.2-10.0.0.10');
  change('10.0.0.20-10.0.0.99', '10.0.0.30-10.0.0.99');
  change(undefined, '10.0.0.5-10.0.0.20');
  change('10.0.0.10-10.0.0.99', '10.0.0.50-10.0.0.99', { ...web, local: undefined });
  for (const before of ['10.0.0.10-10.0.0.99', undefined]) {
    t.throws(() => change(before, '10.0.0.11-10.0.0.99'), {
      code: 'conflict',
      message:
        'network "blue": range 10.0.0.11-10.0.0.99 leaves out 10.0.0.10 of endpoint "web" of this host: detach it first, or give a range that has it',
    });
  }
});

t.test('what was taken in a pool is taken in the one that replaces it', async (t) => {
  const options = { network: 'blue', subnet: '10.0.0.0/24' };
  const before = new AddressPool({ ...options, range: '10.0.0.10-10.0.0.11' });
  t.equal(before.take('a'), '10.0.0.10');
  t.equal(before.take('b', '10.0.0.20'), '10.0.0.20');
  const after = new AddressPool({ ...options, range: '10.0.0.10-10.0.0.21' }, before);
  t.equal(after.free, 10);
  t.equal(after.take('c'), '10.0.0.11');
  t.throws(() => after.take('d', '10.0.0.20'), { code: 'conflict' });
  after.release('10.0.0.10');
  t.equal(after.free, 10);
});
