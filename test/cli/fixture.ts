/** A daemon without a switch, and commands that run against it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { openApi } from '../../src/api/server.ts';
import { fakeSwitch, type FakeSwitch } from '../api/fake-switch.ts';

export const executable = fileURLToPath(new URL('../../dist/cli/weft.js', import.meta.url));

export interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Fixture {
  readonly sw: FakeSwitch;
  readonly directory: string;
  readonly socket: string;
  /** Runs `weft --socket … ARGS` to its end. */
  readonly weft: (args: readonly string[], input?: string) => Promise<Run>;
  readonly start: (args: readonly string[]) => ChildProcess;
}

export function start(t: Test, args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, [executable, ...args], { stdio: 'pipe' });
  t.teardown(() => {
    if (child.exitCode === null) child.kill('SIGKILL');
  });
  return child;
}

export async function finish(child: ChildProcess): Promise<Run> {
  let stdout = '';
  let stderr = '';
  child.stdout!.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr!.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  const [code] = await once(child, 'close');
  return { code, stdout, stderr };
}

/** Runs `weft ARGS` when no daemon is needed. */
export function plain(t: Test, args: readonly string[]): Promise<Run> {
  return finish(start(t, args));
}

export async function fixture(t: Test): Promise<Fixture> {
  const directory = mkdtempSync(join(tmpdir(), `weft-cli-${process.pid}-`));
  const socket = join(directory, 'weft.sock');
  const sw = fakeSwitch();
  const api = await openApi(socket);
  let isStopping = false;
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= api.close(AbortSignal.timeout(20_000));
    return closed;
  };
  t.teardown(async () => {
    await close();
    rmSync(directory, { recursive: true });
  });
  const shutdown = async ({ purge }: { purge: boolean }): Promise<void> => {
    isStopping = true;
    sw.calls.push(`shutdown ${purge}`);
    void close();
  };
  await api.serve({ sw, isStopping: () => isStopping, shutdown }, (error) => t.fail(String(error)));
  const begin = (args: readonly string[]): ChildProcess => start(t, ['--socket', socket, ...args]);
  return {
    sw,
    directory,
    socket,
    start: begin,
    weft: (args, input = '') => {
      const child = begin(args);
      child.stdin!.end(input);
      return finish(child);
    },
  };
}
