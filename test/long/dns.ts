/**
 *   host ─ weft ─ internal ─ DNS;  web (red 10.44.0.0/24)
 *
 * `npm run test:dns -- --seconds 60 --seed 1`: damaged questions over UDP and TCP for so long, which must not stop the server or
 * make it throw; then how many questions a second it answers, and how fast at 1,000 a second.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(3_600_000);

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string', default: '1' } },
});
const script = (name: string): string => fileURLToPath(new URL(`../discovery/${name}`, import.meta.url));
const GATEWAY = '10.44.0.1';
const NAME = 'web.red.weft';
const TICKS_A_SECOND = 100;

/** Seconds of processor that each thread has used, by id. */
function threadSeconds(pid: number): Map<string, number> {
  return new Map(
    readdirSync(`/proc/${pid}/task`).map((id) => {
      const words = readFileSync(`/proc/${pid}/task/${id}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
      return [id, (Number(words[11]) + Number(words[12])) / TICKS_A_SECOND];
    }),
  );
}

t.test('the DNS server', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const weft = await Weft.up(lab, host, 'host', { datapath: 'native' });
  await weft.createNetwork('red --subnet 10.44.0.0/24');
  const web = await lab.namespace('web');
  await weft.attach(web, { network: 'red' });
  const run = (...words: readonly string[]) => web.run([process.execPath, ...words], { timeoutMs: 3_600_000 });
  await until(async () => (await weft.status()).internal?.open, { what: 'it is open' });

  await t.test('damaged questions', async (t) => {
    t.comment(await run(script('fuzz.mjs'), GATEWAY, NAME, values.seed, `${values.seconds}s`));
    t.match((await weft.status()).internal, { open: true });
    t.notMatch(weft.log(), /own sockets/, 'nothing was thrown');
  });

  await t.test('load', async (t) => {
    for (const rate of ['1000', 'max']) {
      const before = threadSeconds(weft.pid);
      const report = JSON.parse(await run(script('load.mjs'), GATEWAY, NAME, rate, '10')) as Record<string, number>;
      const used = [...threadSeconds(weft.pid)]
        .map(([id, seconds]) => seconds - (before.get(id) ?? 0))
        .sort((a, b) => b - a);
      t.comment(
        `${rate} a second: ${JSON.stringify(report)}; processor seconds of the busiest threads: ${used
          .slice(0, 3)
          .map((s) => s.toFixed(2))
          .join()}`,
      );
      t.equal(report['answered'], report['asked']);
    }
  });
});
