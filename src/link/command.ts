/**
 * Helper programs (`ip`, `nft`): the one place that runs them.
 *
 * The addon runs them on another thread, and starts them without copying this process. If a
 * program cannot be started, for whatever reason, the caller gets a rejection; one that does not
 * end is killed.
 */
import { loadAddon } from '../addon/addon.ts';
import { errnoName } from '../addon/io-error.ts';
import { descriptorsText, WeftError } from '../error.ts';

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Its standard input. */
  readonly input?: string;
  /** A descriptor of the network namespace that it runs in. By default that is the one of this process. */
  readonly netns?: number;
  /** The message for the operator if the program is not installed. */
  readonly missing: string;
}

/** The longest command takes seconds, on a host with thousands of rules and links. */
const LONGEST_MS = 60_000;

/**
 * Runs `file` to its end, whatever its exit code, with messages in English.
 * @throws WeftError `system` if it cannot be started or does not end, `exhausted` if descriptors ran out
 */
export async function runCommand(
  file: string,
  args: readonly string[],
  { input = '', netns = -1, missing }: CommandOptions,
): Promise<CommandResult> {
  const path = process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin';
  const ended = await loadAddon().runCommand([file, ...args], path, input, netns, LONGEST_MS);
  if (ended.result !== 0) throw failed(file, errnoName(-ended.result), missing);
  const { signal, exitCode, stdout, stderr } = ended;
  if (signal !== 0) {
    throw new WeftError('system', `\`${[file, ...args].join(' ')}\` was killed (signal ${signal})`);
  }
  return { exitCode, stdout, stderr };
}

function failed(file: string, name: string, missing: string): WeftError {
  if (name === 'ETIME') return new WeftError('system', `\`${file}\` did not end in ${LONGEST_MS / 1000} s`);
  if (name === 'ENOENT') return new WeftError('system', missing);
  const text = descriptorsText(name);
  if (text !== undefined) return new WeftError('exhausted', `\`${file}\` could not be started: ${text}`);
  const remedy = name === 'EPERM' ? '; run weft as root' : '';
  return new WeftError('system', `\`${file}\` could not be started (${name})${remedy}`);
}
