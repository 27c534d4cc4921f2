/**
 *   weft get ep --watch ── weft (host) ── web, db
 *
 * Whoever watches sees every change in its order, from whichever command it comes, until the daemon stops. Whoever watches
 * services sees their backends come, change, have connections, and go.
 */
import t from 'tap';
import type { ResourceEvent } from '../../src/model/resource.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const CHANGES = 100;

await t.test('get --watch', async (t) => {
  const lab = openLab(t);
  const [host, web, db] = await Promise.all(['host', 'web', 'db'].map((role) => lab.namespace(role)));
  const weft = await Weft.up(lab, host!, 'host', { datapath: 'reference' });
  await weft.createNetwork('blue --subnet 10.44.0.0/24');
  await weft.attach(web!, { network: 'blue' });
  const watch = (...words: string[]) => lab.start(weft.command(['get', 'ep', '--watch', ...words]));
  const table = watch();
  const json = watch('-o', 'json', '--output-watch-events', '-l', 'n');
  await table.says('ADDED');

  await weft.client.label('Endpoint', 'web', { n: '0' });
  // Once it has seen one change, it sees all of them.
  await json.says('"n":"0"');
  for (let n = 1; n <= CHANGES; n++) await weft.client.label('Endpoint', 'web', { n: String(n) });
  await weft.attach(db!, { network: 'blue', arguments: ['--label', 'n=first'] });
  await weft.run('detach', 'web');
  await lab.removeNamespace(db!);
  await until(() => table.stdout.split('DELETED').length === 3, { what: 'both are deleted' });

  await weft.stop();
  for (const watcher of [table, json]) {
    t.equal(await watcher.wait(), 0);
    t.equal(watcher.stderr, 'weft: the daemon has stopped\n');
  }
  const events = json.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as ResourceEvent)
    .map(({ type, object: { metadata } }) => `${type} ${metadata.name} ${metadata.labels['n']}`);
  t.same(events, [
    'ADDED web 0',
    ...Array.from({ length: CHANGES }, (_, n) => `MODIFIED web ${n + 1}`),
    'ADDED db first',
    `DELETED web ${CHANGES}`,
    'DELETED db first',
  ]);
  const rows = table.stdout.split('\n').map((line) => line.trim());
  t.match(rows[0], /^NAME +NAMESPACE +NETWORK +ADDRESSES +PLACE +LABELS +EVENT$/);
  t.equal(rows.filter((row) => /^web +default +blue .*n=\d+ +MODIFIED$/.test(row)).length, CHANGES + 1);

  await t.test('a daemon that is killed is a failure', async (t) => {
    await weft.start();
    const another = watch('-A');
    await another.says('EVENT');
    await weft.kill();
    t.equal(await another.wait(), 1);
    t.match(another.stderr, /^weft: the weft daemon on .* went away/);
  });
});

await t.test('services --watch', async (t) => {
  const lab = openLab(t);
  const [host, web, db] = await Promise.all(['host', 'web', 'db'].map((role) => lab.namespace(role)));
  const weft = await Weft.up(lab, host!, 'host', { datapath: 'reference' });
  await weft.createNetwork('blue --subnet 10.44.0.0/24');
  await weft.attach(web!, { network: 'blue' });
  await weft.client.apply([
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'db' },
      spec: { selector: { app: 'db' }, clusterIP: '10.96.0.53', ports: [{ port: 53, protocol: 'UDP' }] },
    },
  ]);
  const services = lab.start(weft.command(['services', '--watch']));
  const backends = lab.start(weft.command(['services', 'db', '-w']));
  const rows = (of: { readonly stdout: string }): string[] =>
    of.stdout.split('\n').map((line) => line.trim().split(/ {2,}/).join(' '));
  const sees = (of: { readonly stdout: string }, row: RegExp): Promise<unknown> =>
    until(() => rows(of).some((one) => row.test(one)), { what: String(row) });
  await services.says('ADDED');
  await backends.says('EVENT');
  t.match(await weft.run('services', 'db'), /\nNo backends: no endpoint has the labels of its selector, /);

  await weft.attach(db!, { network: 'blue', arguments: ['--label', 'app=db'] });
  await sees(services, /^db 10\.96\.0\.53 53\/UDP 1\/1 0 maglev - MODIFIED$/);
  await sees(backends, /^default\/db 10\.44\.0\.3 53 host ready 1 0 - ADDED$/);
  await web!.run(['bash', '-c', 'echo > /dev/udp/10.96.0.53/53']);
  await sees(services, /^db 10\.96\.0\.53 53\/UDP 1\/1 1 maglev - MODIFIED$/);
  await sees(backends, /^default\/db 10\.44\.0\.3 53 host ready 1 1 - MODIFIED$/);
  t.match(
    await weft.run('describe', 'svc', 'db'),
    /\nBackends:\nBACKEND .*\ndefault\/db +10\.44\.0\.3 +53 +host +ready /,
  );
  await weft.client.label('Endpoint', 'db', { 'weft.dev/drain': 'true' });
  await sees(
    backends,
    /^default\/db 10\.44\.0\.3 53 host serving 1 1 it or its host has the label weft\.dev\/drain MODIFIED$/,
  );
  await weft.run('detach', 'db');
  await sees(backends, /^default\/db 10\.44\.0\.3 53 host serving 1 1 it or .* DELETED$/);
  await sees(services, /^db 10\.96\.0\.53 53\/UDP 0\/0 0 maglev - MODIFIED$/);
  await weft.client.delete('Service', 'db');
  await sees(services, /^db 10\.96\.0\.53 53\/UDP 0\/0 0 maglev - DELETED$/);

  await weft.stop();
  for (const watcher of [services, backends]) {
    t.equal(await watcher.wait(), 0);
    t.equal(watcher.stderr, 'weft: the daemon has stopped\n');
  }
});
