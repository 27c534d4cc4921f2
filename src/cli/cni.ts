/** `weft cni`: the plugin that container runtimes execute, and its configuration. */
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { DEFAULT_SOCKET } from '../api/client.ts';
import { WeftError } from '../error.ts';
import { nativeProgram } from '../package.ts';
import { print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

const PROGRAM = nativeProgram('weft-cni');
/** Where runtimes look for plugins (Kubernetes, containerd, podman). */
const DEFAULT_DIRECTORY = '/opt/cni/bin';
/** What runtimes know it by: the `type` of a configuration. */
const NAME = 'weft';
/** Debian's podman reads lists up to this version; all newer runtimes do, too. */
const DEFAULT_VERSION = '1.0.0';
const VERSIONS = ['0.4.0', '1.0.0', '1.1.0'];
const CAPABILITIES = ['aliases', 'bandwidth', 'dns', 'ipRanges', 'ips', 'mac', 'portMappings'];

export function cni(program: Command): void {
  const parent = verb(program, 'cni', {
    summary: 'let container runtimes attach containers by CNI: podman, containerd, Kubernetes',
    examples: ['weft cni install', 'weft cni config blue > /etc/cni/net.d/10-blue.conflist'],
  });

  verb(parent, 'install', {
    summary: `put the plugin, an executable named ${NAME}, where runtimes look for it`,
    examples: ['weft cni install', 'weft cni install --dir /usr/lib/cni'],
  })
    .option('--dir <dir>', 'the folder of CNI plugins', DEFAULT_DIRECTORY)
    .action(async ({ dir }: { readonly dir: string }, command: Command) => {
      const path = install(dir);
      await print(globals(command).output, { path }, () => `${path} installed\n`);
    });

  verb(parent, 'config <network>', {
    summary: 'print a configuration list for a network',
    examples: [
      'weft cni config blue > /etc/cni/net.d/10-blue.conflist',
      'weft cni config blue --cni-version 0.4.0 --name podman-blue',
    ],
  })
    .option('--name <name>', 'what runtimes call it (default: the name of the network)')
    .option('--cni-version <version>', `the version of the specification: ${VERSIONS.join(', ')}`, DEFAULT_VERSION)
    .action(
      async (network: string, options: { readonly name?: string; readonly cniVersion: string }, command: Command) => {
        const { name = network, cniVersion } = options;
        if (!VERSIONS.includes(cniVersion)) {
          command.error(`error: --cni-version ${cniVersion}: accepted are ${VERSIONS.join(', ')}`);
        }
        if (!(await clientOf(command).networks()).some((one) => one.name === network)) {
          throw new WeftError(
            'not_found',
            `network "${network}" does not exist: weft network create ${network} --subnet …`,
          );
        }
        const { socket } = globals(command);
        const plugin = {
          type: NAME,
          network,
          ...(socket !== DEFAULT_SOCKET && { socket }),
          capabilities: Object.fromEntries(CAPABILITIES.map((capability) => [capability, true])),
        };
        const list = { cniVersion, name, plugins: [plugin] };
        const { output } = globals(command);
        await print(output === 'table' ? 'json' : output, list, () => '');
      },
    );
}

/** A running one is replaced as a whole: runtimes execute it at any time. */
function install(directory: string): string {
  const path = join(directory, NAME);
  const beside = join(directory, `.${NAME}.${process.pid}`);
  try {
    mkdirSync(directory, { recursive: true });
    copyFileSync(PROGRAM, beside);
    chmodSync(beside, 0o755);
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw new WeftError('system', `--dir ${directory}: ${(error as Error).message}`, { cause: error });
  }
  return path;
}
