/**
 * `weft demo`: reaches all pairs, shows a trace and a decision, measures, and leaves nothing
 * behind. With --keep it continues to run until it is removed. The scenario `failover` shows what
 * happens when a host loses its power: what was not cut loses nothing. `bookinfo` shows services: no
 * request fails but the first ones to a backend that fails, and those that a lost host has.
 *
 * There is one demonstration on a machine, so all of it is one file.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import t from 'tap';
import { openLab, type Lab } from '../support/lab.ts';
import { attempt, run, type Background } from '../support/process.ts';
import { weftCommand } from '../support/weft.ts';

t.setTimeout(600_000);

const LONGEST_MS = 300_000;
const demo = [...weftCommand, 'demo'];

const started: Background[] = [];
/** Registered before a lab is open: its processes are killed, and a demonstration would leave what it has made. */
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGALRM']) process.once(signal, endDemonstrations);

function startDemo(lab: Lab, ...words: readonly string[]): Background {
  const running = lab.start([...demo, ...words]);
  started.push(running);
  return running;
}

/** They remove everything themselves if they are interrupted. */
function endDemonstrations(): void {
  for (const running of started) running.signal('SIGINT');
  spawnSync('timeout', ['60', 'sh', '-c', 'while [ -e /run/weft-demo ]; do sleep 0.1; done']);
}

/** Namespaces and links of the demonstration: there are none before and after. */
async function remains(): Promise<string[]> {
  const namespaces = (await run(['ip', 'netns', 'list'])).split('\n').filter((line) => line.startsWith('weft-demo'));
  const links = (await run(['ip', '-o', 'link'])).split('\n').filter((line) => line.includes('underlay'));
  return [...namespaces, ...links, ...(existsSync('/run/weft-demo') ? ['/run/weft-demo'] : [])];
}

/** The lines of the table that says what happened when. */
function eventsIn(text: string): { readonly time: number; readonly what: string }[] {
  return [...text.matchAll(/^([+-]?[\d.]+) s {2,}(\S.*?) {2,}(.*)$/gm)].map(([, time, where, what]) => ({
    time: Number(time),
    what: `${where}: ${what}`,
  }));
}

/** The processes in the namespaces of containers. */
async function processesIn(...containers: readonly string[]): Promise<number[]> {
  const texts = await Promise.all(containers.map((name) => run(['ip', 'netns', 'pids', `weft-demo-${name}`])));
  return texts.flatMap((text) => text.split('\n').filter(Boolean).map(Number));
}

await t.test('it shows an overlay network and removes it, one at a time', async (t) => {
  t.same(await remains(), []);
  const lab = openLab(t);
  const startedAt = performance.now();
  const running = startDemo(lab);
  await running.says('hosts alpha and beta');
  const second = await attempt(demo);
  t.equal(second.code, 1, 'a second one waits for nobody');
  t.match(second.stderr, `pid ${running.pid}`, 'it says who runs');
  const code = await running.wait(LONGEST_MS);
  t.comment(`took ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
  const { stdout, stderr } = running;
  t.equal(code, 0, stderr);
  t.equal(stdout.match(/ → \w+ .*[\d.]+ ms +[\d.]+ ms/g)?.length, 12, 'twelve pairs answered over IPv4 and IPv6');
  t.equal(stdout.match(/[\d.]+ Gb\/s/g)?.length, 4, 'throughput on one host and across, IPv4 and IPv6');
  t.equal(stdout.match(/^ *Megaflow: /gm)?.length, 2, 'a trace and a kept decision');
  t.notMatch(stdout, /no answer/);
  t.same(await remains(), [], 'nothing is left');
});

for (const [signal, when] of [
  ['SIGINT', 'weft up on beta'],
  ['SIGTERM', 'hosts alpha and beta'],
] as const) {
  await t.test(`ended by ${signal}, it leaves nothing either`, async (t) => {
    const lab = openLab(t);
    const running = startDemo(lab);
    await running.says(when);
    t.equal(await running.stop(signal), 1);
    t.match(running.stderr, `interrupted (${signal})`);
    t.same(await remains(), []);
  });
}

await t.test('kept, it can be explored and removed with the commands that it prints', async (t) => {
  const text = await run([...demo, '--keep'], { timeoutMs: LONGEST_MS });
  const commands = text
    .slice(text.indexOf('To explore it:'))
    .split('\n')
    .filter((line) => line.startsWith('  '));
  const weft = commands.find((line) => line.trim().startsWith('weft=')) ?? '';
  t.ok(commands.length >= 9, commands.join('\n'));
  const another = await attempt(demo);
  t.equal(another.code, 1, 'another demonstration leaves it alone');
  t.match(another.stderr, /a weft demo that was kept runs \(pid \d+ and \d+\): end it with `weft --socket/);
  for (const command of commands.filter((line) => line !== weft)) {
    const once = command.replace(' ping ', ' ping -c 1 ');
    const { code, stderr } = await attempt(['sh', '-ec', `${weft.trim()}; ${once.trim()}`]);
    t.equal(code, 0, `${command} ${stderr}`);
  }
  t.same(await remains(), []);
});

