/** Manual pages, made of the help: one for weft, and one for each of its commands. */
import type { Command } from 'commander';
import { version } from '../package.ts';

/** The texts of pages in roff, by file name. */
export function manPages(program: Command): ReadonlyMap<string, string> {
  const pages = new Map<string, string>();
  const add = (command: Command, above: readonly Command[]): void => {
    const path = [...above, command];
    pages.set(`${path.map((one) => one.name()).join('-')}.1`, page(command, path));
    for (const inner of visible(command)) add(inner, path);
  };
  add(program, []);
  return pages;
}

function page(command: Command, path: readonly Command[]): string {
  const help = command.createHelp();
  const name = path.map((one) => one.name()).join('-');
  const items = (title: string, all: readonly (readonly [string, string])[]): string[] =>
    all.length === 0
      ? []
      : [`.SH ${title}`, ...all.flatMap(([term, text]) => ['.TP', `.B ${escaped(term)}`, escaped(text)])];
  const globals = path.length > 1 ? help.visibleGlobalOptions(command) : [];
  const options = [...help.visibleOptions(command), ...globals];
  const inner = visible(command);
  return [
    `.TH ${name.toUpperCase()} 1 "" "weft ${version}" "weft"`,
    '.SH NAME',
    `${escaped(name)} \\- ${escaped(command.description().replace(/\.$/, ''))}`,
    '.SH SYNOPSIS',
    `.B ${escaped(help.commandUsage(command))}`,
    ...items(
      'ARGUMENTS',
      help.visibleArguments(command).map((one) => [help.argumentTerm(one), help.argumentDescription(one)]),
    ),
    ...items(
      'COMMANDS',
      inner.map((one) => [help.subcommandTerm(one), help.subcommandDescription(one)]),
    ),
    ...items(
      'OPTIONS',
      options.map((one) => [help.optionTerm(one), help.optionDescription(one)]),
    ),
    ...more(command),
    '.SH SEE ALSO',
    [...path.slice(0, -1).map((_, at) => path.slice(0, at + 1)), ...inner.map((one) => [...path, one])]
      .map((one) => `.BR ${escaped(one.map((part) => part.name()).join('-'))} (1)`)
      .join(',\n'),
    '',
  ].join('\n');
}

/** What the help says behind the options: examples and notes, whose first line is a title if it ends in a colon. */
function more(command: Command): string[] {
  let all = '';
  command.configureOutput({ writeOut: (text) => (all += text) }).outputHelp();
  const after = all.slice(command.helpInformation().length);
  return after
    .split(/\n{2,}/)
    .filter((part) => part.trim() !== '')
    .flatMap((part) => {
      const [first = '', ...rest] = part.replace(/^\n+/, '').trimEnd().split('\n');
      const [title, body] = /^[A-Z][a-z]+:$/.test(first)
        ? [first.slice(0, -1).toUpperCase(), rest]
        : ['NOTES', [first, ...rest]];
      return [`.SH ${title}`, '.nf', ...body.map(escaped), '.fi'];
    });
}

function visible(command: Command): readonly Command[] {
  return command.createHelp().visibleCommands(command);
}

/** For a line of text: nothing in it is a request or an escape of roff. */
function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .split('\n')
    .map((line) => line.replace(/^(?=[.'])/, '\\&'))
    .join('\n');
}
