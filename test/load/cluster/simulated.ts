/**
 *   ┌ hosts ──────────────────────────────────────┐
 *   │ etcd                                        │
 *   │ one process: 50 switches, and their wire    │
 *   └─────────────────────────────────────────────┘
 *
 * Many complete switches in one process, on a real etcd: their control planes, pipelines and reference datapaths with five
 * thousand endpoints, on an underlay in memory. All of them share one event loop, so times are those of fifty hosts together.
 */
import { startEtcd } from '../../support/etcd.ts';
import { Lab } from '../../support/lab.ts';
import type { LoadOptions, Report, Scenario } from '../scenario.ts';
import { forkIn } from './players.ts';
import type { SimulatedTold } from './simulated.process.ts';

const REACHABLE_P99_MS = 1000;
const ENDPOINT_BYTES = 2048;

export const simulated: readonly Scenario[] = [{ name: 'cluster/simulated', run }];

async function run(report: Report, { sizes: { simulatedHosts, simulatedEndpoints } }: LoadOptions): Promise<void> {
  const lab = new Lab();
  try {
    const [namespace, containers] = [await lab.namespace('hosts'), await lab.namespace('containers')];
    for (let host = 1; host <= simulatedHosts; host++) await namespace.ip(`addr add 192.0.2.${host}/32 dev lo`);
    const etcd = await startEtcd(lab, { members: [{ namespace, address: '127.0.0.1' }] });
    const args = [`${simulatedHosts}`, `${simulatedEndpoints}`, etcd.url, lab.directory, containers.path];
    const child = forkIn(lab, namespace, 'simulated.process.ts', args, ['--expose-gc', '--max-old-space-size=8192']);
    let failure: string | undefined;
    child.on('message', (told: SimulatedTold) => {
      switch (told.kind) {
        case 'value':
          report.value(told.name, told.value, told.unit);
          break;
        case 'reached':
          report.value('new endpoint reachable from every host, p99', told.p99Ms, 'ms');
          report.must(
            told.p99Ms <= REACHABLE_P99_MS,
            `${told.count} new endpoints are reachable from all of ${simulatedHosts} hosts, p99 after ${told.p99Ms.toFixed(0)} ms`,
          );
          break;
        case 'endpointBytes':
          report.value('memory in use for each endpoint that a host knows', told.bytes, 'bytes');
          report.must(
            told.bytes <= ENDPOINT_BYTES,
            `${told.bytes.toFixed(0)} bytes for each endpoint that a host knows`,
          );
          break;
        case 'failed':
          failure = told.why;
          break;
        default:
          told satisfies never;
      }
    });
    const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
    if (code !== 0) throw new Error(failure ?? `exit ${code}`);
  } finally {
    await lab.close();
  }
}
