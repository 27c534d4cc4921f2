/**
 * Helper programs (`ip`, `nft`): the one place that runs them.
 *
 * The addon runs each on a thread of its own, and starts it without copying this process. If a
 * program cannot be started, for whatever reason, the caller gets a rejection; one that does not
 * end, or writes without end, is killed. Of very many, some wait for their turn.
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
/** So many run at a time: each has a thread and some descriptors. */
const MOST_AT_ONCE = 16;

let atWork = 0;
const waiting: (() => void)[] = [];

/**
 * Runs `file` to its end, whatever its exit code, with messages in English.
 * @throws WeftError `system` if it cannot be started, does not end, or writes too much; `exhausted` if descriptors ran out
 */
export async function runCommand(
  file: string,
  args: readonly string[],
  { input = '', netns = -1, missing }: CommandOptions,
): Promise<CommandResult> {
  const path = process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin';
  const ended = await inTurn(() => loadAddon().runCommand([file, ...args], path, input, netns, LONGEST_MS));
  if (ended.result !== 0) throw failed(file, errnoName(-ended.result), missing);
  const { signal, exitCode, stdout, stderr } = ended;
  if (signal !== 0) {
    throw new WeftError('system', `\`${[file, ...args].join(' ')}\` was killed (signal ${signal})`);
  }
  return { exitCode, stdout, stderr };
}

async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (atWork < MOST_AT_ONCE) atWork++;
  else await new Promise<void>((begin) => waiting.push(begin));
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else atWork--;
  }
}

function failed(file: string, name: string, missing: string): WeftError {
  if (name === 'ETIMEDOUT') return new WeftError('system', `\`${file}\` did not end in ${LONGEST_MS / 1000} s`);
  if (name === 'EFBIG') return new WeftError('system', `\`${file}\` wrote too much`);
  if (name === 'ENOENT') return new WeftError('system', missing);
  const text = descriptorsText(name);
  if (text !== undefined) return new WeftError('exhausted', `\`${file}\` could not be started: ${text}`);
  const remedy = name === 'EPERM' ? '; run weft as root' : '';
  return new WeftError('system', `\`${file}\` could not be started (${name})${remedy}`);
}
