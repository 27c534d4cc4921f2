/** What the operating system knows about this process. */
import { readdir, readFile } from 'node:fs/promises';

export interface ProcessFacts {
  readonly cpuSeconds: number;
  readonly openDescriptors: number;
  /** Undefined if there is no limit. */
  readonly mostDescriptors: number | undefined;
}

export async function processFacts(): Promise<ProcessFacts> {
  const [descriptors, limits] = await Promise.all([readdir('/proc/self/fd'), readFile('/proc/self/limits', 'utf8')]);
  const [, most] = /^Max open files\s+(\d+)/m.exec(limits) ?? [];
  const { user, system } = process.cpuUsage();
  return {
    cpuSeconds: (user + system) / 1e6,
    // One of them is open only to read the directory.
    openDescriptors: descriptors.length - 1,
    mostDescriptors: most === undefined ? undefined : Number(most),
  };
}
