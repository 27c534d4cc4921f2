/**
 * Daemons that follow one another under 200 TCP connections which exchange data without a pause.
 *
 *     npm run test:takeover -- [--times 20] [--connections 200] [--datapath native] [--hooks 0]
 *
 * With `--hooks`, so many flow hooks are declared that let everything pass.
 *
 * A quarter of the connections is switched, routed, translated to the outside and published. Fails if a connection
 * breaks, or if the longest time between two exchanges on one connection is more than 300 ms with `up --takeover`; more
 * than 700 ms after kill -9 and a new start, or 300 ms as the median; or, with a new version that fails to start, longer
 * than without one.
 */
import { parseArgs } from 'node:util';
import t from 'tap';
import type { Resource } from '../../src/model/resource.ts';
import { startExchanges, type Exchanges } from '../support/exchanges.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { datapathKinds } from '../support/weft.ts';

const LIMITS_MS = { takeover: 300, kill: 700, killMedian: 300 } as const;
const SETTLE_EXCHANGES = 2000;

const { values } = parseArgs({
  options: {
    times: { type: 'string', default: '20' },
    connections: { type: 'string', default: '200' },
    datapath: { type: 'string' },
    hooks: { type: 'string', default: '0' },
  },
});
const times = Number(values.times);
t.setTimeout(120_000 + times * 60_000);

for (const datapath of datapathKinds.filter((kind) => values.datapath === undefined || values.datapath === kind)) {
  await t.test(datapath, async (t) => {
    const exchanges = await startExchanges(openLab(t), datapath, Math.ceil(Number(values.connections) / 4));
    const { weft } = exchanges;
    for (let n = 0; n < Number(values.hooks); n++) await weft.client.apply([hook(`h${n}`)]);
    await settle(exchanges);
    const quiet = await settle(exchanges);
    t.comment(`without any change: longest stall ${quiet.longestMs.toFixed(0)} ms`);

    const stalls: number[] = [];
    for (let time = 1; time <= times; time++) {
      await weft.takeOver();
      const { longestMs, broken } = await settle(exchanges);
      stalls.push(longestMs);
      t.same(broken, [], `takeover ${time}: no connection breaks`);
      t.ok(longestMs <= LIMITS_MS.takeover, `takeover ${time}: longest stall ${longestMs.toFixed(0)} ms`);
    }
    t.comment(`takeover: ${figures(stalls)}`);

    const kills: number[] = [];
    for (let time = 1; time <= times; time++) {
      await weft.kill();
      await weft.start();
      const { longestMs, broken } = await settle(exchanges);
      kills.push(longestMs);
      t.same(broken, [], `kill ${time}: no connection breaks`);
      t.ok(longestMs <= LIMITS_MS.kill, `kill ${time}: longest stall ${longestMs.toFixed(0)} ms`);
    }
    t.comment(`kill -9: ${figures(kills)}`);
    t.ok(median(kills) <= LIMITS_MS.killMedian, `kill: median ${median(kills).toFixed(0)} ms`);
  });
}

function hook(name: string): Resource {
  const source = `import { defineHook } from 'weft';\nexport default defineHook({ name: '${name}', onFlow() {} });\n`;
  return { apiVersion: 'weft.dev/v1', kind: 'Hook', metadata: { name, labels: {} }, spec: { source, onError: 'deny' } };
}

/** Waits until every way has carried data again. @returns the longest stall of all since the last time */
async function settle({ report }: Exchanges): Promise<{ longestMs: number; broken: string[] }> {
  const sums = new Map<string, number>();
  let longestMs = 0;
  let broken: string[] = [];
  await until(
    async () => {
      const reports = await report();
      broken = [];
      for (const [way, one] of reports) {
        sums.set(way, (sums.get(way) ?? 0) + one.exchanges);
        longestMs = Math.max(longestMs, one.longestMs);
        broken.push(...one.broken.map((why) => `${way}: ${why}`));
      }
      return [...sums.values()].every((sum) => sum >= SETTLE_EXCHANGES);
    },
    { what: 'data on all ways' },
  );
  return { longestMs, broken };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function figures(values: readonly number[]): string {
  return `median ${median(values).toFixed(0)} ms, longest ${Math.max(...values).toFixed(0)} ms of ${values.length}`;
}
