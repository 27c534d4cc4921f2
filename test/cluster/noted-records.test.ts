/** What a host notes of records for its copy of the state. `state-copy.random.test.ts` has what it says after a start. */
import t from 'tap';
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
