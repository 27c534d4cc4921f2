/** The memory of a process, for figures and promises. */
import { readFileSync } from 'node:fs';

export const MIB = 1024 * 1024;

/** The resident memory of a process; 0 if it has ended. */
export function residentBytes(pid: number): number {
  try {
    return Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

export function mib(bytes: number): string {
  return `${(bytes / MIB).toFixed(0)} MiB`;
}
