/** `--sort-by`: paths as kubectl takes them. */
import t from 'tap';
import { parsePath, sortBy } from '../../src/cli/sort-by.ts';
import { manifest } from '../support/switch.ts';

t.test('paths', async (t) => {
  for (const [text, path] of [
    ['.metadata.name', ['metadata', 'name']],
    ['{.metadata.name}', ['metadata', 'name']],
    ['metadata.name', ['metadata', 'name']],
    ['.spec.subnets[1]', ['spec', 'subnets', 1]],
    ['.metadata.labels.example\\.com/app', ['metadata', 'labels', 'example.com/app']],
  ] as const) {
    t.same(parsePath(text), path, text);
  }
  for (const text of ['', '.', '{}', '.a..b', '.a[b]', '.a[0', 'a b}', '.a.'])
    t.throws(() => parsePath(text), { code: 'usage', message: `--sort-by: "${text}" is not a path: ` }, text);
});

t.test('numbers by value, texts as people count, what is missing first', async (t) => {
  const network = (name: string, spec: object, labels: Record<string, string> = {}) =>
    manifest('Network', name, { subnets: ['10.0.0.0/24'], ...spec }, { labels });
  const all = [
    network('web10', { vni: 9 }, { tier: 'b' }),
    network('web2', { vni: 10 }),
    network('db', {}, { tier: 'a' }),
  ];
  const sorted = (path: string): string[] => sortBy(all, path).map(({ metadata }) => metadata.name);
  t.same(sorted('.metadata.name'), ['db', 'web2', 'web10']);
  t.same(sorted('.spec.vni'), ['db', 'web10', 'web2']);
  t.same(sorted('.metadata.labels.tier'), ['web2', 'db', 'web10']);
  t.same(sortBy([], '.spec.colour'), []);
  t.throws(() => sortBy(all, '.spec.colour'), { code: 'usage', message: /none of them has \.spec\.colour/ });
});
