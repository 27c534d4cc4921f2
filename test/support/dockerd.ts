/**
 * dockerd, with a containerd of its own, in a namespace of a lab: what it keeps is in the lab's directory, and it touches no
 * rules and no bridges. Whatever becomes of it, `close` leaves nothing behind: no process, no mount and no control group.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxArchive } from './busybox.ts';
import { Containerd } from './containerd.ts';
import { withPlugins } from './docker.ts';
import type { Lab, Namespace } from './lab.ts';
import { attempt, run, until, type Background, type Result } from './process.ts';

const DAEMON = '/usr/sbin/dockerd';
const CLIENT = '/usr/bin/docker';
const IMAGE = 'busybox';

export class Dockerd {
  readonly #lab: Lab;
  readonly #host: Namespace;
  readonly #directory: string;
  readonly #cgroup: string;
  #daemon: Background | undefined;
  /** It outlives dockerd, and its mount namespace is dockerd's. */
  readonly #containerd: Containerd;

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
    this.#directory = join(lab.directory, 'docker');
    this.#cgroup = `/weft-t${process.pid}`;
    mkdirSync(this.#directory, { recursive: true });
    this.#containerd = new Containerd(lab, {
      ...{ directory: this.#directory, cgroup: this.#cgroup },
      within: (mounts) => withPlugins(plugins, mounts),
    });
  }

  get log(): string {
    return this.#daemon?.stderr ?? '';
  }

  async start(): Promise<void> {
    const at = (name: string): string => join(this.#directory, name);
    await this.#containerd.start();
    const daemon = this.#lab.start([
      ...[...this.#containerd.inside, `--net=${this.#host.path}`, DAEMON],
      ...['--containerd', this.#containerd.address],
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
    await this.#daemon?.wait();
    await this.#containerd.crash();
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
    await this.#containerd.close();
  }

  get #socket(): string {
    return join(this.#directory, 'docker.sock');
  }

  async #importImage(): Promise<void> {
    await this.run('import', busyboxArchive(this.#directory), IMAGE);
  }
}
