/**
 * A lab: network namespaces with veth cables between them, programs that run in them, and a
 * directory for their files.
 *
 * Everything has a name of its own (with the test's process id), so labs can exist side by side.
 * `close` removes all of it, in any state, and fails if something remains; it also runs when the
 * test fails, throws or is interrupted. Only processes that the lab started are ended, by their
 * pid.
 */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { attempt, Background, isAlive, run, until, type Result, type RunOptions } from './process.ts';

const open = new Set<Lab>();
let count = 0;
let isWatching = false;

/** A lab that is closed when the test ends; a leak or an unclean stop fails the test. */
export function openLab(t: Test): Lab {
  const lab = new Lab();
  t.teardown(async () => {
    if (!t.passing()) lab.logs().forEach((text) => t.comment(text));
    await lab.close();
  });
  return lab;
}

/** A network namespace of a lab. */
export class Namespace {
  readonly name: string;
  readonly path: string;
  readonly #lab: Lab;

  /** Use `Lab.namespace`. */
  constructor(lab: Lab, name: string) {
    this.#lab = lab;
    this.name = name;
    this.path = `/run/netns/${name}`;
  }

  /** Runs a command that must succeed; returns its standard output. */
  run(command: readonly string[], options?: RunOptions): Promise<string> {
    return run(this.inside(command), options);
  }

  /** Runs a command, whatever its exit code. */
  attempt(command: readonly string[], options?: RunOptions): Promise<Result> {
    return attempt(this.inside(command), options);
  }

  /** Starts a program that continues to run. */
  start(command: readonly string[]): Background {
    return this.#lab.start(this.inside(command));
  }

  /** `ip` in this namespace: `ip('link set lo up')`. */
  ip(words: string): Promise<string> {
    return run(['ip', '-n', this.name, ...words.split(' ')]);
  }

  /** Names of its links, without the loopback. */
  async links(): Promise<string[]> {
    const links = JSON.parse(await run(['ip', '-n', this.name, '-j', 'link'])) as { ifname: string }[];
    return links.map((link) => link.ifname).filter((name) => name !== 'lo');
  }

  /** `nsenter` replaces itself with the command, so its pid is the pid of the command. */
  inside(command: readonly string[]): string[] {
    return ['nsenter', `--net=${this.path}`, ...command];
  }
}

export class Lab {
  readonly directory: string;
  readonly #prefix: string;
  readonly #namespaces = new Map<string, Namespace>();
  readonly #processes: Background[] = [];
  readonly #closers: (() => Promise<void>)[] = [];
  readonly #logs: (() => string)[] = [];
  #isClosed = false;

  constructor() {
    this.#prefix = `weft-t${process.pid}-${++count}`;
    this.directory = mkdtempSync(join(tmpdir(), `${this.#prefix}-`));
    if (!isWatching) watchForEnd();
    open.add(this);
  }

  async namespace(role: string): Promise<Namespace> {
    this.#checkOpen();
    const namespace = new Namespace(this, `${this.#prefix}-${role}`);
    this.#namespaces.set(namespace.name, namespace);
    await run(['ip', 'netns', 'add', namespace.name]);
    await namespace.ip('link set lo up');
    return namespace;
  }

  /** Makes many namespaces with one process; their loopbacks are down. */
  async namespaces(roles: readonly string[]): Promise<Namespace[]> {
    this.#checkOpen();
    const made = roles.map((role) => new Namespace(this, `${this.#prefix}-${role}`));
    for (const namespace of made) this.#namespaces.set(namespace.name, namespace);
    await run(['ip', '-batch', '-'], { input: made.map(({ name }) => `netns add ${name}\n`).join('') });
    return made;
  }

  /** Deletes a namespace before the lab ends. */
  async removeNamespace(namespace: Namespace): Promise<void> {
    await run(['ip', 'netns', 'del', namespace.name]);
    this.#namespaces.delete(namespace.name);
  }

  /** A veth cable: one end in each namespace, both up. */
  async cable(a: Namespace, aName: string, b: Namespace, bName: string, options: { mtu?: number } = {}): Promise<void> {
    const mtu = options.mtu === undefined ? [] : ['mtu', String(options.mtu)];
    await run([
      'ip',
      'link',
      'add',
      aName,
      ...mtu,
      'netns',
      a.name,
      'type',
      'veth',
      'peer',
      'name',
      bName,
      ...mtu,
      'netns',
      b.name,
    ]);
    await a.ip(`link set ${aName} up`);
    await b.ip(`link set ${bName} up`);
  }

