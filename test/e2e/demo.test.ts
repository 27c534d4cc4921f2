/**
 * `weft demo`: reaches all pairs, shows a trace and a decision, measures, and
 * leaves nothing; kept, it goes on until it is removed.
 */
import { existsSync } from 'node:fs';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { attempt, run } from '../support/process.ts';
import { weftCommand } from '../support/weft.ts';

t.setTimeout(240_000);

const DEMO_MS = 60_000;
const demo = [...weftCommand, 'demo'];

/** Namespaces and links of the demonstration: none, before and after. */
async function remains(): Promise<string[]> {
  const namespaces = (await run(['ip', 'netns', 'list'])).split('\n').filter((line) => line.startsWith('weft-demo'));
  const links = (await run(['ip', '-o', 'link'])).split('\n').filter((line) => line.includes('underlay'));
  return [...namespaces, ...links, ...(existsSync('/run/weft-demo') ? ['/run/weft-demo'] : [])];
}

await t.test('it shows an overlay network and removes it', async (t) => {
  t.same(await remains(), []);
  const startedAt = performance.now();
  const { code, stdout, stderr } = await attempt(demo, { timeoutMs: 2 * DEMO_MS });
  const tookMs = performance.now() - startedAt;
  t.equal(code, 0, stderr);
  t.ok(tookMs < DEMO_MS, `took ${(tookMs / 1000).toFixed(1)} s`);
  t.equal(stdout.match(/ → \w+ .*[\d.]+ ms +[\d.]+ ms/g)?.length, 12, 'twelve pairs answered over IPv4 and IPv6');
  t.equal(stdout.match(/[\d.]+ Gb\/s/g)?.length, 4, 'throughput on one host and across, IPv4 and IPv6');
  t.equal(stdout.match(/^ *Megaflow: /gm)?.length, 2, 'a trace and a kept decision');
  t.notMatch(stdout, /no answer/);
  t.same(await remains(), [], 'nothing is left');
});

await t.test('interrupted, it leaves nothing either', async (t) => {
  const lab = openLab(t);
  const running = lab.start(demo);
  await running.says('weft up on beta', 20_000);
  t.equal(await running.stop('SIGINT', 15_000), 1);
  t.match(running.stderr, /interrupted/);
  t.same(await remains(), []);
});

await t.test('kept, it can be explored and removed with the commands that it prints', async (t) => {
  const text = await run([...demo, '--keep'], { timeoutMs: 2 * DEMO_MS });
  const commands = text
    .slice(text.indexOf('To explore it:'))
    .split('\n')
    .filter((line) => line.startsWith('  '));
  const weft = commands.find((line) => line.trim().startsWith('weft=')) ?? '';
  t.ok(commands.length >= 9, commands.join('\n'));
  for (const command of commands.filter((line) => line !== weft)) {
    const once = command.replace(' ping ', ' ping -c 1 ');
    const { code, stderr } = await attempt(['sh', '-ec', `${weft.trim()}; ${once.trim()}`]);
    t.equal(code, 0, `${command} ${stderr}`);
  }
  t.same(await remains(), []);
});

await t.test('a second one waits for nobody: it says who runs', async (t) => {
  const lab = openLab(t);
  const running = lab.start(demo);
  await running.says('hosts alpha and beta', 10_000);
  const second = await attempt(demo);
  t.equal(second.code, 1);
  t.match(second.stderr, `pid ${running.pid}`);
  await running.stop('SIGTERM', 15_000);
  t.same(await remains(), []);
});
