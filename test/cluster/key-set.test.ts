/** Keys of any length and alphabet: a key is in the set if it was added. */
import t from 'tap';
import { KeySet, partOf, PARTS } from '../../src/cluster/feed/key-set.ts';

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

t.test('keys that begin or end alike are spread over all parts', async (t) => {
  const numbers = Array.from({ length: PARTS * 64 }, (_, n) => n);
  const alike: Readonly<Record<string, (n: number) => string>> = {
    'one beginning': (n) => `endpoints/default/web-${n}`,
    'one end': (n) => `endpoints/default/web-${n}-primary-frontend`,
    'one end, numbers of one length': (n) => `services/default/${String(n).padStart(6, '0')}-0000`,
    'other namespaces alone': (n) => `services/team-${n.toString(16)}/web`,
    addresses: (n) => `vips/10.96.${n >> 8}.${n & 255}`,
  };
  for (const [what, keyOf] of Object.entries(alike)) {
    const counts = new Uint32Array(PARTS);
    for (const n of numbers) counts[partOf(keyOf(n))]!++;
    t.ok(Math.max(...counts) <= 3 * 64, `${what}: ${Math.max(...counts)} in one part, 64 on average`);
  }
});
