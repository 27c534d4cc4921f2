/**
 * Helper processes (`ip`, `nft`): the one place that starts them.
 *
 * If a process cannot be started, for whatever reason, the caller gets a rejection: without
 * descriptors, memory or the program itself a child has no pipes, so its `error` event is
 * listened for before they are touched. A process that does not end is killed.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { descriptorsText, WeftError } from '../error.ts';

export interface CommandResult {
  /** Undefined when a signal ended it. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Written to its standard input. */
  readonly input?: string;
  /** A descriptor of ours, which the child gets as descriptor 3. */
  readonly inherited?: number;
  /** The message for the operator if the program is not installed. */
  readonly missing: string;
}

/** The longest command takes seconds, on a host with thousands of rules and links. */
const LONGEST_MS = 60_000;

/**
 * Runs `file` to its end, whatever its exit code, with messages in English.
 * @throws WeftError `system` if it cannot be started or does not end, `exhausted` if descriptors ran out
 */
export function runCommand(file: string, args: readonly string[], options: CommandOptions): Promise<CommandResult> {
  const { input = '', inherited, missing } = options;
  return new Promise((resolve, reject) => {
    const refuse = (error: NodeJS.ErrnoException): void => reject(startError(file, error, missing));
    let child: ChildProcess;
    try {
      child = spawn(file, args, {
        stdio: ['pipe', 'pipe', 'pipe', ...(inherited === undefined ? [] : [inherited])],
        env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
        signal: AbortSignal.timeout(LONGEST_MS),
        killSignal: 'SIGKILL',
      });
    } catch (error) {
      refuse(error as NodeJS.ErrnoException);
      return;
    }
    child.once('error', refuse);
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdin?.on('error', () => undefined); // it ended before it read all: its exit code says why
    child.stdin?.end(input);
    child.once('close', (code, signal) => {
      if (signal === 'SIGKILL') reject(new WeftError('system', `\`${[file, ...args].join(' ')}\` was killed`));
      else resolve({ exitCode: code ?? undefined, stdout, stderr });
    });
  });
}

function startError(file: string, error: NodeJS.ErrnoException, missing: string): WeftError {
  const { code = error.message } = error;
  if (code === 'ABORT_ERR') return new WeftError('system', `\`${file}\` did not end in ${LONGEST_MS / 1000} s`);
  if (code === 'ENOENT') return new WeftError('system', missing, { cause: error });
  const text = descriptorsText(code);
  if (text !== undefined) {
    return new WeftError('exhausted', `\`${file}\` could not be started: ${text}`, { cause: error });
  }
  return new WeftError('system', `\`${file}\` could not be started (${code})`, { cause: error });
}
