/**
 * Scale: a thousand endpoints on one host. Attaching the last one takes no longer than attaching
 * the first, and a restart finds all of them again before anybody gives up.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Lab, type Namespace } from '../support/lab.ts';
import { monotonicMs, until } from '../support/process.ts';
import { startProbe } from '../support/restart.ts';
import { Weft } from '../support/weft.ts';
import { mib, residentBytes } from './memory.ts';
import type { Report, Scenario } from './scenario.ts';

const ENDPOINTS = 1000;
const NETWORKS = 20;
/** The last ones to be attached, which are judged. */
const LAST = 100;
const SETTLED_MS = 20_000;
const promises = { attachP50Ms: 30, framesMs: 1500, apiMs: 3000 } as const;

export const scale: readonly Scenario[] = [{ name: `scale/${ENDPOINTS}`, run: (report) => run(report) }];

async function run(report: Report): Promise<void> {
  const lab = new Lab();
  try {
    const host = await lab.namespace('host');
    const weft = await Weft.up(lab, host, 'host', { datapath: 'native' });
    for (let n = 0; n < NETWORKS; n++) {
      await weft.client.createNetwork(`n${n}`, { subnets: [`10.${n}.0.0/16`, `fd00:${n + 1}::/64`] });
    }
    const namespaces = await lab.namespaces(Array.from({ length: ENDPOINTS }, (_, n) => `c${n}`));
    const tookMs: number[] = [];
    for (const [n, namespace] of namespaces.entries()) {
      const startedAt = performance.now();
      await weft.client.attach({ name: `c${n}`, network: `n${n % NETWORKS}`, netns: namespace.name });
      tookMs.push(performance.now() - startedAt);
    }
    report.figure(`attach: p50 of the first ${LAST} ${median(tookMs.slice(0, LAST)).toFixed(1)} ms`);
    const lastMs = median(tookMs.slice(-LAST));
    report.must(
      lastMs <= promises.attachP50Ms,
      `attach: p50 of the last ${LAST} of ${ENDPOINTS} ${lastMs.toFixed(1)} ms`,
    );
    await idle(report, 'after attaching', weft);
    await restart(report, weft, namespaces);
    await idle(report, 'after the restart', weft);
  } finally {
    await lab.close();
  }
}

async function restart(report: Report, weft: Weft, namespaces: readonly Namespace[]): Promise<void> {
  const endpoints = await weft.client.endpoints();
  const [ip4 = ''] = endpoints.find(({ name }) => name === `c${ENDPOINTS - NETWORKS}`)!.addresses;
  const probe = await startProbe(namespaces[0]!, { namespace: namespaces[ENDPOINTS - NETWORKS]!, ip4 });
  await until(() => probe.arrivals().length > 10, { what: 'probes before the kill' });
  await weft.kill();
  const commandedAt = monotonicMs();
  weft.launch();
  const arrivedAt = until(() => probe.arrivals().find((atMs) => atMs > commandedAt), {
    what: 'a probe after the restart',
  });
  await until(async () => (await weft.client.status().catch(() => undefined)) !== undefined, {
    what: 'the API answers',
  });
  const apiMs = monotonicMs() - commandedAt;
  const framesMs = (await arrivedAt) - commandedAt;
  await probe.stop();
  report.must(framesMs <= promises.framesMs, `restart: frames pass after ${framesMs.toFixed(0)} ms`);
  report.must(apiMs <= promises.apiMs, `restart: the API answers after ${apiMs.toFixed(0)} ms`);
  const attached = (await weft.client.endpoints()).filter(({ state }) => state === 'attached').length;
  report.must(attached === ENDPOINTS, `restart: ${attached} of ${ENDPOINTS} are attached`);
}

/** Memory settles after the frames that new interfaces send. */
async function idle(report: Report, when: string, weft: Weft): Promise<void> {
  await delay(SETTLED_MS);
  report.figure(`memory, idle ${when}: ${mib(residentBytes(weft.pid))}`);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
