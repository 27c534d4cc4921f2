/** Label selectors, as Kubernetes reads them. */
import t from 'tap';
import { matchesLabels } from '../../src/labels.ts';
import { parseSelector } from '../../src/model/selector.ts';

t.test('what matches', async (t) => {
  const matches = (text: string, labels: Record<string, string>): boolean => matchesLabels(parseSelector(text), labels);
  for (const [selector, yes, no] of [
    ['', {}, undefined],
    ['app=web', { app: 'web', tier: 'x' }, { app: 'db' }],
    ['app==web', { app: 'web' }, {}],
    [' app = web , tier=front ', { app: 'web', tier: 'front' }, { app: 'web' }],
    ['app!=web', { app: 'db' }, { app: 'web' }],
    ['app!=web', {}, { app: 'web' }],
    ['app', { app: '' }, { tier: 'app' }],
    ['!app', { tier: 'app' }, { app: '' }],
    ['app=', { app: '' }, { app: 'web' }],
    ['app in (web, db)', { app: 'db' }, { app: 'cache' }],
    ['app in (web)', { app: 'web' }, {}],
    ['app notin (web,db)', { app: 'cache' }, { app: 'db' }],
    ['app notin (web)', {}, { app: 'web' }],
    ['app in (web,db),tier!=x,!old', { app: 'web', tier: 'y' }, { app: 'web', old: '' }],
    ['example.com/app=web', { 'example.com/app': 'web' }, { app: 'web' }],
    ['constructor', { constructor: 'x' }, {}],
    ['in=a', { in: 'a' }, { in: 'b' }],
  ] as const) {
    t.ok(matches(selector, yes), `${selector}: ${JSON.stringify(yes)}`);
    if (no) t.notOk(matches(selector, no), `${selector}: ${JSON.stringify(no)}`);
  }
});

t.test('what is refused', async (t) => {
  const form = 'is not a selector: KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or !KEY';
  for (const [text, message] of [
    ['app=web,', `"" ${form}`],
    ['app web', `"app web" ${form}`],
    ['app>1', /^"app>1" is not accepted: "app>1" is not a label key/],
    ['app in web', `"app in web" ${form}`],
    ['app in (web', `"app in (web" ${form}`],
    ['!app=web', '"!app=web" is not a selector: behind "!" only a key can follow'],
    ['app=we b', `"app=we b" ${form}`],
    ['app=-', /^"app=-" is not accepted: "-" is not a label value/],
    ['a/b/c=d', /^"a\/b\/c=d" is not accepted: "a\/b\/c" is not a label key/],
  ] as const) {
    t.throws(() => parseSelector(text), { code: 'invalid', message }, text);
  }
});
