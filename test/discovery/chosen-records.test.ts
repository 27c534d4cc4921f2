/** Which records an answer has: by chance, of the type that was asked for, and at the same cost however many there are. */
import t from 'tap';
import { drawn, ofType } from '../../src/discovery/chosen-records.ts';
import type { OwnRecord } from '../../src/discovery/resource-record.ts';
import { Random } from '../support/random.ts';

const seed = Date.now() % 2 ** 32;

/** Records of two types in turn, and how many of them were looked at. */
function records(count: number) {
  const all = Array.from({ length: count }, (_, n): OwnRecord => ({ type: n % 2 === 0 ? 'A' : 'AAAA', data: `${n}` }));
  let looks = 0;
  const list = new Proxy(all, {
    get: (target, key) => {
      if (typeof key === 'string' && /^\d+$/.test(key)) looks++;
      return Reflect.get(target, key) as unknown;
    },
  });
  return { all, list, looks: () => looks };
}

t.test(`each is drawn as often as any other, and none twice (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const randomBelow = (limit: number): number => random.int(limit);
  const { all } = records(10);
  const counts = new Map<OwnRecord, number>();
  for (let round = 0; round < 2000; round++) {
    const some = drawn(all, 3, randomBelow);
    t.equal(new Set(some).size, 3);
    for (const one of some) counts.set(one, (counts.get(one) ?? 0) + 1);
  }
  for (const one of all) t.ok(Math.abs(counts.get(one)! - 600) < 150, `${one.data as string}: ${counts.get(one)}`);
  t.same(
    drawn(all, 100, randomBelow).toSorted((a, b) => Number(a.data) - Number(b.data)),
    all,
    'all of few',
  );
  const [only] = all;
  const nobodyAsks = (): number => t.fail('nothing is to be chosen') as never;
  t.same([drawn([only!], 100, nobodyAsks), drawn([], 100, nobodyAsks)], [[only], []]);
});

t.test('a hundred of very many are drawn with a hundred looks, and types are told apart once', async (t) => {
  const { all, list, looks } = records(10_000);
  t.equal(drawn(list, 100, (limit) => limit - 1).length, 100);
  t.ok(looks() <= 200, `${looks()}`);
  const before = looks();
  for (let i = 0; i < 3; i++) {
    t.equal(ofType(list, 'AAAA').length, 5000);
    t.equal(ofType(list, 'A').length, 5000);
  }
  t.same(ofType(list, 'SRV'), []);
  t.equal(looks() - before, all.length);
});