  /** Starts a program that continues to run; it ends with the lab at the latest. */
  start(command: readonly string[]): Background {
    this.#checkOpen();
    const started = new Background(command);
    this.#processes.push(started);
    return started;
  }

  /** Calls `close` at the end of the lab, the last registered one first, while everything still runs. */
  onClose(close: () => Promise<void>): void {
    this.#closers.push(close);
  }

  /** Text that helps when the test has failed. */
  onFailure(log: () => string): void {
    this.#logs.push(log);
  }

  logs(): string[] {
    return this.#logs.map((log) => log()).filter((text) => text !== '');
  }

  /** @throws if something did not stop cleanly or remains */
  async close(): Promise<void> {
    const problems: string[] = [];
    for (const close of this.#closers.reverse()) {
      await close().catch((error: unknown) => problems.push(error instanceof Error ? error.message : String(error)));
    }
    const held = this.#hold();
    this.closeNow();
    await until(() => this.#remains(held).length === 0, { what: 'everything of the lab gone' }).catch(() => {
      problems.push(`left behind: ${this.#remains(held).join(', ')}`);
    });
    for (const { fd } of held) closeSync(fd);
    if (problems.length > 0) throw new Error(problems.join('\n'));
  }

  /** Ends all processes and removes all namespaces and files, without waiting for anything. */
  closeNow(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    open.delete(this);
    for (const started of this.#processes) started.signal('SIGKILL');
    // Those of daemons that were killed would wait for the next one.
    for (const pid of holdersIn(this.directory)) process.kill(pid, 'SIGKILL');
    for (const name of this.#namespaces.keys()) {
      try {
        execFileSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
      } catch {
        // `#remains` finds out whether it is still there.
      }
      // A daemon that was stopped leaves it for the next one.
      rmSync(`/etc/netns/${name}`, { recursive: true, force: true });
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A test that continues after its end must not leave anything behind. */
  #checkOpen(): void {
    if (this.#isClosed) throw new Error('the lab is closed');
  }

  /**
   * Opens the lab's namespaces, to find whatever keeps one alive: as long as they are open, the kernel gives their inodes to no
   * other lab's.
   */
  #hold(): HeldNamespace[] {
    return [...this.#namespaces.values()].flatMap(({ name, path }) => {
      try {
        const fd = openSync(path, 'r');
        return [{ name, fd, inode: `net:[${fstatSync(fd).ino}]` }];
      } catch {
        return []; // The test has deleted it.
      }
    });
  }

  #remains(held: readonly HeldNamespace[]): string[] {
    const remains: string[] = [];
    if (existsSync(this.directory)) remains.push(this.directory);
    for (const { name, path } of this.#namespaces.values()) if (existsSync(path)) remains.push(`namespace ${name}`);
    for (const one of this.#processes) if (one.isRunning && isAlive(one.pid)) remains.push(`process ${one.pid}`);
    for (const { inode, name, fd } of held)
      for (const holder of namespaceHolders(inode, fd)) remains.push(`${holder} holds ${name}`);
    return remains;
  }
}

/** The holders of daemons whose state is somewhere in a directory. */
export function holdersIn(directory: string): number[] {
  return readdirSync('/proc').flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      const [program = '', state = ''] = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0');
      return program.endsWith('/weft-holder') && `${state}/`.startsWith(`${directory}/`) ? [Number(entry)] : [];
    } catch {
      return []; // It has ended meanwhile.
    }
  });
}

interface HeldNamespace {
  readonly name: string;
  /** A descriptor of this process. */
  readonly fd: number;
  /** `net:[4026532000]` */
  readonly inode: string;
}

/** Processes that are in a namespace (`net:[4026532000]`) or hold a descriptor of it. @param own this one does not count */
export function namespaceHolders(inode: string, own?: number): string[] {
  const holders: string[] = [];
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      if (!isAlive(Number(pid))) continue;
      const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
      if (readlinkSync(`/proc/${pid}/ns/net`) === inode) holders.push(`process ${pid} (${name}) inside`);
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        if (Number(pid) === process.pid && Number(fd) === own) continue;
        if (readlinkSync(`/proc/${pid}/fd/${fd}`) === inode)
          holders.push(`process ${pid} (${name}) by descriptor ${fd}`);
      }
    } catch {
      // It has ended meanwhile.
    }
  }
  return holders;
}

/** Labs end with the process, however that ends. A file that takes too long gets SIGALRM. */
function watchForEnd(): void {
  isWatching = true;
  const closeAll = (): void => open.forEach((lab) => lab.closeNow());
  process.once('exit', closeAll);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGALRM'] as const) {
    process.once(signal, () => {
      closeAll();
      process.kill(process.pid, signal);
    });
  }
}
