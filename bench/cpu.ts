/** What the machine's CPUs do, and where processes run. */
import { readFileSync } from 'node:fs';
import { run } from '../test/support/process.ts';

/** USER_HZ, which is the same on every Linux that Node.js runs on. */
const TICKS_PER_SECOND = 100;

/** Seconds that all CPUs together have been busy since the machine started: user, nice, system, irq and softirq. */
export function busySeconds(stat: string = readFileSync('/proc/stat', 'utf8')): number {
  const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = (stat.split('\n', 1)[0] ?? '')
    .split(/\s+/)
    .map(Number);
  return (user + nice + system + irq + softirq) / TICKS_PER_SECOND;
}

/**
 * Runs an action while all threads of the given processes are on one CPU, the last
 * one of those allowed; afterwards they may run where they did before.
 * @param action gets what to put before a command that is to run there too
 */
export async function pinned<T>(
  pids: readonly number[],
  action: (prefix: readonly string[]) => Promise<T>,
): Promise<T> {
  const allowed = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const cpu = allowed.split(/[,-]/).at(-1) ?? '0';
  const place = async (cpus: string): Promise<void> => {
    for (const pid of pids) await run(['taskset', '--all-tasks', '--cpu-list', '--pid', cpus, String(pid)]);
  };
  await place(cpu);
  try {
    return await action(['taskset', '--cpu-list', cpu]);
  } finally {
    await place(allowed);
  }
}
