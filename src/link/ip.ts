/**
 * iproute2 inside a network namespace.
 *
 * The namespace is opened, compared with what the caller means, and handed to
 * `nsenter` as an open file: no other one that has taken its path meanwhile can
 * be entered. It is held open only while the command runs.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { WeftError } from '../error.ts';
import type { NetnsRef } from './netns.ts';

export interface IpResult {
  /** Undefined when it was killed. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `ip ARGUMENTS` in `ns`. @throws WeftError `not_found` when the namespace is gone. */
export async function ip(ns: NetnsRef, args: readonly string[], input = ''): Promise<IpResult> {
  const handle = await openSame(ns);
  try {
    return await run(handle.fd, args, input);
  } finally {
    await handle.close();
  }
}

/**
 * Runs `commands` in order, one process for all; stops at the first that fails.
 * @throws WeftError with the command that failed and iproute2's own words
 */
export async function ipBatch(ns: NetnsRef, commands: readonly string[]): Promise<void> {
  if (commands.length === 0) return;
  const { exitCode, stderr } = await ip(ns, ['-batch', '-'], `${commands.join('\n')}\n`);
  if (exitCode === 0) return;
  const failed = /Command failed -:(\d+)/.exec(stderr)?.[1];
  const command = failed === undefined ? '-batch -' : commands[Number(failed) - 1];
  throw new WeftError('system', `\`ip ${command}\` in ${ns.path} failed: ${firstLine(stderr)}`);
}

/** iproute2's reason, without its prefixes. */
export function firstLine(stderr: string): string {
  const line = stderr.split('\n').find((text) => text.trim() !== '') ?? 'no message';
  return line.replace(/^(Error: |RTNETLINK answers: )+/, '').trim();
}

async function openSame(ns: NetnsRef): Promise<FileHandle> {
  const gone = (): WeftError => new WeftError('not_found', `network namespace ${ns.path} does not exist any more`);
  let handle: FileHandle;
  try {
    handle = await open(ns.path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ESRCH') throw gone();
    throw new WeftError('system', `network namespace ${ns.path} cannot be opened (${code}); run weft as root`);
  }
  try {
    const { dev, ino } = await handle.stat({ bigint: true });
    if (dev === ns.dev && ino === ns.ino) return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
  await handle.close();
  throw gone();
}

function run(netns: number, args: readonly string[], input: string): Promise<IpResult> {
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', ['--net=/proc/self/fd/3', 'ip', ...args], {
      stdio: ['pipe', 'pipe', 'pipe', netns],
      env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    });
    let stdout = '';
    let stderr = '';
    child.stdout!.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdin!.on('error', () => undefined); // it ended before it read all: its exit code says why
    child.stdin!.end(input);
    child.on('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'ENOENT'
          ? new WeftError('system', '`nsenter` is not installed; `apt install util-linux`')
          : new WeftError('system', `\`nsenter\` could not be started (${error.code})`),
      ),
    );
    child.on('close', (code) => {
      if (code === 127) reject(new WeftError('system', '`ip` is not installed; `apt install iproute2`'));
      else if (stderr.startsWith('nsenter: '))
        reject(new WeftError('system', `${firstLine(stderr)}; run weft as root`));
      else resolve({ exitCode: code ?? undefined, stdout, stderr });
    });
  });
}
