/** Executes the CNI plugin as a container runtime does: with a command in the environment and a configuration on stdin. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import type { Namespace } from './lab.ts';
import type { Weft } from './weft.ts';

export interface CniCall {
  readonly container?: string;
  /** A path. */
  readonly netns?: string;
  readonly ifname?: string;
  readonly args?: string;
  /** Added to the configuration. */
  readonly config?: Readonly<Record<string, unknown>>;
}

export interface CniOutcome {
  readonly code: number;
  /** What it printed, as JSON; undefined if that was nothing. */
  readonly said: unknown;
  readonly stderr: string;
}

export interface CniResult {
  readonly cniVersion: string;
  readonly interfaces: readonly {
    readonly name: string;
    readonly mac: string;
    readonly mtu?: number;
    readonly sandbox: string;
  }[];
  readonly ips: readonly { readonly address: string; readonly gateway: string; readonly interface: number }[];
  readonly routes: readonly { readonly dst: string; readonly gw: string }[];
  readonly dns: { readonly nameservers: readonly string[]; readonly search: readonly string[] };
}

export class CniRuntime {
  readonly #plugin: string;
  readonly #config: Readonly<Record<string, unknown>>;

  /** @param directory where `weft cni install` has put the plugin */
  constructor(weft: Weft, directory: string, network: string) {
    this.#plugin = join(directory, 'weft');
    this.#config = { cniVersion: '1.0.0', name: network, type: 'weft', network, socket: weft.socket };
  }

  call(command: string, { container = 'c1', netns, ifname = 'eth0', args, config }: CniCall = {}): Promise<CniOutcome> {
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: container,
      CNI_IFNAME: ifname,
      ...(netns !== undefined && { CNI_NETNS: netns }),
      ...(args !== undefined && { CNI_ARGS: args }),
    };
    return this.execute(env, JSON.stringify({ ...this.#config, ...config }));
  }

  execute(env: Readonly<Record<string, string>>, input: string): Promise<CniOutcome> {
    return new Promise((resolve, reject) => {
      const child = execFile(this.#plugin, [], { env, encoding: 'utf8' }, (error, stdout, stderr) => {
        const code = error?.code ?? 0;
        if (typeof code !== 'number') return reject(error!);
        resolve({ code, said: stdout === '' ? undefined : (JSON.parse(stdout) as unknown), stderr });
      });
      // One that does not read it has ended.
      child.stdin!.on('error', () => {});
      child.stdin!.end(input);
    });
  }

  /** @throws Error that says what the plugin said */
  async add(netns: Namespace, call: CniCall = {}): Promise<CniResult> {
    const { code, said } = await this.call('ADD', { ...call, netns: netns.path });
    if (code !== 0) throw new Error(`ADD: ${JSON.stringify(said)}`);
    return said as CniResult;
  }
}
