/**
 * containerd of a test: what it keeps is in a folder of the lab. Whatever becomes of it, nothing is left behind: no process, no
 * mount and no control group.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import { isAlive, until, type Background } from './process.ts';

const SHIMS = '/run/containerd';
const DAEMON = '/usr/bin/containerd';
const CGROUPS = '/sys/fs/cgroup';

export class Containerd {
  readonly #lab: Lab;
  readonly #directory: string;
  /** A command that runs the command behind it where containerd is to run. */
  readonly #within: (mounts: Readonly<Record<string, string>>) => readonly string[];
  readonly #cgroup: string;
  #daemon: Background | undefined;

  /** @param cgroup that of its containers */
  constructor(
    lab: Lab,
    {
      directory,
      cgroup,
      within,
    }: {
      readonly directory: string;
      readonly cgroup: string;
      readonly within: (mounts: Readonly<Record<string, string>>) => readonly string[];
    },
  ) {
    this.#lab = lab;
    this.#directory = directory;
    this.#cgroup = cgroup;
    this.#within = within;
  }

  /** Where it listens. */
  get address(): string {
    return join(this.#directory, 'containerd.sock');
  }

  /** A command that runs the command behind it in its mount namespace. */
  get inside(): string[] {
    return ['nsenter', `--mount=/proc/${this.#daemon!.pid}/ns/mnt`];
  }

  /** Does nothing if it was started and has not crashed. */
  async start(): Promise<void> {
    this.#daemon ??= this.#run();
    await until(() => existsSync(this.address), { what: 'containerd listens' });
  }

  /** Ends everything at once, as a host does that loses its power. */
  async crash(): Promise<void> {
    this.#daemon?.signal('SIGKILL');
    await this.#daemon?.wait();
    await this.#endLeft();
    // Whoever waits for it means the next one.
    rmSync(this.address, { force: true });
    this.#daemon = undefined;
  }

  async close(): Promise<void> {
    await this.#daemon?.stop('SIGTERM');
    await this.#endLeft();
    for (const controller of readdirSync(CGROUPS)) removeGroups(join(CGROUPS, controller, this.#cgroup));
  }

  #run(): Background {
    const config = join(this.#directory, 'containerd.toml');
    const [root, state] = [join(this.#directory, 'containerd'), join(this.#directory, 'containerd-state')];
    const plugins = 'disabled_plugins = ["io.containerd.grpc.v1.cri"]';
    const where = `version = 2\nroot = "${root}"\nstate = "${state}"\n`;
    writeFileSync(config, `${where}${plugins}\n[grpc]\naddress = "${this.address}"\n`);
    // Where those that look after containers listen, whatever the configuration says.
    const shims = join(this.#directory, 'shims');
    for (const folder of [shims, SHIMS]) mkdirSync(folder, { recursive: true });
    return this.#lab.start([...this.#within({ [SHIMS]: shims }), DAEMON, '--config', config]);
  }

  async #endLeft(): Promise<void> {
    for (const pid of this.#left()) killNow(pid);
    await until(() => this.#left().length === 0, { what: 'nothing of containerd runs' });
  }

  /** containerd, what looks after containers, and what runs in them: all that have this folder in a mount or a command. */
  #left(): number[] {
    return readdirSync('/proc').flatMap((entry) => {
      const pid = Number(entry);
      if (!/^\d+$/.test(entry) || pid === process.pid || !isAlive(pid)) return [];
      try {
        const isOurs = ['cmdline', 'mountinfo', 'cgroup'].some((file) => {
          const text = readFileSync(`/proc/${entry}/${file}`, 'utf8');
          return text.includes(`${this.#directory}/`) || text.includes(`${this.#cgroup}/`);
        });
        return isOurs ? [pid] : [];
      } catch {
        return []; // It has ended meanwhile.
      }
    });
  }
}

/** A command that runs the command behind it where folders of the machine are others. They have to exist. */
export function withMounts(folders: Readonly<Record<string, string>>): string[] {
  const mounts = Object.entries(folders).map(([place, from]) => `mount --bind "${from}" ${place} && `);
  return ['unshare', '--mount', '--propagation', 'slave', 'sh', '-c', `${mounts.join('')}exec "$@"`, 'sh'];
}

function killNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

/** A group with groups in it cannot be removed before those. */
function removeGroups(path: string): void {
  try {
    for (const { name } of readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory())) {
      removeGroups(join(path, name));
    }
    rmdirSync(path);
  } catch {
    // There is none in this hierarchy.
  }
}
