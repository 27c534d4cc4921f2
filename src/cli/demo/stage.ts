/**
 * The stage of the demonstration: hosts and containers, all of them network namespaces of this machine.
 *
 *   ┌ host alpha ──────────────┐            ┌ host beta ───────────────┐
 *   │ web ─┐                   │  underlay  │                   ┌─ api  │
 *   │      ├─ weft ── VXLAN ───┼────────────┼─── VXLAN ── weft ─┤       │
 *   │ db ──┘         192.0.2.1 │    veth    │ 192.0.2.2         └─ cache│
 *   └──────────────────────────┘            └──────────────────────────┘
 *
 * Two hosts are joined by a cable. More of them, or hosts with an etcd, are joined by a bridge in a namespace of its own
 * (`hub`), where the etcd runs, too.
 *
 * Everything has a fixed name, so that a later run finds and removes what an earlier one has
 * left because it was killed. One that was kept on purpose is never removed by another.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Client } from '../../api/client.ts';
import { WeftError } from '../../error.ts';
import { packageRoot } from '../../package.ts';
import { eventually, run } from './commands.ts';
import type { Host, Plan } from './plan.ts';

export const directory = '/run/weft-demo';
const prefix = 'weft-demo-';
const NAMESPACES = '/run/netns';
/** What `ip netns exec` puts in the place of files in /etc, by namespace. */
const SETTINGS = '/etc/netns';
const ownerFile = join(directory, 'demo.pid');
const READY_MS = 60_000;
const STOP_MS = 20_000;

/** The namespace with the bridge, and its address there. */
const HUB = 'hub';
const HUB_ADDRESS = '192.0.2.254';
const ETCD = 'etcd';
const ETCD_URL = `http://${HUB_ADDRESS}:2379`;
const dataOfEtcd = join(directory, 'etcd');
/** What etcd logs when it answers. */
const ETCD_READY = 'serving client traffic';
/** What the programs of the examples say then. */
const PROGRAM_READY = 'listens on port';
const examples = join(packageRoot, 'examples');

export function namespaceOf(name: string): string {
  return prefix + name;
}

/** The command inside the network namespace of a host or container. */
export function inside(name: string, command: readonly string[]): string[] {
  return ['nsenter', `--net=${join(NAMESPACES, namespaceOf(name))}`, ...command];
}

export function socketOf({ name }: Pick<Host, 'name'>): string {
  return join(directory, `${name}.sock`);
}

/** How this executable was started, to start it again. */
export const weft: readonly string[] = [process.execPath, ...process.execArgv, process.argv[1] ?? ''];

/** Whether the directory of all settings stays: it was there before, or that is not known. */
let hadSettings = true;

/** Claims the stage: removes what a killed demonstration has left. @throws WeftError while another runs or is kept */
export async function claim(): Promise<'clean' | 'cleaned'> {
  const owner = existsSync(ownerFile) ? Number(readFileSync(ownerFile, 'utf8')) : 0;
  if (owner !== 0 && commandLine(owner).includes('demo')) {
    throw new WeftError('conflict', `another weft demo runs (pid ${owner}): wait for it or end it first`);
  }
  const kept = owner === 0 ? started().filter(isRunning) : [];
  if (kept.length > 0) {
    const pids = kept.map((name) => pidOf(name)).join(' and ');
    const mend = kept.map(endText).join(' and ');
    throw new WeftError('conflict', `a weft demo that was kept runs (pid ${pids}): end it with ${mend}`);
  }
  const left = existsSync(directory) || namespaces().length > 0;
  if (left) await clear();
  hadSettings = existsSync(SETTINGS);
  mkdirSync(directory, { mode: 0o700 });
  writeFileSync(ownerFile, String(process.pid));
  return left ? 'cleaned' : 'clean';
}

/** Leaves everything running and gives up the claim. */
export function release(): void {
  rmSync(ownerFile, { force: true });
}

/** The hosts, and what joins them. */
export async function buildUnderlay({ hosts, store }: Plan, signal: AbortSignal): Promise<void> {
  for (const { name } of hosts) await addNamespace(name, signal);
  const ip = (name: string, words: string): Promise<string> =>
    run(['ip', '-n', namespaceOf(name), ...words.split(' ')], signal);
  const [first, second] = hosts as [Host, Host];
  if (hosts.length === 2 && store === 'embedded') {
    const other = `netns ${namespaceOf(second.name)}`;
    await ip(first.name, `link add underlay type veth peer name underlay ${other}`);
  } else {
    await addNamespace(HUB, signal);
    await ip(HUB, 'link add bridge type bridge');
    await ip(HUB, `addr add ${HUB_ADDRESS}/24 dev bridge`);
    await ip(HUB, 'link set bridge up');
    for (const { name } of hosts) {
      await ip(HUB, `link add ${name} type veth peer name underlay netns ${namespaceOf(name)}`);
      await ip(HUB, `link set ${name} master bridge up`);
    }
  }
  for (const { name, underlay } of hosts) {
    await ip(name, `addr add ${underlay}/24 dev underlay`);
    await ip(name, 'link set underlay up');
  }
}

