/**
 *   weft get ep --watch ── weft (host) ── web, db
 *
 * Whoever watches sees every change in its order, from whichever command it comes, until the daemon stops.
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
