/** What a host notes of records for its copy of the state. `state-copy.random.test.ts` has what it says after a start. */
import t from 'tap';
import { CopyBatch } from '../../src/cluster/feed/copy-batch.ts';
import { NotedRecords } from '../../src/cluster/feed/noted-records.ts';

t.test('refused records of one key do not add up', (t) => {
  const noted = new NotedRecords<string>();
  noted.put('a', 1, 'accepted');
  noted.mark(true);
  for (let revision = 2; revision < 1000; revision++) {
    noted.put('a', revision, `refused ${revision}`);
    noted.refuse('a', revision);
    noted.mark(true);
  }
  t.same(
    [...noted.all()].map(({ value, isRefused }) => ({ value, isRefused })),
    [
      { value: 'accepted', isRefused: false },
      { value: 'refused 999', isRefused: true },
    ],
  );
  t.same([noted.before('a'), noted.refused('a')], [['accepted'], 999]);
  t.end();
});

t.test('one that was replaced before it was judged is not accepted because the next one is refused', (t) => {
  const noted = new NotedRecords<string>();
  noted.put('a', 1, 'accepted');
  noted.mark(true);
  noted.put('a', 2, 'never judged');
  noted.put('a', 3, 'refused');
  noted.refuse('a', 3);
  noted.mark(true);
  noted.put('a', 4, 'last');
  t.same(noted.before('a'), ['never judged', 'accepted']);
  noted.refuse('a', 2);
  t.same(noted.before('a'), ['accepted']);
  t.end();
});

t.test('of very many records, what is refused or has one before it is found without looking at the others', (t) => {
  const batch = new CopyBatch();
  for (const n of Array.from({ length: 1000 }).keys()) batch.put(`key-${n}`, 1, `line ${n}`);
  batch.mark(true);
  batch.put('key-3', 2, 'line 3, later');
  batch.refuse('key-3', 2);
  batch.refuse('key-5', 1);
  batch.put('key-7', 3, 'line 7, later');
  batch.refuse('key-8', 1);
  batch.put('key-8', 2, 'line 8, later');
  const looks = (['before', 'refused'] as const).map((method) =>
    t.capture(NotedRecords.prototype, method, Reflect.get(NotedRecords.prototype, method) as never),
  );
  const lines = [...batch.lines()];
  t.equal(lines.length, 1002);
  t.same(lines.slice(0, 2), ['line 3', 'line 7'], 'what is in front of others comes first');
  t.same(batch.refused(), ['["key-3",2]', '["key-5",1]']);
  t.same(
    looks.map((calls) => calls().length),
    [2, 2],
  );
  batch.delete('key-3', 'none');
  batch.put('key-5', 2, 'line 5, later');
  t.same(batch.refused(), []);
  t.end();
});
