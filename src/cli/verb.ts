/**
 * What all verbs have in common: how one is declared, the global options, and how failures end
 * the process (0 success, 1 failure, 2 wrong usage).
 *
 * The file of a verb imports only this and what parsing needs. What its action needs, it
 * imports when it runs, so that all other verbs start fast.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { Client, DEFAULT_SOCKET } from '../api/client.ts';
import { WeftError } from '../error.ts';
import { build, version } from '../package.ts';

export type OutputFormat = 'table' | 'json' | 'yaml';

/** The verbs that know `-o name` besides the other formats. */
const PRINT_NAMES: readonly string[] = ['get', 'hosts', 'services'];
/** Those that have more columns with `-o wide`. For all others, it is the usual table, as with kubectl. */
const PRINT_WIDE: readonly string[] = ['get', 'hosts', 'services'];

export interface GlobalOptions {
  readonly socket: string;
  readonly output: OutputFormat;
}

export function createProgram(version: string): Command {
  const program = new Command('weft')
    .description('A userspace virtual switch and overlay network for Linux containers.')
    .option('--socket <path>', 'unix socket of the daemon', DEFAULT_SOCKET)
    .addOption(
      new Option('-o, --output <format>', 'how to print')
        .choices(['table', 'json', 'yaml', 'name', 'wide'] satisfies (OutputFormat | 'name' | 'wide')[])
        .default('table'),
    )
    .hook('preAction', (_, action) => {
      const { output } = action.optsWithGlobals<{ output: OutputFormat | 'name' | 'wide' }>();
      if (output === 'name' && !PRINT_NAMES.includes(action.name()))
        action.error(`error: -o name: only weft ${PRINT_NAMES.join(', ')} print names`);
      if (output === 'wide' && !PRINT_WIDE.includes(action.name())) program.setOptionValue('output', 'table');
    })
    .version(version, '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    // Its messages come back as errors and are printed once, by `run`.
    .configureOutput({ writeErr: () => {} });
  return program.exitOverride((error) => leave(program, error));
}

export interface VerbHelp {
  readonly summary: string;
  /** Whole command lines. */
  readonly examples: readonly string[];
}

/** Declares a verb: `usage` is its name and arguments, as commander writes them. */
export function verb(parent: Command, usage: string, { summary, examples }: VerbHelp): Command {
  const command = parent.command(usage).description(summary).helpCommand(false);
  command.addHelpText('after', `\nExamples:\n${examples.map((line) => `  ${line}`).join('\n')}`);
  return command.exitOverride((error) => leave(command, error));
}

/** Turns commander's errors into ours. Output of commander's own (help, version) still exits with 0. */
function leave(command: Command, error: CommanderError): never {
  if (error.exitCode === 0) throw error;
  const path: string[] = [];
  for (let at: Command | null = command; at; at = at.parent) path.unshift(at.name());
  const what =
    error.code === 'commander.help'
      ? 'a command is missing'
      : error.code === 'commander.excessArguments'
        ? excessText(command)
        : error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ');
  throw new WeftError('usage', `${what} (see ${path.join(' ')} --help)`);
}

function excessText({ args, registeredArguments }: Command): string {
  const excess = args.slice(registeredArguments.length).map((arg) => JSON.stringify(arg));
  return `${excess.join(', ')} ${excess.length === 1 ? 'is' : 'are'} not expected`;
}

export function globals(command: Command): GlobalOptions {
  return command.optsWithGlobals<GlobalOptions>();
}

/** The client of the command that runs. */
let asked: Client | undefined;

export function clientOf(command: Command): Client {
  return (asked = new Client(globals(command).socket));
}

/** How to make the daemon the same build as this command; undefined if it is, or if none has answered. */
export function otherBuildText(): string | undefined {
  const daemon = asked?.daemonBuild;
  if (daemon === undefined || daemon === build) return undefined;
  const its = daemon?.split('+')[0];
  const what =
    its === undefined ? 'an older build' : its === version ? `another build of version ${its}` : `version ${its}`;
  return `the daemon is ${what}, and this command is version ${version}: restart the daemon with \`weft up --takeover\` and its other options, or with \`weft down\` and \`weft up\` (containers keep their interfaces)`;
}

/** For options that may be given several times. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

/** An option that takes one value, and is given two, would lose one of them without a word. */
function refuseSeconds(command: Command): void {
  for (const option of command.options) {
    if ((!option.required && !option.optional) || option.parseArg === collect) continue;
    let first: string | undefined;
    command.on(`option:${option.name()}`, (value: string | null) => {
      const text = value ?? '';
      if (first !== undefined && first !== text) {
        command.error(`error: ${option.long} is given twice, as ${JSON.stringify(first)} and ${JSON.stringify(text)}`);
      }
      first = text;
    });
  }
  for (const inner of command.commands) refuseSeconds(inner);
}

/** What is no failure, and belongs to no report. */
export function note(text: string): void {
  process.stderr.write(`note: ${text}\n`);
}

/** A decimal number of at least `least`, and at most `most` if it is given. */
export function count(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      const range = most === Number.MAX_SAFE_INTEGER ? `${least} or more` : `${least} to ${most}`;
      throw new InvalidArgumentError(`It is a whole number, ${range}.`);
    }
    return value;
  };
}

/** Runs the command line; never throws. Sets the exit code; the process ends when the event loop is empty. */
export async function run(program: Command, argv: readonly string[]): Promise<void> {
  // A reader that has read enough (`weft flows | head`) is not a failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit();
    process.stderr.write(`weft: cannot write the output: ${error.message}\n`);
    process.exit(1);
  });
  refuseSeconds(program);
  try {
    await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode;
      return;
    }
    process.exitCode = error instanceof WeftError && error.code === 'usage' ? 2 : 1;
    process.stderr.write(`weft: ${failureText(error)}\n`);
  }
}

function failureText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // What another version does not answer or does not know is no defect.
  if (error instanceof TypeError || isNoRoute(error)) {
    const other = otherBuildText();
    if (other !== undefined) return other;
  }
  if (error instanceof WeftError) return error.message.replaceAll(/\s*\n\s*/g, '; ');
  // An unexpected error: whoever reports it needs the stack.
  return `internal error: ${error.stack ?? error.message}`;
}

/** True if the daemon does not have what was asked for in its API. */
function isNoRoute(error: Error): boolean {
  return error instanceof WeftError && error.code === 'not_found' && error.message.endsWith('is not part of the API');
}
