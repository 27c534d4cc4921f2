/** Keys of any length and alphabet: a key is in the set if it was added. */
import t from 'tap';
import { KeySet } from '../../src/cluster/feed/key-set.ts';

t.test('it has what was added, and nothing else', async (t) => {
  const set = new KeySet();
  const naive = new Set<string>();
  const keys = ['', 'a', 'ä', '\u{1f600}', 'hosts/a', 'hosts/b', 'a/b/c/d/e'];
  for (let n = 0; n < 5000; n++) keys.push(`endpoints/default/c${n}`, `blocks/net${n % 10}/${n.toString(16)}`);
  for (const [at, key] of keys.entries()) {
    if (at % 3 === 0) continue;
    set.add(key);
    naive.add(key);
  }
  t.ok(keys.every((key) => set.has(key) === naive.has(key)));
});
