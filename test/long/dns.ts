/**
 *   host ─ weft ─ internal ─ DNS;  web, bad0 … bad9 (red 10.44.0.0/24)
 *
 * `npm run test:dns -- --seconds 60 --seed 1`: damaged questions over UDP and TCP for so long, which must not stop the server or
 * make it throw; then how fast it answers 1,000 questions a second, and how much of the processor 6,000 a second take, from
 * several clients, since each may send so many only; and what is left for one client beside others that send all they can.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import t from 'tap';
import { openLab, type Namespace } from '../support/lab.ts';
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
const FLOODERS = 10;
const LEAST_PER_CORE = 5000;
/** How much more memory the daemon may have after damaged questions. */
const MOST_GROWTH_MIB = 64;
/** The share of questions that is answered beside floods. */
const LEAST_ANSWERED = 0.99;

const flood = {
  UDP: [script('flood.mjs'), GATEWAY, NAME],
  TCP: [script('stream-client.mjs'), 'flood', GATEWAY, NAME, '60'],
};

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

/** What the kernel has lost at weft's own sockets, since they were opened: before they were read, and behind them. */
function lostAtSockets(pid: number): { readonly unread: number; readonly unsent: number } {
  const namespace = (task: string): string => readlinkSync(`${task}/ns/net`);
  const own = readdirSync(`/proc/${pid}/task`)
    .map((id) => `/proc/${pid}/task/${id}`)
    .find((task) => namespace(task) !== namespace(`/proc/${pid}`));
  const [names, values] = readFileSync(`${own}/net/snmp`, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Udp:'))
    .map((line) => line.split(' '));
  const [, device] = /eth0:(.*)/.exec(readFileSync(`${own}/net/dev`, 'utf8'))!;
  return { unread: Number(values![names!.indexOf('RcvbufErrors')]), unsent: Number(device!.trim().split(/ +/)[11]) };
}

function residentMiB(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Math.round(Number(kib) / 1024);
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
    // What is allotted once, such as buffers, is by then.
    await run(script('fuzz.mjs'), GATEWAY, NAME, '0', '20000');
    const before = residentMiB(weft.pid);
    t.comment(await run(script('fuzz.mjs'), GATEWAY, NAME, values.seed, `${values.seconds}s`));
    const after = residentMiB(weft.pid);
    t.comment(`${before} MiB before, ${after} MiB after`);
    t.ok(after - before <= MOST_GROWTH_MIB, `${MOST_GROWTH_MIB} MiB more at most`);
    t.match((await weft.status()).internal, { open: true });
    t.notMatch(weft.log(), /own sockets/, 'nothing was thrown');
  });

  const others: { readonly name: string; readonly namespace: Namespace }[] = [];
  for (let i = 0; i < FLOODERS; i++) {
    const name = `bad${i}`;
    const namespace = await lab.namespace(name);
    await weft.attach(namespace, { name, network: 'red' });
    others.push({ name, namespace });
  }
  const ask = async (from: Namespace, rate: number, seconds: number): Promise<Record<string, number>> => {
    const words = [script('load.mjs'), GATEWAY, NAME, String(rate), String(seconds)];
    return JSON.parse(await from.run([process.execPath, ...words], { timeoutMs: 3_600_000 })) as Record<string, number>;
  };

  await t.test('load', async (t) => {
    for (const clients of [1, 5]) {
      const rate = clients === 1 ? 1000 : 1200;
      const before = threadSeconds(weft.pid);
      const from = others.slice(0, clients).map(({ namespace }) => namespace);
      const reports = await Promise.all(from.map((one) => ask(one, rate, 10)));
      const used = [...threadSeconds(weft.pid)]
        .map(([id, seconds]) => seconds - (before.get(id) ?? 0))
        .sort((a, b) => b - a);
      t.comment(
        `${clients} times ${rate} a second: ${JSON.stringify(reports)}; processor seconds of the busiest threads: ${used
          .slice(0, 3)
          .map((s) => s.toFixed(2))
          .join()}`,
      );
      for (const report of reports) t.equal(report['answered'], report['asked']);
      const asked = reports.reduce((sum, report) => sum + report['asked']!, 0);
      const all = used.reduce((sum, seconds) => sum + seconds, 0);
      t.comment(`${Math.round(asked / all)} a second of all threads together`);
      if (clients > 1) t.ok(asked / all >= LEAST_PER_CORE, `${LEAST_PER_CORE} a second and core`);
    }
  });

  for (const [protocol, count] of [
    ['UDP', 1],
    ['UDP', FLOODERS],
    ['TCP', 1],
  ] as const) {
    await t.test(`beside ${count} that send all they can over ${protocol}`, async (t) => {
      const flooders = others.slice(0, count);
      const floods = flooders.map(({ namespace }) =>
        // They are to take the sockets, and not the processor.
        namespace.start(['nice', '-n', '19', process.execPath, ...flood[protocol]]),
      );
      await until(() => floods.every(({ lines }) => lines.length > 0), { what: 'all have begun', timeoutMs: 60_000 });
      const before = await weft.drops('web');
      const lost = lostAtSockets(weft.pid);
      const { asked, answered, ...times } = await ask(web, 200, 20);
      t.comment(`${answered} of ${asked} were answered: ${JSON.stringify(times)}`);
      for (const one of floods) await one.stop('SIGKILL');
      t.ok(answered! >= LEAST_ANSWERED * asked!, `${answered} of ${asked} were answered`);
      t.same(lostAtSockets(weft.pid), lost, 'the kernel has lost none of anybody');
      if (protocol === 'UDP')
        for (const { name } of flooders) t.ok((await weft.drops(name))['rate_limit_sockets'], `${name} was held back`);
      const after = await weft.drops('web');
      t.equal(after['rate_limit_sockets'], before['rate_limit_sockets'], 'and nobody else');
    });
  }
});