export async function addNamespace(name: string, signal: AbortSignal): Promise<void> {
  await run(['ip', 'netns', 'add', namespaceOf(name)], signal);
  await run(['ip', '-n', namespaceOf(name), 'link', 'set', 'lo', 'up'], signal);
}

/** Starts etcd at the bridge, and waits until it answers. */
export async function startEtcd(signal: AbortSignal): Promise<void> {
  const peerUrl = 'http://127.0.0.1:2380';
  const etcd = launchNamed(
    ETCD,
    inside(HUB, [
      ...['etcd', '--name', 'demo', '--data-dir', dataOfEtcd],
      ...['--listen-client-urls', ETCD_URL, '--advertise-client-urls', ETCD_URL],
      ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
      ...['--initial-cluster', `demo=${peerUrl}`],
      ...['--logger', 'zap', '--log-outputs', 'stderr', '--log-level', 'info'],
    ]),
  );
  await ready(ETCD, etcd, signal, async () => {
    if (!logOf(ETCD).includes(ETCD_READY)) throw new WeftError('system', 'etcd does not answer');
  });
}

/** Starts `weft up` on a host and waits until it forwards. Its log is a file beside the socket. */
export async function startDaemon(host: Host, { store }: Plan, signal: AbortSignal): Promise<void> {
  const { name, underlay, peers } = host;
  const daemon = launchNamed(
    name,
    inside(name, [
      ...weft,
      ...['--socket', socketOf(host), 'up', '--host', name, '--state', join(directory, `${name}.state`)],
      ...['--underlay', underlay, ...peers.flatMap((peer) => ['--peer', peer])],
      ...(store === 'etcd' ? ['--store', ETCD_URL.replace('http:', 'etcd:')] : []),
    ]),
  );
  const client = new Client(socketOf(host));
  await ready(`weft up on ${name}`, daemon, signal, async () => {
    if (!(await client.status()).forwarding) throw new WeftError('system', `weft on ${name} does not forward`);
  });
}

/** Starts a program of an example in a container, and waits until it says that it listens. Its log is in a file, too. */
export async function startProgram(
  name: string,
  command: readonly string[],
  signal: AbortSignal,
): Promise<ChildProcess> {
  const program = launch(name, command);
  await ready(name, program, signal, async () => {
    if (!logOf(name).includes(PROGRAM_READY)) throw new WeftError('system', `${name} does not listen`);
  });
  return program;
}

/** A host loses its power: nothing comes from it any more, in the middle of everything, and its daemon is gone. */
export async function cutPower({ name }: Host, signal: AbortSignal): Promise<void> {
  await run(['ip', '-n', namespaceOf(HUB), 'link', 'set', name, 'down'], signal);
  const pid = pidOf(name)!;
  process.kill(pid, 'SIGKILL');
  await eventually(
    async () => {
      if (isRunning(name)) throw new WeftError('system', `weft on ${name} (pid ${pid}) does not die`);
    },
    STOP_MS,
    signal,
  );
}

/** It has power again; the daemon has to be started. */
export async function restorePower({ name }: Host, signal: AbortSignal): Promise<void> {
  await run(['ip', '-n', namespaceOf(HUB), 'link', 'set', name, 'up'], signal);
}

/** Ends the programs, and removes namespaces (with their interfaces) and files. Works on whatever is left. */
export async function clear(): Promise<void> {
  // The daemons first: they sign off in the store.
  await Promise.all(
    started()
      .filter((name) => name !== ETCD)
      .map(stop),
  );
  if (started().includes(ETCD)) await stop(ETCD);
  await endPrograms();
  for (const name of namespaces()) {
    await run(['ip', 'netns', 'del', name]);
    rmSync(settingsOf(name), { recursive: true, force: true });
  }
  if (!hadSettings && existsSync(SETTINGS) && readdirSync(SETTINGS).length === 0) rmdirSync(SETTINGS);
  rmSync(directory, { recursive: true, force: true });
}

/** Daemons leave it there for the next ones. */
function settingsOf(namespace: string): string {
  return join(SETTINGS, namespace);
}

