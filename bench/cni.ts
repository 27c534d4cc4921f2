/**
 *     npm run bench:cni -- [--adds 100]
 *
 * What a container runtime waits for: weft's CNI plugin beside Debian's bridge plugin with host-local, in one run. Each ADD gets a
 * namespace of its own that is there already, and the two take turns. What they have made is there until the end.
 *
 * Exit code: 1 if weft takes longer than it may (`BOUNDS`).
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Lab } from '../test/support/lab.ts';
import { Weft } from '../test/support/weft.ts';

/** Milliseconds, and factors. */
const BOUNDS = { version: 10, medianToPeer: 1.3, slowestToMedian: 3 } as const;
const BRIDGE = '/usr/lib/cni';
const TIMER = fileURLToPath(new URL('cni-timer.mjs', import.meta.url));
const WARM = 5;

interface Call {
  readonly plugin: string;
  readonly env: Readonly<Record<string, string>>;
  readonly config: string;
}
interface Outcome {
  readonly ms: number;
  readonly status: number;
  readonly stdout: string;
}

const { values } = parseArgs({ options: { adds: { type: 'string', default: '100' } } });
const count = Number(values.adds);
const lab = new Lab();
try {
  process.exitCode = (await bench()) ? 0 : 1;
} finally {
  await lab.close();
}

async function bench(): Promise<boolean> {
  const host = await lab.namespace('host');
  const weft = await Weft.up(lab, host, 'host', { datapath: 'native' });
  await weft.createNetwork('blue --subnet 10.44.0.0/16');
  const directory = join(lab.directory, 'plugins');
  mkdirSync(directory);
  await weft.run('cni', 'install', '--dir', directory);
  const configs = {
    weft: { type: 'weft', network: 'blue', socket: weft.socket },
    bridge: {
      ...{ type: 'bridge', bridge: 'bench0', isGateway: true },
      ipam: { type: 'host-local', dataDir: join(lab.directory, 'host-local'), ranges: [[{ subnet: '10.45.0.0/16' }]] },
    },
  } as const;
  type System = keyof typeof configs;
  const systems: readonly System[] = ['weft', 'bridge'];
  const call = (system: System, command: string, env: Readonly<Record<string, string>> = {}): Call => ({
    plugin: join(system === 'weft' ? directory : BRIDGE, system),
    env: { CNI_COMMAND: command, CNI_PATH: BRIDGE, PATH: process.env['PATH'] ?? '', ...env },
    config: JSON.stringify({ cniVersion: '1.0.0', name: system, ...configs[system] }),
  });
  const time = async (calls: readonly Call[]): Promise<Outcome[]> => {
    const input = JSON.stringify(calls);
    const outcomes = JSON.parse(await host.run([process.execPath, TIMER], { input })) as Outcome[];
    const failed = outcomes.find(({ status }) => status !== 0);
    if (failed) throw new Error(`a plugin fails: ${failed.stdout}`);
    return outcomes;
  };

  const roles = Array.from({ length: count + WARM }, (_, i) => systems.map((system) => `${system}${i}`)).flat();
  const namespaces = await lab.namespaces(roles);
  const adds = namespaces.map(({ path }, i) =>
    call(systems[i % 2]!, 'ADD', { CNI_CONTAINERID: `c${i}`, CNI_NETNS: path, CNI_IFNAME: 'eth0' }),
  );
  const added = (await time(adds)).slice(2 * WARM).map(({ ms }) => ms);
  const versions = await time(roles.slice(2 * WARM).map((_, i) => call(systems[i % 2]!, 'VERSION')));
  const of = (all: readonly number[], system: System): number[] =>
    all.filter((_, i) => systems[i % 2] === system).toSorted((a, b) => a - b);

  const rows = systems.map((system) => {
    const [add, version] = [
      of(added, system),
      of(
        versions.map(({ ms }) => ms),
        system,
      ),
    ];
    return { system, version: quantile(version, 0.5), median: quantile(add, 0.5), slowest: quantile(add, 0.99) };
  });
  const [own, peer] = rows as [(typeof rows)[number], (typeof rows)[number]];
  const ratio = own.median / peer.median;
  const spread = own.slowest / own.median;
  const line = (cells: readonly string[]): string => `${cells.map((cell) => cell.padEnd(14)).join('')}\n`;
  process.stdout.write(line(['', 'VERSION p50', `${count} ADDs p50`, 'p99']));
  for (const { system, ...figures } of rows) {
    process.stdout.write(line([system, ...Object.values(figures).map((ms) => `${ms.toFixed(1)} ms`)]));
  }
  process.stdout.write(
    `ADD: ${ratio.toFixed(2)} times the bridge plugin (at most ${BOUNDS.medianToPeer}), p99 ${spread.toFixed(2)} times its p50 (at most ${BOUNDS.slowestToMedian})\n`,
  );
  return own.version <= BOUNDS.version && ratio <= BOUNDS.medianToPeer && spread <= BOUNDS.slowestToMedian;
}

function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)]!;
}