await t.test('what does not fit together is refused', async (t) => {
  for (const [words, message] of [
    [['--hosts', '1'], /--hosts.*2 to 5/],
    [['--hosts', '6'], /--hosts.*2 to 5/],
    [['--store', 'zookeeper'], /--store.*embedded, etcd/],
    [['--scenario', 'flood'], /--scenario.*basic, failover, bookinfo/],
    [['--scenario', 'failover', '--store', 'embedded'], /--scenario failover needs --store etcd/],
    [['--scenario', 'failover', '--hosts', '2'], /--scenario failover needs --hosts 3 or more/],
    [['--scenario', 'bookinfo', '--store', 'embedded'], /--scenario bookinfo needs --store etcd/],
    [['--scenario', 'bookinfo', '--hosts', '3'], /--scenario bookinfo needs --hosts 2/],
  ] as const) {
    t.match(await attempt([...demo, ...words]), { code: 2, stdout: '', stderr: message }, words.join(' '));
  }
});

await t.test('a host loses its power, is noticed, replaced, and comes back', async (t) => {
  t.same(await remains(), []);
  const lab = openLab(t);
  const running = startDemo(lab, '--scenario', 'failover');
  const code = await running.wait(LONGEST_MS);
  const { stdout, stderr } = running;
  t.comment(stdout.slice(stdout.indexOf('TIME ')));
  t.equal(code, 0, stderr);
  t.match(stdout, 'hosts alpha, beta and gamma: namespaces on a bridge');
  t.match(stdout, '30 pairs ping each other');
  const events = eventsIn(stdout);
  const timeOf = (what: RegExp): number => events.find((event) => what.test(event.what))?.time ?? Number.NaN;
  t.equal(timeOf(/^gamma: loses its power/), 0);
  const inOrder = [
    timeOf(/^alpha: knows that gamma is down$/),
    timeOf(/^beta: weft attach auth/),
    timeOf(/^web: auth answers, on beta$/),
    timeOf(/^gamma: has power again/),
    timeOf(/^alpha, beta: gamma has everything in force again$/),
  ];
  t.same(
    inOrder,
    inOrder.toSorted((a, b) => a - b),
    JSON.stringify(events),
  );
  t.ok(inOrder.every((time) => time > 0));
  for (const way of ['web → db', 'web → api', 'api → web'])
    t.match(stdout, new RegExp(`^${way} +not cut +\\d+ +0 `, 'm'), `${way} loses nothing`);
  t.match(stdout, /^beta has dropped \d+ frames of api as vtep_down: /m);
  t.match(stdout, /^web → auth +to gamma +\d+ +[1-9]/m);
  t.same(await remains(), [], 'nothing is left');
});

