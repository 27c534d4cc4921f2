/**
 * A Debian in a folder, as new: with what weft asks for, a Node.js, and nothing else. What runs in it has its own processes and
 * mounts, all of which end with the test, however that ends.
 */
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab, Namespace } from '../support/lab.ts';
import { run, until, type Background } from '../support/process.ts';

/** What docs/operations.md and `weft demo` ask for. `tini` is the init. No compiler, no make, no python3. */
const PACKAGES = ['iproute2', 'nftables', 'iputils-ping', 'iperf3', 'tini'];
const SUITE = 'bookworm';
const longMs = { timeoutMs: 900_000 };
/** Where npm on this machine gets packages from, and whom it trusts. */
const SETTINGS = ['registry', 'cafile', 'proxy', 'https-proxy', 'noproxy'];
const CERTIFICATES = '/etc/npm-certificates.pem';
/** Files of npm's own, of `ip netns add`, and of the kernel. */
const NOT_OF_WEFT = ['/root/.npm', '/tmp/node-compile-cache', '/run/netns', '/proc', '/sys', '/dev'];

/** @returns the folder of a Debian that has never run */
export async function debootstrap(lab: Lab): Promise<string> {
  const path = join(lab.directory, 'debian');
  const words = ['debootstrap', '--variant=minbase', `--include=${PACKAGES.join()}`, SUITE, path];
  // Its mounts go with its end.
  await run(['unshare', '--mount', ...words], longMs);
  return path;
}

export class FreshRoot {
  readonly path: string;
  readonly #settings: readonly string[];
  readonly #init: Background;
  /** The process of the init, as it is known outside. */
  #pid = 0;

  private constructor(lab: Lab, path: string, settings: readonly string[]) {
    this.path = path;
    this.#settings = settings;
    const start = [
      // What `ip netns exec` does to / needs a mount there.
      'mount --bind "$0" "$0"',
      'mount -t proc proc "$0/proc"',
      'mount --rbind /sys "$0/sys"',
      'mount --rbind /dev "$0/dev"',
      // `cat` ends when there is nobody any more who could write to it.
      'exec chroot "$0" tini cat',
    ].join(' && ');
    this.#init = lab.start(['unshare', '--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', start, path]);
    lab.onClose(async () => {
      this.#init.end();
      await this.#init.wait();
    });
  }

  /** A copy of `debian` with a Node.js and its npm in /usr/local, as the archives of Node.js have them. */
  static async open(lab: Lab, debian: string, { node, npm }: { node: string; npm: string }): Promise<FreshRoot> {
    const path = join(lab.directory, `root-${node}`);
    const modules = join(lab.directory, `modules-${node}`);
    await run(['cp', '-a', '--reflink=auto', debian, path], longMs);
    const quiet = ['--no-audit', '--no-fund', '--no-update-notifier'];
    await run(['npm', 'install', ...quiet, '--prefix', modules, `node@${node}`, `npm@${npm}`], longMs);
    const at = (...names: string[]): string => join(path, ...names);
    const local = join('usr', 'local');
    copyFileSync(join(modules, 'node_modules/node/bin/node'), at(local, 'bin/node'));
    mkdirSync(at(local, 'lib/node_modules'), { recursive: true });
    cpSync(join(modules, 'node_modules/npm'), at(local, 'lib/node_modules/npm'), { recursive: true });
    for (const name of ['npm', 'npx'])
      symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, at(local, `bin/${name}`));
    copyFileSync('/etc/resolv.conf', at('etc/resolv.conf'));

    const root = new FreshRoot(lab, path, await settingsOfNpm(at(CERTIFICATES)));
    await root.#ready();
    return root;
  }

  async #ready(): Promise<void> {
    this.#init.write('ready\n');
    await this.#init.says('ready');
    this.#pid = await until(() => Number(readFileSync(`/proc/${this.#init.pid}/task/${this.#init.pid}/children`)), {
      what: 'the init of the root',
    });
  }

  /** @param host its network; that of this machine if it is left out */
  inside(command: readonly string[], host?: Namespace): string[] {
    const network = host ? [`--net=${host.path}`] : [];
    const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    const into = ['nsenter', '--target', String(this.#pid), '--mount', '--pid', '--root', '--wd', ...network];
    return [...into, 'env', '-i', path, 'HOME=/root', ...this.#settings, ...command];
  }

  run(command: readonly string[], host?: Namespace): Promise<string> {
    return run(this.inside(command, host), longMs);
  }

  /** All files that are not npm's own, with what shows that they have changed; of folders only their rights. */
  async files(): Promise<string[]> {
    const without = NOT_OF_WEFT.flatMap((path) => ['-path', path, '-prune', '-o']);
    const shown = ['-type', 'd', '-printf', '%p/ %m\\n', '-o', '-printf', '%p %m %s %T@ %l\\n'];
    return (await this.run(['find', '/', ...without, ...shown])).trim().split('\n').sort();
  }

  /** Names of its processes, without those that look for them. */
  async processes(): Promise<string[]> {
    const names = await this.run(['sh', '-c', 'cat /proc/[0-9]*/comm']);
    return names.trim().split('\n').sort();
  }
}

/** npm's settings as variables. @param certificates where a copy of those that it trusts is made */
async function settingsOfNpm(certificates: string): Promise<string[]> {
  const settings: string[] = ['npm_config_update_notifier=false'];
  for (const name of SETTINGS) {
    const value = (await run(['npm', 'config', 'get', name])).trim();
    if (value === 'null' || value === '') continue;
    const isFile = name === 'cafile';
    if (isFile && existsSync(value)) copyFileSync(value, certificates);
    settings.push(`npm_config_${name.replace('-', '_')}=${isFile ? CERTIFICATES : value}`);
  }
  return settings;
}
