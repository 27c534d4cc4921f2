/**
 * `weft demo`: reaches all pairs, shows a trace and a decision, measures, and leaves nothing
 * behind. With --keep it continues to run until it is removed. The scenario `failover` shows what
 * happens when a host loses its power: what was not cut loses nothing.
 *
 * There is one demonstration on a machine, so all of it is one file.
 */
import { existsSync } from 'node:fs';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { attempt, run } from '../support/process.ts';
import { weftCommand } from '../support/weft.ts';

t.setTimeout(600_000);

const LONGEST_MS = 300_000;
const demo = [...weftCommand, 'demo'];

/** Namespaces and links of the demonstration: there are none before and after. */
async function remains(): Promise<string[]> {
  const namespaces = (await run(['ip', 'netns', 'list'])).split('\n').filter((line) => line.startsWith('weft-demo'));
  const links = (await run(['ip', '-o', 'link'])).split('\n').filter((line) => line.includes('underlay'));
  return [...namespaces, ...links, ...(existsSync('/run/weft-demo') ? ['/run/weft-demo'] : [])];
}

await t.test('it shows an overlay network and removes it, one at a time', async (t) => {
  t.same(await remains(), []);
  const lab = openLab(t);
  const startedAt = performance.now();
  const running = lab.start(demo);
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
    const running = lab.start(demo);
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
    [['--scenario', 'flood'], /--scenario.*basic, failover/],
    [['--scenario', 'failover', '--store', 'embedded'], /--scenario failover needs --store etcd/],
    [['--scenario', 'failover', '--hosts', '2'], /--scenario failover needs --hosts 3 or more/],
  ] as const) {
    t.match(await attempt([...demo, ...words]), { code: 2, stdout: '', stderr: message }, words.join(' '));
  }
});

await t.test('a host loses its power, is noticed, replaced, and comes back', async (t) => {
  t.same(await remains(), []);
  const lab = openLab(t);
  const running = lab.start([...demo, '--scenario', 'failover']);
  const code = await running.wait(LONGEST_MS);
  const { stdout, stderr } = running;
  t.comment(stdout.slice(stdout.indexOf('TIME ')));
  t.equal(code, 0, stderr);
  t.match(stdout, 'hosts alpha, beta and gamma: namespaces on a bridge');
  t.match(stdout, '30 pairs ping each other');
  const events = [...stdout.matchAll(/^([+-]?[\d.]+) s {2,}(\S.*?) {2,}(.*)$/gm)].map(([, time, where, what]) => ({
    time: Number(time),
    what: `${where}: ${what}`,
  }));
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

await t.test('interrupted in the middle, it leaves nothing either', async (t) => {
  const lab = openLab(t);
  const running = lab.start([...demo, '--hosts', '2', '--store', 'etcd']);
  await running.says('weft up on beta');
  t.equal(await running.stop('SIGINT'), 1);
  t.match(running.stderr, 'interrupted (SIGINT)');
  t.same(await remains(), []);
});