await t.test(
  'services: names, shares, a split by a VirtualService, backends that are drained and ejected, and a host that is lost and comes back',
  async (t) => {
    t.same(await remains(), []);
    const lab = openLab(t);
    const running = startDemo(lab, '--scenario', 'bookinfo');
    const code = await running.wait(LONGEST_MS);
    const { stdout, stderr } = running;
    t.comment(stdout.slice(stdout.indexOf('TIME ')));
    t.equal(code, 0, stderr);
    const events = eventsIn(stdout);
    const timeOf = (what: RegExp): number => events.find((event) => what.test(event.what))?.time ?? Number.NaN;
    const inOrder = [
      timeOf(/^tester: has the first page$/),
      timeOf(/^alpha: weft apply -f traffic\/90-10\.yaml --wait$/),
      timeOf(/^tester: has asked reviews 300 times: v1 \d\d%, v2 0%, v3 \d+%$/),
      timeOf(/^alpha: weft delete virtualservice reviews$/),
      timeOf(/^alpha: weft label endpoint reviews-v\d weft\.dev\/drain=true/),
      timeOf(/^tester: reviews-v\d answers new connections again$/),
      timeOf(/^alpha: ejects reviews-v3$/),
      timeOf(/^reviews-v3: its program is started again$/),
      timeOf(/^tester: reviews-v3 answers again$/),
      timeOf(/^beta: loses its power/),
      timeOf(/^alpha: knows that beta is down$/),
      timeOf(/^beta: forwards$/),
      timeOf(/^tester: reviews-v2 and reviews-v3 have answered again$/),
    ];
    t.same(
      inOrder,
      inOrder.toSorted((a, b) => a - b),
      JSON.stringify(events),
    );
    t.ok(inOrder.every((time) => time > 0));
    for (const step of ['names', 'shares', 'split', 'drain', 'host back'])
      t.match(stdout, new RegExp(`^${step} +[1-9]\\d* +0 +[\\d.]+ s `, 'm'), `no request fails: ${step}`);
    t.match(stdout, /^split +.* v1 (8[3-9]|9\d)%, v2 0%, v3 (\d|1[0-7])%$/m);
    t.match(
      stdout,
      /^failure +[1-9]\d* +([1-9]|10) +[\d.]+ s +reviews-v3 was ejected after \d+ failures, and came back$/m,
    );
    t.match(stdout, /default\/reviews-v3 .* ejected .* connections refused, until /);
    t.match(stdout, /^host lost +[1-9]\d* +\d+ +[\d.]+ s +none failed that began later than \d+ ms after it$/m);
    t.match(stdout, /default\/reviews-v2 .* host down .* host "beta" does not answer/);
    t.notMatch(stdout, /NOT AS PROMISED/);
    t.same(await remains(), [], 'nothing is left');
  },
);

await t.test('interrupted while its programs run, it ends them; what is not as promised is a failure', async (t) => {
  const lab = openLab(t);
  const interrupted = startDemo(lab, '--scenario', 'bookinfo');
  await interrupted.says('the versions of reviews share its connections');
  const processes = await processesIn(
    'productpage-v1',
    'details-v1',
    'ratings-v1',
    'reviews-v1',
    'reviews-v2',
    'reviews-v3',
  );
  t.equal(processes.length, 6);
  t.equal(await interrupted.stop('SIGINT'), 1);
  t.match(interrupted.stderr, 'interrupted (SIGINT)');
  t.same(await remains(), []);
  t.same(
    processes.filter((pid) => existsSync(`/proc/${pid}`)),
    [],
    'its programs have ended',
  );

  // How far it gets before they have ended depends on the machine; it cannot go on from the next step that asks them.
  const broken = startDemo(lab, '--scenario', 'bookinfo');
  await broken.says('the versions of reviews share its connections');
  for (const pid of await processesIn('reviews-v1', 'reviews-v2', 'reviews-v3')) process.kill(pid);
  t.equal(await broken.wait(LONGEST_MS), 1);
  const [, step] = /^weft: not as promised: (shares|drain): /.exec(broken.stderr) ?? [];
  t.ok(step, broken.stderr);
  t.match(broken.stdout, new RegExp(`^${step} .* NOT AS PROMISED: `, 'm'));
  t.same(await remains(), []);
});

await t.test('interrupted in the middle, it leaves nothing either', async (t) => {
  const lab = openLab(t);
  const running = startDemo(lab, '--hosts', '2', '--store', 'etcd');
  await running.says('weft up on beta');
  t.equal(await running.stop('SIGINT'), 1);
  t.match(running.stderr, 'interrupted (SIGINT)');
  t.same(await remains(), []);
});
