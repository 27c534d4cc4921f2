/** Creating a network again changes what the options name, and nothing else. */
import t from 'tap';
import { networkDeclaration } from '../../src/cluster/network-declaration.ts';

const subnets = ['10.0.0.0/24', 'fd00:1::/64'];
const first = networkDeclaration(
  'blue',
  {
    subnets,
    vni: 100,
    mtu: 1400,
    ranges: ['10.0.0.10-10.0.0.99'],
    routes: [{ to: '10.1.0.0/24', type: 'blackhole' }],
    outside: true,
  },
  undefined,
);

t.test('what is not named stays, the subnets too', async (t) => {
  t.same(networkDeclaration('blue', {}, first), first);
  t.same(networkDeclaration('blue', { subnets }, first), first);
  const ranges = ['10.0.0.10-10.0.0.199'];
  t.same(networkDeclaration('blue', { ranges }, first).spec, { ...first.spec, ranges });
  t.same(networkDeclaration('blue', { mtu: 1450, outside: false }, first).spec, {
    ...first.spec,
    mtu: 1450,
    outside: false,
  });
});

t.test('a new network needs a subnet', async (t) => {
  t.throws(() => networkDeclaration('red', { vni: 7 }, undefined), {
    code: 'invalid',
    message: 'subnets: network "red" does not exist yet, and a new network needs a subnet',
  });
});

t.test('other subnets are refused as such, whatever else the network has', async (t) => {
  t.throws(() => networkDeclaration('blue', { subnets: ['10.9.0.0/24'] }, first), {
    code: 'conflict',
    message:
      'network "blue" exists with subnets 10.0.0.0/24,fd00:1::/64, not 10.9.0.0/24: they cannot change, remove the network first',
  });
  t.throws(() => networkDeclaration('blue', { ranges: ['10.9.0.1-10.9.0.9'] }, first), {
    message: /10\.9\.0\.1-10\.9\.0\.9" is not within a subnet of the network/,
  });
});
