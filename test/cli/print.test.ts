/** Tables for people. */
import t from 'tap';
import { table } from '../../src/cli/print.ts';

t.test('a long table has the same columns from its first row to its last', async (t) => {
  const heads = ['NAME', 'NUMBER', 'STATE', 'LAST'];
  const rows = Array.from({ length: 500 }, (_, n) => [`c${n}`, n % 100 || '', n === 300 ? 'the-widest' : 'here', 'x']);
  const some = [0, 1, 199, 200, 201, 300, 399, 400, 499];
  const lines = (await table(heads, rows, 'none')).split('\n');
  t.equal(lines.length, rows.length + 2, 'the heads, each row, and what is after the last line end');
  const short = (
    await table(
      heads,
      some.map((n) => rows[n]!),
      'none',
    )
  ).split('\n');
  t.same([lines[0], ...some.map((n) => lines[n + 1])], short.slice(0, -1));
});

t.test('a table without rows says so', async (t) => {
  t.equal(await table(['NAME'], [], 'no endpoints'), 'no endpoints\n');
});