/** The commands that remove what was kept, for people: each is a line. */
export function removal({ hosts, store }: Plan): string[] {
  const kill = store === 'etcd' ? [`kill ${pidOf(ETCD)}`] : [];
  const all = namespaces().map((name) => name.slice(prefix.length));
  return [
    ...hosts.map((host) => `$weft --socket ${socketOf(host)} down`),
    ...kill,
    `for n in ${all.join(' ')}; do ip netns pids ${namespaceOf('$n')} | xargs -r kill; ip netns del ${namespaceOf('$n')}; rm -rf ${settingsOf(namespaceOf('$n'))}; done; rm -r ${directory}`,
  ];
}

/**
 * Starts a program, with its log in a file. It is in a process group of its own: the demonstration handles Ctrl-C, and one
 * that is kept outlives it.
 */
function launch(name: string, command: readonly string[]): ChildProcess {
  const log = openSync(logFile(name), 'w');
  const [file = '', ...args] = command;
  const child = spawn(file, args, { stdio: ['ignore', log, log], detached: true });
  closeSync(log);
  child.unref();
  child.on('error', () => {});
  return child;
}

/** The same, and whoever has only the name finds it again. */
function launchNamed(name: string, command: readonly string[]): ChildProcess {
  const child = launch(name, command);
  writeFileSync(pidFile(name), String(child.pid));
  return child;
}

/** @throws WeftError with the last line of its log if it ends instead */
async function ready(
  what: string,
  child: ChildProcess,
  signal: AbortSignal,
  attempt: () => Promise<void>,
): Promise<void> {
  const hasEnded = (): boolean => child.exitCode !== null || child.pid === undefined;
  await eventually(async () => (hasEnded() ? undefined : attempt()), READY_MS, signal);
  if (!hasEnded()) return;
  const name = what.replace('weft up on ', '');
  throw new WeftError('system', `${what}: ${logOf(name).trim().split('\n').at(-1) ?? ''}`);
}

async function stop(name: string): Promise<void> {
  const pid = pidOf(name);
  if (pid === undefined) return;
  const stopped = async (): Promise<void> => {
    if (isRunning(name)) throw new WeftError('system', `${name} (pid ${pid}) does not stop`);
  };
  if (isRunning(name)) process.kill(pid, 'SIGTERM');
  const never = new AbortController().signal;
  await eventually(stopped, STOP_MS, never).catch(async () => {
    process.kill(pid, 'SIGKILL');
    await eventually(stopped, STOP_MS, never);
  });
}

/** Ends the programs of examples that run in the namespaces, whoever has started them. */
async function endPrograms(): Promise<void> {
  const places = new Set(namespaces().map((name) => inodeOf(join(NAMESPACES, name))));
  const running = (): number[] =>
    readdirSync('/proc')
      .map(Number)
      .filter((pid) => pid > 0 && commandLine(pid).includes(examples) && places.has(inodeOf(`/proc/${pid}/ns/net`)));
  const ended = async (): Promise<void> => {
    const left = running();
    for (const pid of left) process.kill(pid, 'SIGKILL');
    if (left.length > 0) throw new WeftError('system', `programs of an example do not end (pid ${left.join(', ')})`);
  };
  await eventually(ended, STOP_MS, new AbortController().signal);
}

/** Undefined if it is not there any more. */
function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

function namespaces(): string[] {
  return existsSync(NAMESPACES) ? readdirSync(NAMESPACES).filter((name) => name.startsWith(prefix)) : [];
}

/** The names of what was started and may run: hosts, and the etcd. */
function started(): string[] {
  if (!existsSync(directory)) return [];
  const files = readdirSync(directory).filter((file) => file.endsWith('.pid') && join(directory, file) !== ownerFile);
  return files.map((file) => file.replace(/\.pid$/, '')).sort();
}

function endText(name: string): string {
  return name === ETCD ? `\`kill ${pidOf(name)}\`` : `\`weft --socket ${socketOf({ name })} down\``;
}

/** Is it running? The number may belong to another process by now. */
function isRunning(name: string): boolean {
  const pid = pidOf(name);
  return pid !== undefined && commandLine(pid).includes(name === ETCD ? dataOfEtcd : socketOf({ name }));
}

/** The pid of what was started, which may have ended. */
function pidOf(name: string): number | undefined {
  return existsSync(pidFile(name)) ? Number(readFileSync(pidFile(name), 'utf8')) : undefined;
}

function pidFile(name: string): string {
  return join(directory, `${name}.pid`);
}

function logFile(name: string): string {
  return join(directory, `${name}.log`);
}

function logOf(name: string): string {
  return readFileSync(logFile(name), 'utf8');
}

/** The command line of a process; empty if there is none (or only a zombie). */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
