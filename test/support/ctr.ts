/**
 * containerd with its own client, `ctr run --cni`, and weft's plugin, on a host of a lab. Both look for plugins and configurations
 * at fixed paths of the machine, where they see folders of the lab.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxRoot } from './busybox.ts';
import { Containerd, withMounts } from './containerd.ts';
import type { Lab, Namespace } from './lab.ts';
import { attempt, run, type Result } from './process.ts';
import type { Weft } from './weft.ts';

const CLIENT = '/usr/bin/ctr';
const PLACES = { plugins: '/opt/cni/bin', networks: '/etc/cni/net.d', results: '/var/lib/cni' } as const;

export class Ctr {
  readonly #host: Namespace;
  readonly #containerd: Containerd;
  readonly #root: string;
  readonly #cgroup = `/weft-t${process.pid}`;

  /** Installs the plugin, and makes a configuration of a network of weft's. */
  static async up(lab: Lab, weft: Weft, network: string): Promise<Ctr> {
    const directory = join(lab.directory, 'c');
    const at = (name: string): string => join(directory, name);
    for (const [name, place] of Object.entries(PLACES)) {
      mkdirSync(at(name), { recursive: true });
      const made = mkdirSync(place, { recursive: true });
      if (made !== undefined) lab.onClose(() => Promise.resolve(rmSync(made, { recursive: true })));
    }
    await weft.run('cni', 'install', '--dir', at('plugins'));
    writeFileSync(join(at('networks'), '10.conflist'), await weft.run('cni', 'config', network));
    const ctr = new Ctr(lab, weft.host, directory);
    lab.onClose(() => ctr.#containerd.close());
    await ctr.#containerd.start();
    return ctr;
  }

  private constructor(lab: Lab, host: Namespace, directory: string) {
    this.#host = host;
    this.#root = busyboxRoot(directory);
    const places = Object.entries(PLACES).map(([name, place]) => [place, join(directory, name)]);
    this.#containerd = new Containerd(lab, {
      ...{ directory, cgroup: this.#cgroup },
      within: (mounts) => withMounts({ ...mounts, ...(Object.fromEntries(places) as Record<string, string>) }),
    });
  }

  run(...words: readonly string[]): Promise<string> {
    return run(this.command(words));
  }

  attempt(...words: readonly string[]): Promise<Result> {
    return attempt(this.command(words));
  }

  /** What `ctr run` is given for a container that is attached by CNI. */
  container(name: string, ...program: readonly string[]): string[] {
    return ['--cni', '--cgroup', `${this.#cgroup}/${name}`, '--rootfs', this.#root, name, ...program];
  }

  command(words: readonly string[]): string[] {
    return [
      ...[...this.#containerd.inside, `--net=${this.#host.path}`, CLIENT],
      ...['--address', this.#containerd.address, ...words],
    ];
  }
}
