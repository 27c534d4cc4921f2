/** Names sorted as people count, and suggestions for misspelt words. */
import t from 'tap';
import { compareNames } from '../../src/model/name-order.ts';
import { didYouMean, nearest } from '../../src/model/nearest.ts';

t.test('web2 comes before web10, and the order is total', async (t) => {
  const ordered = ['1', '2a', '10', 'db', 'web', 'web-1', 'web02', 'web2', 'web2-a1', 'web2-a10', 'web10', 'webs'];
  t.same([...ordered].reverse().sort(compareNames), ordered);
  for (const a of ordered)
    for (const b of ordered) {
      const [there, back] = [Math.sign(compareNames(a, b)), Math.sign(compareNames(b, a))];
      t.equal(there + back, 0, `${a} and ${b} compare the same both ways`);
      t.equal(there === 0, a === b);
    }
});

t.test('the nearest word is found, and none where none is near', async (t) => {
  const known = ['subnets', 'vni', 'mtu', 'ranges', 'routes', 'outside'];
  for (const [word, meant] of [
    ['vnl', 'vni'],
    ['Subnet', 'subnets'],
    ['mut', 'mtu'],
    ['range', 'ranges'],
    ['route', 'routes'],
    ['colour', undefined],
    ['x', undefined],
  ] as const) {
    t.equal(nearest(word, known), meant, word);
  }
  t.equal(didYouMean('vnl', known), ', did you mean "vni"?');
  t.equal(didYouMean('colour', known), '');
});
