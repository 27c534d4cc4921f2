/** What a figure depends on besides the code; recorded with every run. */
import { cpus, release, totalmem } from 'node:os';
import { run } from '../test/support/process.ts';
import { version } from '../src/package.ts';
import type { Results } from './results.ts';

export function machine(): Results['machine'] {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cpus: processors.length,
    memoryBytes: totalmem(),
    kernel: release(),
  };
}

export async function versions(withOvs: boolean): Promise<Results['versions']> {
  const firstVersion = async (command: readonly string[]): Promise<string> =>
    /\d+\.\d+(?:\.\d+)?/.exec(await run(command))?.[0] ?? 'unknown';
  return {
    weft: version,
    node: process.versions.node,
    iperf3: await firstVersion(['iperf3', '--version']),
    ...(withOvs ? { openvswitch: await firstVersion(['ovs-vswitchd', '--version']) } : {}),
  };
}
