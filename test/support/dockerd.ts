/**
 * dockerd, with a containerd of its own, in a namespace of a lab: what it keeps is in the lab's directory, and it touches no
 * rules and no bridges. Whatever becomes of it, `close` leaves nothing behind: no process, no mount and no control group.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxArchive } from './busybox.ts';
import { withPlugins } from './docker.ts';
import type { Lab, Namespace } from './lab.ts';
import { attempt, isAlive, run, until, type Background, type Result } from './process.ts';

const DAEMON = '/usr/sbin/dockerd';
const CONTAINERD = '/usr/bin/containerd';
const CLIENT = '/usr/bin/docker';
const CGROUPS = '/sys/fs/cgroup';
const IMAGE = 'busybox';

export class Dockerd {
  readonly #lab: Lab;
  readonly #host: Namespace;
  readonly #plugins: string;
  readonly #directory: string;
  readonly #cgroup: string;
  #daemon: Background | undefined;
  /** It outlives dockerd, and its mount namespace is dockerd's. */
  #containerd: Background | undefined;

  /** Starts it, with an image `busybox`. */
  static async up(lab: Lab, host: Namespace, plugins: string): Promise<Dockerd> {
    const dockerd = new Dockerd(lab, host, plugins);
    lab.onClose(() => dockerd.close());
    lab.onFailure(() => `log of dockerd:\n${dockerd.log}`);
    await dockerd.start();
    await dockerd.#importImage();
    return dockerd;
  }

  private constructor(lab: Lab, host: Namespace, plugins: string) {
    this.#lab = lab;
    this.#host = host;
    this.#plugins = plugins;
    this.#directory = join(lab.directory, 'docker');
    this.#cgroup = `/weft-t${process.pid}`;
    mkdirSync(this.#directory, { recursive: true });
  }

  get log(): string {
    return this.#daemon?.stderr ?? '';
  }

  async start(): Promise<void> {
    const at = (name: string): string => join(this.#directory, name);
    const { pid } = (this.#containerd ??= this.#startContainerd(at('containerd.sock')));
    await until(() => existsSync(at('containerd.sock')), { what: 'containerd listens' });
    const daemon = this.#lab.start([
      ...['nsenter', `--mount=/proc/${pid}/ns/mnt`, `--net=${this.#host.path}`, DAEMON],
      ...['--containerd', at('containerd.sock')],
      ...['--host', `unix://${this.#socket}`, '--data-root', at('data'), '--exec-root', at('exec')],
      ...['--pidfile', at('pid'), '--cgroup-parent', this.#cgroup, '--exec-opt', 'native.cgroupdriver=cgroupfs'],
      ...['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false'],
      ...['--storage-driver', 'vfs', '--userland-proxy=false'],
    ]);
    this.#daemon = daemon;
    await until(
      async () => {
        if (!daemon.isRunning) return true;
        return (await this.attempt('version')).code === 0;
      },
      { what: 'dockerd answers' },
    );
    if (!daemon.isRunning) throw new Error(`dockerd: ${daemon.endText}\n${daemon.stderr}`);
  }

  #startContainerd(address: string): Background {
    const config = join(this.#directory, 'containerd.toml');
    const [root, state] = [join(this.#directory, 'containerd'), join(this.#directory, 'containerd-state')];
    const plugins = 'disabled_plugins = ["io.containerd.grpc.v1.cri"]';
    const where = `version = 2\nroot = "${root}"\nstate = "${state}"\n`;
    writeFileSync(config, `${where}${plugins}\n[grpc]\naddress = "${address}"\n`);
    // Where those that look after containers listen, whatever the configuration says.
    const shims = join(this.#directory, 'shims');
    mkdirSync(shims, { recursive: true });
    const within = withPlugins(this.#plugins, { '/run/containerd': shims });
    return this.#lab.start([...within, CONTAINERD, '--config', config]);
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop('SIGTERM');
  }

  /** Its containers live on. */
  async kill(): Promise<void> {
    this.#daemon?.signal('SIGKILL');
    await this.#daemon?.wait();
  }

  /** Ends everything at once, as a host does that loses its power; what Docker has stored stays. */
  async crash(): Promise<void> {
    this.#daemon?.signal('SIGKILL');
    this.#containerd?.signal('SIGKILL');
    await Promise.all([this.#daemon?.wait(), this.#containerd?.wait()]);
    for (const pid of this.#left()) killNow(pid);
    await until(() => this.#left().length === 0, { what: 'nothing of Docker runs' });
    this.#containerd = undefined;
  }

  run(...words: readonly string[]): Promise<string> {
    return run(this.command(words));
  }

  attempt(...words: readonly string[]): Promise<Result> {
    return attempt(this.command(words));
  }

  command(words: readonly string[]): string[] {
    return [CLIENT, '--host', `unix://${this.#socket}`, ...words];
  }

  async close(): Promise<void> {
    if (this.#daemon?.isRunning) {
      const { stdout } = await this.attempt('ps', '--all', '--quiet');
      const containers = stdout.split('\n').filter(Boolean);
      if (containers.length > 0) await this.attempt('rm', '--force', ...containers);
      await this.stop();
    }
    await this.#containerd?.stop('SIGTERM');
    for (const pid of this.#left()) killNow(pid);
    await until(() => this.#left().length === 0, { what: 'all processes of dockerd have ended' });
    for (const controller of readdirSync(CGROUPS)) removeGroups(join(CGROUPS, controller, this.#cgroup));
  }

  get #socket(): string {
    return join(this.#directory, 'docker.sock');
  }

  /** dockerd, containerd, what looks after containers, and what runs in them: all that have this folder in a mount or a command. */
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

  async #importImage(): Promise<void> {
    await this.run('import', busyboxArchive(this.#directory), IMAGE);
  }
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
