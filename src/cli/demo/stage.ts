/**
 * The stage of the demonstration: two hosts and four containers, all of them
 * network namespaces of this machine.
 *
 *   ┌ host alpha ──────────────┐            ┌ host beta ───────────────┐
 *   │ web ─┐                   │  underlay  │                   ┌─ api  │
 *   │      ├─ weft ── VXLAN ───┼────────────┼─── VXLAN ── weft ─┤       │
 *   │ db ──┘         192.0.2.1 │    veth    │ 192.0.2.2         └─ cache│
 *   └──────────────────────────┘            └──────────────────────────┘
 *
 * Everything has a fixed name, so that a later run finds and removes what an earlier one has
 * left because it was killed. One that was kept on purpose is never removed by another.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, closeSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '../../api/client.ts';
import { WeftError } from '../../error.ts';
import { eventually, run } from './commands.ts';

export const directory = '/run/weft-demo';
const prefix = 'weft-demo-';
const ownerFile = join(directory, 'demo.pid');
const READY_MS = 60_000;
const STOP_MS = 20_000;

export interface Host {
  readonly name: string;
  readonly underlay: string;
  readonly peer: string;
  /** Its own shares of the subnets. */
  readonly ranges: readonly string[];
  readonly containers: readonly string[];
}

export const hosts: readonly [Host, Host] = [
  {
    name: 'alpha',
    underlay: '192.0.2.1',
    peer: '192.0.2.2',
    ranges: ['10.0.0.10-10.0.0.19', 'fd00::10-fd00::19'],
    containers: ['web', 'db'],
  },
  {
    name: 'beta',
    underlay: '192.0.2.2',
    peer: '192.0.2.1',
    ranges: ['10.0.0.20-10.0.0.29', 'fd00::20-fd00::29'],
    containers: ['api', 'cache'],
  },
];

export const network = { name: 'demo', subnets: ['10.0.0.0/24', 'fd00::/64'], vni: 100 } as const;

export function namespaceOf(name: string): string {
  return prefix + name;
}

/** The command inside the namespace of a host or container. */
export function inside(name: string, command: readonly string[]): string[] {
  return ['nsenter', `--net=/run/netns/${namespaceOf(name)}`, ...command];
}

export function socketOf(host: Host): string {
  return join(directory, `${host.name}.sock`);
}

/** How this executable was started, to start it again. */
export const weft: readonly string[] = [process.execPath, ...process.execArgv, process.argv[1] ?? ''];

/** Claims the stage: removes what a killed demonstration has left. @throws WeftError while another runs or is kept */
export async function claim(): Promise<'clean' | 'cleaned'> {
  const owner = existsSync(ownerFile) ? Number(readFileSync(ownerFile, 'utf8')) : 0;
  if (owner !== 0 && commandLine(owner).includes('demo')) {
    throw new WeftError('conflict', `another weft demo runs (pid ${owner}): wait for it or end it first`);
  }
  const kept = owner === 0 ? hosts.filter(isRunning) : [];
  if (kept.length > 0) {
    const pids = kept.map((host) => pidOf(host)).join(' and ');
    const mend = kept.map((host) => `\`weft --socket ${socketOf(host)} down\``).join(' and ');
    throw new WeftError('conflict', `a weft demo that was kept runs (pid ${pids}): end it with ${mend}`);
  }
  const left = existsSync(directory) || namespaces().length > 0;
  if (left) await clear();
  mkdirSync(directory, { mode: 0o700 });
  writeFileSync(ownerFile, String(process.pid));
  return left ? 'cleaned' : 'clean';
}

/** Leaves everything running and gives up the claim. */
export function release(): void {
  rmSync(ownerFile, { force: true });
}

