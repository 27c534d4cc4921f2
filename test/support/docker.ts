/**
 * A daemon that Docker finds, and what dockerd asks of it. Docker looks for drivers at one path of the machine, so each daemon
 * and each dockerd of a test sees a folder of the lab there, in a mount namespace of its own.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { withMounts } from './containerd.ts';
import type { Lab, Namespace } from './lab.ts';
import { Weft, type UpOptions } from './weft.ts';

const PLUGINS = '/run/docker/plugins';

/** A command that runs the command behind it where `folder` is Docker's folder of plugins, and `others` are others of the machine. */
export function withPlugins(folder: string, others: Readonly<Record<string, string>> = {}): string[] {
  mkdirSync(PLUGINS, { recursive: true });
  return withMounts({ ...others, [PLUGINS]: folder });
}

/** A daemon with `docker: true`, and the folder with its socket. */
export async function upForDocker(
  lab: Lab,
  host: Namespace,
  options: UpOptions,
): Promise<{ weft: Weft; plugins: string; plugin: DockerPlugin }> {
  const plugins = join(lab.directory, 'plugins');
  mkdirSync(plugins, { recursive: true });
  const config = join(lab.directory, 'weft.yaml');
  writeFileSync(config, 'docker: true\n');
  const weft = await Weft.up(lab, host, 'host', {
    ...options,
    within: [...withPlugins(plugins), ...(options.within ?? [])],
    arguments: ['--config', config, ...(options.arguments ?? [])],
  });
  return { weft, plugins, plugin: new DockerPlugin(join(plugins, 'weft.sock')) };
}

export interface Answer {
  readonly status: number | undefined;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Asks what dockerd asks. */
export class DockerPlugin {
  readonly socket: string;

  constructor(socket: string) {
    this.socket = socket;
  }

  /** @throws with what the driver says is wrong */
  async call<T = Record<string, unknown>>(method: string, body: object = {}): Promise<T> {
    const { status, body: said } = await this.send(method, JSON.stringify(body));
    if (status !== 200 || said['Err'] !== undefined) throw new Error(`${method}: ${status} ${String(said['Err'])}`);
    return said as T;
  }

  send(method: string, text: string, how = 'POST'): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const options = {
        socketPath: this.socket,
        path: `/${method}`,
        method: how,
        agent: false,
        headers: { host: this.socket },
      };
      const asking = request(options, (response) => {
        let said = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (said += chunk));
        response.once('error', reject);
        response.once('end', () => {
          const isJson = said.startsWith('{');
          resolve({ status: response.statusCode, body: isJson ? (JSON.parse(said) as Answer['body']) : {} });
        });
      });
      asking.once('error', reject);
      asking.end(how === 'POST' ? text : undefined);
    });
  }
}
