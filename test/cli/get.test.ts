/** `weft get`: selecting, sorting, naming and following. */
import t from 'tap';
import { MOST_WAITING } from '../../src/api/resource-stream.ts';
import type { Resource, ResourceEvent } from '../../src/model/resource.ts';
import { until } from '../support/process.ts';
import { resource, untilFollowers } from '../api/fake-switch.ts';
import { finish, fixture } from './fixture.ts';

// Each of the many processes compiles its sources again.
t.setTimeout(600_000);

t.test('resources can be selected, sorted and named', async (t) => {
  const { weft } = await fixture(t);
  t.equal((await weft(['get', 'net', '-o', 'name'])).stdout, 'network/blue\n');
  t.match((await weft(['get', 'net', '-l', 'app!=web'])).stdout, /\nblue /);
  t.equal((await weft(['get', 'net', '-l', 'app=web'])).stdout, 'No networks.\n');
  t.equal((await weft(['get', 'net', '--sort-by', '.spec.subnets[0]', '-o', 'name'])).stdout, 'network/blue\n');
  t.match(
    (await weft(['get', 'net', '-o', 'wide'])).stdout,
    /^NAME +SUBNETS +VNI +MTU +OUTSIDE +RANGES +ROUTES +LABELS\n/,
  );
  t.equal((await weft(['endpoints', '-o', 'wide'])).stdout, (await weft(['endpoints'])).stdout, 'no more columns');
  for (const [words, message] of [
    [['-l', 'app web'], /^weft: --selector: "app web" is not a selector: KEY=VALUE, /],
    [['blue', '-l', 'app'], /give either NAME or -l/],
    [['--sort-by', '.spec..x'], /^weft: --sort-by: "\.spec\.\.x" is not a path: /],
    [['--sort-by', '.spec.colour'], /^weft: --sort-by: none of them has \.spec\.colour/],
    [['--sort-by', '.spec', '--watch'], /give either --sort-by or --watch/],
    [['--output-watch-events'], /--output-watch-events is about --watch/],
  ] as const) {
    t.match(await weft(['get', 'net', ...words]), { code: 2, stdout: '', stderr: message }, words.join(' '));
  }
  t.match(await weft(['detach', 'db', '-o', 'name']), {
    code: 2,
    stderr: /-o name: only weft get, hosts, services print names/,
  });
});

t.test('several are shown by their names, also if some of them do not exist', async (t) => {
  const { weft } = await fixture(t);
  const one = (await weft(['get', 'net', 'blue'])).stdout;
  const row = one.split('\n')[1]!;
  t.match(await weft(['get', 'net', 'blue', 'blue']), { code: 0, stdout: `${one}${row}\n`, stderr: '' });
  t.match(await weft(['get', 'net/blue', 'networks/blue', '-o', 'name']), {
    code: 0,
    stdout: 'network/blue\nnetwork/blue\n',
  });
  t.match(await weft(['get', 'net', 'red', 'blue', 'green']), {
    code: 1,
    stdout: one,
    stderr: 'weft: there is no Network "red"; there is no Network "green"\n',
  });
  const { code, stdout } = await weft(['get', 'host/a', 'net/blue', '-o', 'json']);
  t.equal(code, 1);
  t.same(JSON.parse(stdout), [resource], 'a list, as several were asked for');
  t.match(await weft(['get', 'net', 'red', 'green']), { code: 1, stdout: '', stderr: /"red"; there is no/ });
  t.match(await weft(['get', 'net/blue', 'net/blue', '-A']), { code: 2, stderr: /give either NAME or -A/ });
});

