/** The programs that the demonstration runs. All of them end when it is interrupted. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { WeftError } from '../../error.ts';
import type { Plan, ScenarioName } from './plan.ts';

/** Generous, for a machine that has other things to do, too. */
const TIMEOUT_MS = 60_000;
const SAYS_MS = 60_000;
const POLL_MS = 20;

/** Required programs, with the Debian package of each. */
const needed = { ip: 'iproute2', nsenter: 'util-linux' } as const;
const neededFor: Readonly<Record<ScenarioName, Readonly<Record<string, string>>>> = {
  basic: { ping: 'iputils-ping', iperf3: 'iperf3' },
  failover: { ping: 'iputils-ping' },
  bookinfo: {},
};
const neededForEtcd = { etcd: 'etcd-server' } as const;

/** @throws WeftError that names what is missing and how to get it */
export function requirePrograms(scenario: ScenarioName, store: Plan['store']): void {
  const all = { ...needed, ...neededFor[scenario], ...(store === 'etcd' && neededForEtcd) };
  const missing = Object.entries(all).filter(([program]) => !isInPath(program));
  if (missing.length === 0) return;
  const programs = missing.map(([program]) => program).join(', ');
  const packages = missing.map(([, name]) => name).join(' ');
  throw new WeftError('system', `weft demo needs ${programs}: install with \`apt-get install ${packages}\``);
}

function isInPath(program: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Runs a command to its end and returns what it printed. @throws WeftError if it fails */
export async function run(command: readonly string[], signal?: AbortSignal): Promise<string> {
  const [file = '', ...args] = command;
  return new Promise((resolve, reject) => {
    execFile(file, args, { timeout: TIMEOUT_MS, ...(signal && { signal }) }, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      const said = (stderr || stdout).trim().split('\n').at(-1) || error.message;
      reject(new WeftError('system', `${command.join(' ')}: ${said}`, { cause: error }));
    });
  });
}

/** Starts a program that continues to run; it gets SIGKILL when `signal` is aborted. */
export function start(command: readonly string[], signal: AbortSignal): ChildProcess {
  const [file = '', ...args] = command;
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'ignore'], signal, killSignal: 'SIGKILL' });
  // The demonstration already notices an abort where it waits; here it would be thrown a second
  // time.
  child.on('error', () => {});
  return child;
}

/** Waits until a program prints `text`. */
export async function says(child: ChildProcess, text: string, signal: AbortSignal): Promise<void> {
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
  await eventually(
    () => {
      if (!output.includes(text)) throw new WeftError('system', `${child.spawnargs.join(' ')} does not say "${text}"`);
      return Promise.resolve();
    },
    SAYS_MS,
    signal,
  );
}

/** Tries again and again until it succeeds. @throws the last failure after `timeoutMs` */
export async function eventually<T>(attempt: () => Promise<T>, timeoutMs: number, signal: AbortSignal): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (signal.aborted || performance.now() > deadline) throw error;
    }
    await delay(POLL_MS, undefined, { signal });
  }
}

/** Looks until there is something, which it returns. @throws WeftError that says what was not there in time */
export async function found<T>(
  look: () => T | Promise<T>,
  { what, timeoutMs, signal }: { readonly what: string; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<NonNullable<T>> {
  return eventually(
    async () => {
      const one = await look();
      if (one) return one;
      throw new WeftError('system', `after ${timeoutMs / 1000} s still not: ${what}`);
    },
    timeoutMs,
    signal,
  );
}
