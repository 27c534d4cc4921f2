/** `weft apply --confirm` and `weft confirm`: what is asked of the daemon, and what is said. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { unconfirmed } from '../api/fake-switch.ts';
import { fixture, plain } from './fixture.ts';

const manifest = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: db }
spec: { podSelector: {} }
`;

t.test('apply says until when the change waits, and confirm what stays', async (t) => {
  const { weft, sw, directory } = await fixture(t);
  const file = join(directory, 'policy.yaml');
  writeFileSync(file, manifest);
  const applied = await weft(['apply', '-f', file, '--confirm', '60s']);
  t.equal(
    applied.stdout,
    `networkpolicy/db created\ntaken back at ${unconfirmed.until}, unless you run \`weft confirm\`\n`,
  );
  const json = await weft(['apply', '-f', file, '--confirm', '2m', '-o', 'json']);
  t.match(JSON.parse(json.stdout), [{ name: 'db', unconfirmedUntil: unconfirmed.until }]);
  t.equal(
    (await weft(['confirm'])).stdout,
    'networkpolicy "db" stays\nnetworkpolicy "shop/web" stays\nnetwork "old": it was deleted since\n',
  );
  t.match(JSON.parse((await weft(['confirm', '-o', 'json'])).stdout), { host: 'a', resources: unconfirmed.resources });
  const asked = ['apply NetworkPolicy/db confirm 60000', 'apply NetworkPolicy/db confirm 120000', 'confirm', 'confirm'];
  t.same(sw.calls, asked);
});

t.test('wrong times, and what has no effect, are refused', async (t) => {
  const { weft, sw, directory } = await fixture(t);
  const file = join(directory, 'policy.yaml');
  writeFileSync(file, manifest);
  for (const time of ['0', '500ms', '25h', 'soon'])
    t.match(await weft(['apply', '-f', file, '--confirm', time]), { code: 2, stderr: /1s to 24h/ }, time);
  t.match(await weft(['apply', '-f', file, '--confirm', '60s', '--dry-run']), {
    code: 2,
    stderr: /--confirm has no effect with --dry-run/,
  });
  t.same(sw.calls, []);
  t.match((await plain(t, ['confirm', '--help'])).stdout, 'Examples:\n  weft confirm');
});

t.test('status tells what waits, and what was taken back', async (t) => {
  const { weft, sw } = await fixture(t);
  const { status } = sw;
  const takenBack = {
    at: '2025-01-01T00:01:00.000Z',
    resources: ['network "blue"'],
    left: [{ resource: 'network "red"', why: 'it was changed since' }],
  };
  sw.status = () => ({ ...status(), confirmation: { waiting: unconfirmed, takenBack } });
  const { stdout } = await weft(['status']);
  t.match(
    stdout,
    /Unconfirmed: +a change of networkpolicy "db", .*, is taken back at 2025-01-01T00:01:00\.000Z: `weft confirm`/,
  );
  const many = Array.from({ length: 12 }, (_, n) => `network "n${n}"`);
  sw.status = () => ({ ...status(), confirmation: { waiting: { ...unconfirmed, resources: many }, takenBack: null } });
  t.match((await weft(['status'])).stdout, /Unconfirmed: +a change of network "n0", .* "n9" and 2 more, made on/);
  t.match(stdout, /Taken back: +the change of network "blue", at .*; network "red" stays: it was changed since/);
  t.match(stdout, /Audit: +7 flows and 3 connections decided again: as cached/);
});
