/** Which process this is, and whether another one still runs. A pid alone is used again. */
import { readFileSync, readlinkSync, statSync } from 'node:fs';

export interface RunningProcess {
  readonly bootId: string;
  /** The namespace in which the pid counts. */
  readonly pidNamespace: string;
  readonly pid: number;
  /** When it started, in clock ticks since the boot. */
  readonly startTicks: string;
  /** Device and inode of its state directory. */
  readonly stateDirectory: string;
}

/** The random id of this boot. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** @param state the path of the state directory */
export function ownProcess(state: string): RunningProcess {
  const { pid } = process;
  const { dev, ino } = statSync(state, { bigint: true });
  return {
    bootId: readBootId(),
    pidNamespace: pidNamespace(),
    pid,
    startTicks: startTicksOf(pid)!,
    stateDirectory: `${dev}/${ino}`,
  };
}

/** Undefined if that cannot be seen from here: it is, or was, on another machine, or in another container. */
export function isRunning({
  bootId,
  pidNamespace: namespace,
  pid,
  startTicks,
}: Omit<RunningProcess, 'stateDirectory'>): boolean | undefined {
  if (bootId !== readBootId() || namespace !== pidNamespace()) return undefined;
  return startTicksOf(pid) === startTicks;
}

function pidNamespace(): string {
  return readlinkSync('/proc/self/ns/pid');
}

/** Undefined if there is no such process. */
function startTicksOf(pid: number): string | undefined {
  try {
    // The name of the program, in parentheses, may contain anything.
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
