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

/** Where the programs of a load and the switch run. */
export type Placement = 'together' | 'apart' | 'anywhere';

/**
 * Runs an action while all threads of the given processes, which are the switch, are pinned;
 * afterwards they may run where they did before. `together`: on the last of the allowed CPUs,
 * and so do the programs of the action. `apart`: on the first one, and the programs on the
 * last. `anywhere`: as the scheduler pleases.
 * @param action gets the words to put in front of a command that is one of its programs
 */
export async function placed<T>(
  placement: Placement,
  pids: readonly number[],
  action: (prefix: readonly string[]) => Promise<T>,
): Promise<T> {
  if (placement === 'anywhere') return action([]);
  const allowed = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const cpus = allowed.split(/[,-]/);
  const [first = '0', last = '0'] = [cpus.at(0), cpus.at(-1)];
  if (placement === 'apart' && first === last) throw new Error('the switch apart from its load needs two CPUs');
  const place = async (on: string): Promise<void> => {
    for (const pid of pids) await run(['taskset', '--all-tasks', '--cpu-list', '--pid', on, String(pid)]);
  };
  await place(placement === 'apart' ? first : last);
  try {
    return await action(['taskset', '--cpu-list', last]);
  } finally {
    await place(allowed);
  }
}
