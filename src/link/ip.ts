/**
 * iproute2 inside a network namespace.
 *
 * The namespace is opened, compared with the one that the caller means, and entered as an open
 * file: a namespace that has taken over its path meanwhile can never be entered. It is held open
 * only while the command runs.
 */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { descriptorsText, WeftError } from '../error.ts';
import { runCommand, type CommandResult } from './command.ts';
import type { NetnsRef } from './netns.ts';

export const NO_IPROUTE = '`ip` is not installed; `apt install iproute2`';

/** Runs `ip ARGUMENTS` in `ns`. @throws WeftError `not_found` when the namespace is gone. */
export async function ip(ns: NetnsRef, args: readonly string[], input = ''): Promise<CommandResult> {
  const handle = await openSame(ns);
  try {
    return await runCommand('ip', args, { input, netns: handle.fd, missing: NO_IPROUTE });
  } finally {
    await handle.close();
  }
}

/**
 * Runs `commands` in order, in one process; stops at the first one that fails.
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
    const text = descriptorsText(code);
    if (text !== undefined) throw new WeftError('exhausted', `network namespace ${ns.path} cannot be opened: ${text}`);
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