t.test('get --watch shows what there is, and then every change', async (t) => {
  const { sw, start, weft } = await fixture(t);
  const labels = { app: 'a-long-value-of-a-label' };
  const red: Resource = { ...resource, metadata: { name: 'red', labels } };
  const changed: Resource = { ...resource, metadata: { name: 'blue', labels } };
  const tell = (type: ResourceEvent['type'], object: Resource): void => {
    for (const { onEvent } of sw.followers) onEvent({ type, object });
  };
  const formats = {
    table: ['get', 'networks', '--watch'],
    events: ['get', 'net', '-w', '-o', 'json', '--output-watch-events'],
    yaml: ['get', 'net', '--watch', '-o', 'yaml'],
    name: ['get', 'net', '--watch', '-o', 'name'],
    names: ['get', 'net', '--watch', '-o', 'name', '--output-watch-events'],
  } as const;
  let shown = '';
  const running = Object.entries(formats).map(([name, words]) => {
    const child = start(words);
    if (name === 'table') child.stdout!.on('data', (text: Buffer) => (shown += text.toString()));
    return { name, finished: finish(child) };
  });
  await untilFollowers(sw, () => sw.followers.size === running.length);
  // The list of a table is complete when it is printed.
  await until(() => shown.includes('ADDED'), { what: 'the list' });
  tell('ADDED', red);
  tell('MODIFIED', changed);
  tell('DELETED', red);
  for (const { onEnd } of [...sw.followers]) onEnd();
  const printed = new Map<string, string>();
  for (const { name, finished } of running) {
    const { code, stdout, stderr } = await finished;
    t.equal(code, 0, name);
    t.equal(stderr, 'weft: the daemon has stopped\n');
    printed.set(name, stdout);
  }
  const label = 'app=a-long-value-of-a-label';
  t.equal(
    printed.get('table'),
    [
      'NAME   SUBNETS       VNI   MTU   LABELS   EVENT',
      'blue   10.0.0.0/24   -     -     -        ADDED',
      `red    10.0.0.0/24   -     -     ${label}   ADDED`,
      `blue   10.0.0.0/24   -     -     ${label}   MODIFIED`,
      `red    10.0.0.0/24   -     -     ${label}   DELETED`,
      '',
    ].join('\n'),
  );
  const events = printed.get('events')!.trim().split('\n');
  t.same(
    events.map((line) => JSON.parse(line) as ResourceEvent),
    [
      { type: 'ADDED', object: resource },
      { type: 'ADDED', object: red },
      { type: 'MODIFIED', object: changed },
      { type: 'DELETED', object: red },
    ],
  );
  t.equal(printed.get('yaml')!.match(/^---\napiVersion: /gm)?.length, 4);
  t.equal(printed.get('name'), 'network/blue\nnetwork/red\nnetwork/blue\nnetwork/red\n');
  t.match(printed.get('names'), /^ADDED network\/blue\n[^]*\nDELETED network\/red\n$/);
  t.match(await weft(['get', 'net', 'green', '--watch']), { code: 1, stderr: /there is no Network "green"/ });
});

t.test('get --watch ends with Ctrl-C, and starts again if its reader was too slow', async (t) => {
  const { sw, start } = await fixture(t);
  const child = start(['get', 'network', 'blue', '--watch', '-o', 'name']);
  child.stdout!.pause();
  await untilFollowers(sw, () => sw.followers.size === 1);
  const [follower] = sw.followers;
  const other = { ...resource, metadata: { ...resource.metadata, name: 'x'.repeat(60) } };
  for (let n = 0; n < 2 * MOST_WAITING; n++) follower!.onEvent({ type: 'MODIFIED', object: other });
  const finished = finish(child);
  let complaints = '';
  child.stderr!.on('data', (text: Buffer) => (complaints += text.toString()));
  await until(() => complaints.includes('lost its place'), { what: 'it says so' });
  await untilFollowers(sw, () => !sw.followers.has(follower!));
  child.kill('SIGINT');
  const { code, stdout, stderr } = await finished;
  t.equal(code, 0);
  t.match(
    stderr,
    /^weft: \d+ changes left out: this reader is too slow and has lost its place; all are listed again\n$/,
  );
  t.ok(stdout.startsWith('network/blue\n'));
  await untilFollowers(sw, () => sw.followers.size === 0);
});
