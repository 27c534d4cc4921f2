/** `weft policy`: what is asked of the daemon, and how its answer is printed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { diffText } from '../../src/cli/diff.ts';
import { fieldChanges } from '../../src/observe/field-changes.ts';
import { diff, policyTests } from '../api/fake-switch.ts';
import { fixture, plain } from './fixture.ts';

const manifest = `
apiVersion: weft.dev/v1
kind: PolicyTest
metadata: { name: out }
spec: { from: { endpoint: web }, to: { endpoint: db }, port: 5432, expect: deny }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: db }
spec: { podSelector: {} }
`;

t.test('policy test: a table, what fails below it, and exit 1', async (t) => {
  const { weft, sw, directory } = await fixture(t);
  const file = join(directory, 'policies.yaml');
  writeFileSync(file, manifest);
  const { code, stdout, stderr } = await weft(['policy', 'test', '-f', file]);
  t.equal(code, 1);
  t.equal(stderr, 'weft: 1 of 3 policy tests fails: out\n');
  t.same(sw.calls, ['policyTests NetworkPolicy,PolicyTest'], 'nothing else is called');
  t.same(
    stdout
      .split('\n')
      .slice(0, 4)
      .map((line) => line.split(/ {2,}/)),
    [
      ['NAMESPACE', 'NAME', 'FROM', 'TO', 'PORT', 'EXPECT', 'PACKETS', 'RESULT'],
      ['default', 'in', 'web', 'db', 'tcp/5432', 'allow', '1', 'passed'],
      ['default', 'out', 'web', 'db', 'tcp/5432', 'deny', '2', 'failed'],
      ['default', 'gone', 'web', 'db', 'tcp/5432', 'deny', '0', 'undecided'],
    ],
  );
  t.equal(
    stdout.split('\n').slice(4).join('\n'),
    `
out: tcp from web (10.0.0.2) to db (10.0.0.3) port 5432 is allowed: no policy selects either end
out: and 1 more
gone: undecided: endpoint "gone" does not exist
`,
  );
});

t.test('policy test: without files, as JSON, and its help', async (t) => {
  const { weft, sw } = await fixture(t);
  const { code, stdout } = await weft(['policy', 'test', '-o', 'json']);
  t.equal(code, 1);
  t.same(JSON.parse(stdout), policyTests);
  t.same(sw.calls, ['policyTests ']);
  const help = await plain(t, ['policy', 'test', '--help']);
  t.equal(help.code, 0);
  t.match(help.stdout, 'Examples:\n  weft policy test');
});

t.test('diff: resources with their fields, tests that would fail, connections', async (t) => {
  const { weft, sw, directory } = await fixture(t);
  const file = join(directory, 'policies.yaml');
  writeFileSync(file, manifest);
  const { code, stdout } = await weft(['diff', '-f', file]);
  t.equal(code, 0);
  t.same(sw.calls, ['diff NetworkPolicy,PolicyTest'], 'nothing else is called');
  t.equal(
    stdout.replaceAll(/ {3,}/g, '   ').replaceAll(/ \d+[dh]\w* /g, ' AGE '),
    `networkpolicy/shop/db configured
  .spec.ingress[0].ports[0].port: 80 → 81
  .metadata.labels.app: - → "db"
namespace/ops created

Policy tests that would fail:
out: tcp from web (10.0.0.2) to db (10.0.0.3) port 5432 is allowed: no policy selects either end
out: and 1 more

3 of 7 live connections of this host would end:
FROM   TO   PORT   CONNECTIONS   BECAUSE
web (10.0.0.2)   db (10.0.0.3)   tcp/5432   2   ingress: isolated
and 1 more

3 of 40 flow classes of the last 7 days would have another verdict:
FROM   TO   PORT   AND   VERDICT   SEEN   LAST   BECAUSE
job-1 (10.0.0.4), gone   db (10.0.0.3)   tcp/5432   -   allow → deny   24   AGE   ingress: isolated
web (10.0.0.2)   198.51.100.3   icmp   further peers   deny → allow   1 denied   AGE   no policy selects either end
and 1 more
3 conversations are in no class, since too many began at once.

2 live connections of services would lose their backend:
FROM   SERVICE   BACKEND   PORT   CONNECTIONS   BECAUSE
web (10.0.0.2)   sql   db (10.0.0.3)   tcp/5432   2   it is no backend of the service any more

1 flow class of the last 7 days would go elsewhere:
FROM   SERVICE   BACKEND   PORT   AND   SEEN   LAST   THEN   BECAUSE
job-1 (10.0.0.4), gone   sql   db (10.0.0.3)   tcp/5432   -   24   AGE   db-2:5432, 10.0.0.6:5433 and 3 more   its backend cannot be chosen any more
and 4 more
`,
  );
  const json = await weft(['diff', '-f', file, '-o', 'json']);
  t.same(JSON.parse(json.stdout), JSON.parse(JSON.stringify(diff)));
  t.equal(
    await diffText({
      ...{ resources: [], policyTests: [], hosts: [], connections: { live: 1, ended: [], more: 0 } },
      flowClasses: { ...{ count: 1, givenUp: 2, passedOver: 0 }, changed: [], more: 0 },
      services: { ended: [], changed: [], more: 0 },
    }),
    'Nothing would change.\n\nNone of 1 live connection of this host would end.\n\n' +
      'None of 1 flow class of the last 7 days would have another verdict.\n' +
      '2 classes were given up, since there were too many.\n',
  );
  const { connections, flowClasses, services } = diff;
  const of = <T>(host: string, [one]: readonly T[]) => [{ ...one!, host }];
  const onHosts = await diffText({
    ...{ resources: [], policyTests: [] },
    hosts: [
      { name: 'a', answered: true },
      { name: 'b', answered: true },
      { name: 'c', answered: false, why: 'it is down' },
    ],
    connections: { ...connections, ended: of('b', connections.ended) },
    flowClasses: { ...flowClasses, changed: of('a', flowClasses.changed) },
    services: { ...services, ended: of('a', services.ended), changed: of('b', services.changed) },
  });
  t.match(onHosts, /^3 of 7 live connections of 2 hosts would end:\nHOST +FROM .*\nb +web \(10\.0\.0\.2\) /m);
  t.match(onHosts, /^HOST +FROM +TO .* BECAUSE\na +job-1 \(10\.0\.0\.4\), gone /m);
  t.match(onHosts, /^HOST +FROM +SERVICE .*\na +web .* sql /m);
  t.match(onHosts, /^HOST +FROM +SERVICE .* THEN .*\nb +job-1 .* sql /m);
  t.match(onHosts, /\nhost "c" has not answered, and what it would do is not among this: it is down\n$/);
  t.match(await plain(t, ['diff']), { code: 2, stderr: /--filename/ });
});

t.test('the innermost fields that differ', async (t) => {
  const differ = (before: object, after: object): string[] =>
    [...fieldChanges(before, after)].map((one) => `${one.path} ${String(one.before)} ${String(one.after)}`);
  t.same(differ({ a: { b: [1, 2] } }, { a: { b: [1, 3], 'c/d': 4 } }), ['.a.b[1] 2 3', '.a."c/d" undefined 4']);
  t.same(differ({ a: [1] }, { a: [1, 2] }), ['.a 1 1,2'], 'a list of another length');
  t.same(differ({ a: [{ b: 1 }] }, { a: [{ b: 1 }] }), []);
});