/** The hosts and the cable between them. */
export async function buildUnderlay(signal: AbortSignal): Promise<void> {
  const [alpha, beta] = hosts;
  for (const { name } of hosts) await addNamespace(name, signal);
  await run(
    [
      ...['ip', 'link', 'add', 'underlay', 'netns', namespaceOf(alpha.name), 'type', 'veth'],
      ...['peer', 'name', 'underlay', 'netns', namespaceOf(beta.name)],
    ],
    signal,
  );
  for (const { name, underlay } of hosts) {
    await run(['ip', '-n', namespaceOf(name), 'addr', 'add', `${underlay}/24`, 'dev', 'underlay'], signal);
    await run(['ip', '-n', namespaceOf(name), 'link', 'set', 'underlay', 'up'], signal);
  }
}

export async function addNamespace(name: string, signal: AbortSignal): Promise<void> {
  await run(['ip', 'netns', 'add', namespaceOf(name)], signal);
  await run(['ip', '-n', namespaceOf(name), 'link', 'set', 'lo', 'up'], signal);
}

/** Starts `weft up` on a host and waits until it forwards. Its log is a file beside the socket. */
export async function startDaemon(host: Host, signal: AbortSignal): Promise<void> {
  const logFile = join(directory, `${host.name}.log`);
  const log = openSync(logFile, 'w');
  const [file = '', ...args] = inside(host.name, [
    ...weft,
    ...['--socket', socketOf(host), 'up', '--host', host.name, '--state', join(directory, `${host.name}.state`)],
    ...['--underlay', host.underlay, '--peer', host.peer],
  ]);
  // In a process group of its own: the demonstration handles Ctrl-C, and a daemon that is kept outlives
  // it.
  const daemon = spawn(file, args, { stdio: ['ignore', 'ignore', log], detached: true });
  closeSync(log);
  daemon.unref();
  daemon.on('error', () => {});
  writeFileSync(pidFile(host), String(daemon.pid));
  const client = new Client(socketOf(host));
  await eventually(
    async () => {
      if (daemon.exitCode !== null) return;
      if (!(await client.status()).forwarding) throw new WeftError('system', `weft on ${host.name} does not forward`);
    },
    READY_MS,
    signal,
  );
  if (daemon.exitCode !== null) {
    const said = readFileSync(logFile, 'utf8').trim().split('\n').at(-1) ?? '';
    throw new WeftError('system', `weft up on ${host.name}: ${said}`);
  }
}

/** Ends the daemons, and removes namespaces (with their interfaces) and files. Works on whatever is left. */
export async function clear(): Promise<void> {
  await Promise.all(hosts.map(stopDaemon));
  for (const name of namespaces()) await run(['ip', 'netns', 'del', name]);
  rmSync(directory, { recursive: true, force: true });
}

async function stopDaemon(host: Host): Promise<void> {
  const pid = pidOf(host);
  if (pid === undefined) return;
  const stopped = async (): Promise<void> => {
    if (isRunning(host)) throw new WeftError('system', `weft up on ${host.name} (pid ${pid}) does not stop`);
  };
  if (isRunning(host)) process.kill(pid, 'SIGTERM');
  const never = new AbortController().signal;
  await eventually(stopped, STOP_MS, never).catch(async () => {
    process.kill(pid, 'SIGKILL');
    await eventually(stopped, STOP_MS, never);
  });
}

function namespaces(): string[] {
  const directory = '/run/netns';
  const known = hosts.flatMap(({ name, containers }) => [name, ...containers]).map(namespaceOf);
  return existsSync(directory) ? readdirSync(directory).filter((name) => known.includes(name)) : [];
}

/** Is its daemon running? The number may belong to another process by now. */
function isRunning(host: Host): boolean {
  const pid = pidOf(host);
  return pid !== undefined && commandLine(pid).includes(socketOf(host));
}

/** The pid of its daemon, which may have ended; undefined if none was started. */
function pidOf(host: Host): number | undefined {
  return existsSync(pidFile(host)) ? Number(readFileSync(pidFile(host), 'utf8')) : undefined;
}

function pidFile(host: Host): string {
  return join(directory, `${host.name}.pid`);
}

/** The command line of a process; empty if there is none (or only a zombie). */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
