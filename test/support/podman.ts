/**
 * podman with its CNI backend and weft's plugin, on a host of a lab. What it keeps is in the lab's directory; `close` leaves nothing
 * behind.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxArchive } from './busybox.ts';
import type { Lab, Namespace } from './lab.ts';
import { attempt, isAlive, run, until, type Result } from './process.ts';
import type { Weft } from './weft.ts';

const PODMAN = '/usr/bin/podman';
const IMAGE = 'busybox';
/** What runc knows of containers. */
const RUNC = '/run/runc';

export class Podman {
  readonly #host: Namespace;
  readonly #directory: string;

  /** Installs the plugin, makes a configuration of a network of weft's, and imports an image `busybox`. */
  static async up(lab: Lab, weft: Weft, network: string): Promise<Podman> {
    const podman = new Podman(lab, weft.host);
    lab.onClose(() => podman.close());
    await weft.run('cni', 'install', '--dir', podman.#at('plugins'));
    podman.configure('10.conflist', await weft.run('cni', 'config', network));
    await podman.#importImage();
    return podman;
  }

  private constructor(lab: Lab, host: Namespace) {
    this.#host = host;
    // podman refuses one whose path is long.
    this.#directory = join(lab.directory, `p-${host.name.split('-').at(-1)}`);
    for (const folder of ['plugins', 'networks']) mkdirSync(this.#at(folder), { recursive: true });
    const settings = [
      '[network]',
      'network_backend = "cni"',
      `cni_plugin_dirs = ["${this.#at('plugins')}"]`,
      `network_config_dir = "${this.#at('networks')}"`,
      '[engine]',
      'cgroup_manager = "cgroupfs"',
      'events_logger = "file"',
      'runtime = "runc"',
      'lock_type = "file"',
      `tmp_dir = "${this.#at('tmp')}"`,
      '[containers]',
      'default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]',
    ];
    writeFileSync(this.#at('containers.conf'), `${settings.join('\n')}\n`);
  }

  /** Adds a network. */
  configure(file: string, text: string): void {
    writeFileSync(join(this.#at('networks'), file), text);
  }

  /**
   * What a reboot of the machine does to a container that runs: its processes and its namespace are gone, and so is what podman
   * knows of that. Nobody tells the plugin. No other container may run.
   */
  async crash(container: string): Promise<void> {
    const format = '{{.State.ConmonPid}} {{.State.Pid}} {{.NetworkSettings.SandboxKey}} {{.Id}}';
    const [conmon, pid, netns, id] = (await this.run('inspect', '--format', format, container)).trim().split(' ');
    for (const one of [conmon, pid]) process.kill(Number(one), 'SIGKILL');
    await until(() => [conmon, pid].every((one) => !isAlive(Number(one))), { what: 'nothing of it runs' });
    await run(['umount', netns!]);
    for (const left of [netns!, join(RUNC, id!), this.#at('tmp'), this.#at('run')])
      rmSync(left, { recursive: true, force: true });
  }

  run(...words: readonly string[]): Promise<string> {
    return run(this.command(words));
  }

  attempt(...words: readonly string[]): Promise<Result> {
    return attempt(this.command(words));
  }

  /** `nsenter` and not `ip netns exec`, so that weft sees the namespaces of the containers. */
  command(words: readonly string[]): string[] {
    return [
      ...['nsenter', `--net=${this.#host.path}`, 'env', `CONTAINERS_CONF=${this.#at('containers.conf')}`, PODMAN],
      ...['--root', this.#at('storage'), '--runroot', this.#at('run'), '--storage-driver', 'vfs', ...words],
    ];
  }

  async close(): Promise<void> {
    await this.attempt('rm', '--all', '--force', '--time', '0');
    await this.attempt('rmi', '--all', '--force');
  }

  #at(name: string): string {
    return join(this.#directory, name);
  }

  async #importImage(): Promise<void> {
    await this.run('import', busyboxArchive(this.#directory), IMAGE);
  }
}
