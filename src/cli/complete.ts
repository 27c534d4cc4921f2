/**
 * `weft __complete WORD…`: what the last word can become, one per line, with a tab and a description where there is one.
 * The scripts of `weft completion` call it each time somebody presses Tab.
 *
 *   1. the words before the last one lead to a command, and to the option or argument that the last word is for
 *   2. verbs, options and choices come from the commands themselves, kinds from their registry
 *   3. names come from the daemon. If it does not answer soon, there are none
 *
 * It never fails and prints nothing else. `:files` in place of the words leaves them to the shell: it completes paths.
 */
import { readdirSync } from 'node:fs';
import type { Argument, Command, Option } from 'commander';
import { Client, DEFAULT_SOCKET } from '../api/client.ts';
import { loadKinds } from './kind.ts';
import { write } from './print.ts';

/** How long a person who has pressed Tab waits for names. */
const NAMES_MS = 1000;
const FILES = ':files';

interface Candidate {
  readonly word: string;
  readonly description?: string;
}

/** What the words before the last one say. */
interface Given {
  readonly command: Command;
  readonly arguments: readonly string[];
  /** By long name; true without a value. */
  readonly options: ReadonlyMap<string, string | true>;
  /** The option whose value the last word is. */
  readonly option: Option | undefined;
}

/** The kinds whose names an option takes. */
const namedByOption: Readonly<Record<string, string>> = {
  '--network': 'Network',
  '--namespace': 'Namespace',
  '--endpoint': 'Endpoint',
  '--service': 'Service',
  '--port': 'Endpoint',
};
/** The kinds whose names an argument takes, by the command and the name of the argument. */
const namedByArgument: Readonly<Record<string, string>> = {
  'detach name': 'Endpoint',
  'services name': 'Service',
  'network create name': 'Network',
  'network rm name': 'Network',
};

export async function complete(program: Command, words: readonly string[]): Promise<void> {
  const last = words.at(-1) ?? '';
  const candidates = await candidatesFor(read(program, words.slice(0, -1)), last).catch((): Candidate[] => []);
  const fitting = candidates.filter(({ word }) => word.startsWith(last) || word === FILES);
  await write(
    fitting.map(({ word, description }) => `${word}${description === undefined ? '' : `\t${description}`}\n`).join(''),
  );
}

function read(program: Command, words: readonly string[]): Given {
  let command = program;
  let option: Option | undefined;
  let areOptionsOver = false;
  const given: string[] = [];
  const options = new Map<string, string | true>();
  for (const word of words) {
    if (option) {
      options.set(option.long!, word);
      option = undefined;
    } else if (word === '--') {
      areOptionsOver = true;
    } else if (word.startsWith('-') && !areOptionsOver) {
      const [flag = '', ...value] = word.split('=');
      const found = optionsOf(command).find(({ long, short }) => flag === long || flag === short);
      if (!found) continue;
      if (takesValue(found) && value.length === 0) option = found;
      options.set(found.long!, value.length === 0 ? true : value.join('='));
    } else {
      const child = given.length === 0 ? command.commands.find((one) => one.name() === word) : undefined;
      if (child) command = child;
      else given.push(word);
    }
  }
  return { command, arguments: given, options, option };
}

async function candidatesFor(given: Given, last: string): Promise<readonly Candidate[]> {
  const { command, option, options } = given;
  if (option) return valuesOf(option, given);
  const [flag = '', value] = last.split('=', 2);
  if (last.startsWith('--') && value !== undefined) {
    const found = optionsOf(command).find(({ long }) => long === flag);
    const values = found && takesValue(found) ? await valuesOf(found, given) : [];
    return values.map((one) => (one.word === FILES ? one : { ...one, word: `${flag}=${one.word}` }));
  }
  if (last.startsWith('-')) {
    const left = optionsOf(command).filter(({ long, parseArg }) => parseArg !== undefined || !options.has(long!));
    return left.map(({ long, description }) => ({ word: long!, description }));
  }
  if (command.commands.length > 0) {
    const verbs = given.arguments.length > 0 ? [] : command.commands;
    return verbs.map((one) => ({ word: one.name(), description: one.description() }));
  }
  return argumentValues(given, last);
}

async function argumentValues(given: Given, last: string): Promise<readonly Candidate[]> {
  const { command, arguments: before } = given;
  const known = command.registeredArguments;
  const argument: Argument | undefined = known[before.length] ?? (known.at(-1)?.variadic ? known.at(-1) : undefined);
  if (!argument) return [];
  if (argument.argChoices) return argument.argChoices.map((word) => ({ word }));
  if (argument.name() === 'kind') return kindsOrNames(given, last);
  if (argument.name() === 'name' && known[0]?.name() === 'kind') {
    const kind = (await loadKinds()).findKind(before[0]!.split('/')[0]!);
    if (before[0]!.includes('/')) return argument.variadic ? kindsOrNames(given, last) : [];
    return kind ? namesOf(kind.kind, given) : [];
  }
  const kind = namedByArgument[`${pathOf(command)} ${argument.name()}`];
  return kind === undefined ? [] : namesOf(kind, given);
}

/** `endpoint`, or with a slash already `endpoint/web`. */
async function kindsOrNames(given: Given, last: string): Promise<readonly Candidate[]> {
  const { kinds, findKind } = await loadKinds();
  const [text = '', name] = last.split('/', 2);
  if (name === undefined) {
    return kinds.map(({ kind, plural, shortNames }) => ({
      word: kind.toLowerCase(),
      description: [plural, ...shortNames].join(', '),
    }));
  }
  const kind = findKind(text);
  const names = kind ? await namesOf(kind.kind, given) : [];
  return names.map((one) => ({ ...one, word: `${text}/${one.word}` }));
}

async function valuesOf(option: Option, given: Given): Promise<readonly Candidate[]> {
  if (option.argChoices) return option.argChoices.map((word) => ({ word }));
  if (option.long === '--netns') return readdirSync('/run/netns').map((word) => ({ word }));
  if (/<(?:\S+\|)?(?:path|file|dir)\b/.test(option.flags)) return [{ word: FILES }];
  const kind = namedByOption[option.long!];
  return kind === undefined ? [] : namesOf(kind, given);
}

/** The names that the daemon knows. @throws WeftError if it does not answer in time */
async function namesOf(kind: string, { options }: Given): Promise<readonly Candidate[]> {
  const [socket, namespace] = [options.get('--socket'), options.get('--namespace')];
  const client = new Client(typeof socket === 'string' ? socket : DEFAULT_SOCKET);
  const isNamespaced = kind === 'Endpoint' || kind === 'Service';
  const place = isNamespaced ? { namespace: typeof namespace === 'string' ? namespace : 'default' } : {};
  let timeout: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timeout = setTimeout(() => reject(new Error('no answer')), NAMES_MS);
  });
  try {
    const resources = await Promise.race([client.get(kind, undefined, place), late]);
    return resources.map(({ metadata: { name } }) => ({ word: name }));
  } finally {
    clearTimeout(timeout);
  }
}

/** Those of the command and the global ones, but not those that are hidden. */
function optionsOf(command: Command): Option[] {
  const own: Option[] = [];
  for (let at: Command | null = command; at; at = at.parent) own.push(...at.createHelp().visibleOptions(at));
  return own.filter((one, at) => own.findIndex(({ long }) => long === one.long) === at);
}

function takesValue({ required, optional }: Option): boolean {
  return required || optional;
}

/** `network rm` */
function pathOf(command: Command): string {
  const names: string[] = [];
  for (let at: Command = command; at.parent; at = at.parent) names.unshift(at.name());
  return names.join(' ');
}
