/** Programs whose clock is not that of the machine. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Lab } from './lab.ts';

const SOURCE = fileURLToPath(new URL('shifted_clock.c', import.meta.url));

/** @returns a command that runs another one, whose clock is that much ahead */
export function withClock(lab: Lab, aheadS: number): string[] {
  const library = join(lab.directory, 'shifted_clock.so');
  execFileSync('gcc', ['-shared', '-fPIC', '-O2', '-Wall', '-Wextra', '-o', library, SOURCE]);
  return ['env', `LD_PRELOAD=${library}`, `SHIFT_S=${aheadS}`];
}
