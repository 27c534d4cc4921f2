/**
 * Resources on the command line: `endpoint web`, `endpoint/web`, `ep web -n shop`; kinds are case-insensitive.
 * Loading the kinds also loads their schemas, so this happens only where they are needed and all other commands start
 * fast.
 */
import type { Command } from 'commander';
import type { KindDefinition } from '../model/kinds/kind.ts';
import type * as registry from '../model/kinds/registry.ts';

let loaded: typeof registry | undefined;

/** Must be called before printing help that names the kinds. */
export async function loadKinds(): Promise<typeof registry> {
  return (loaded ??= await import('../model/kinds/registry.ts'));
}

/** Adds the kinds and their other names to the help. */
export function withKinds(command: Command): Command {
  return command.addHelpText('after', () => {
    const names = (loaded?.kinds ?? []).map(({ plural, shortNames }) => [plural, ...shortNames].join(', '));
    return `\nKinds: ${names.join('; ')}`;
  });
}

export interface NamespaceOptions {
  readonly namespace?: string;
}

export interface Target {
  readonly kind: KindDefinition;
  readonly name: string | undefined;
}

export function withNamespace(command: Command): Command {
  return command.option('-n, --namespace <name>', 'the namespace, as in Kubernetes (default: default)');
}

/** Parses KIND and NAME, or KIND/NAME. */
export async function parseTarget(kindText: string, name: string | undefined, command: Command): Promise<Target> {
  const { findKind, unknownKindText } = await loadKinds();
  const [text = '', slashed, ...more] = name === undefined ? kindText.split('/') : [kindText];
  if (name !== undefined && text.includes('/'))
    command.error(`error: ${text} ${name}: give one resource, as KIND NAME or KIND/NAME`);
  const kind = findKind(text);
  if (kind === undefined) command.error(`error: ${unknownKindText(text)}`);
  const given = name ?? slashed;
  if (more.length > 0 || given?.includes('/')) {
    command.error(`error: ${name ?? kindText}: a name has no "/"; -n gives the namespace`);
  }
  return { kind, name: given };
}

/** The same where a name is required. */
export async function parseNamed(
  kindText: string,
  name: string | undefined,
  command: Command,
): Promise<Target & { name: string }> {
  const target = await parseTarget(kindText, name, command);
  if (target.name === undefined || target.name === '')
    command.error('error: NAME is missing: give KIND NAME or KIND/NAME');
  return { ...target, name: target.name };
}

/** Parses KIND NAME…, or KIND/NAME…: at least one. */
export async function parseAllNamed(
  kindText: string,
  names: readonly string[],
  command: Command,
): Promise<(Target & { name: string })[]> {
  const isSlashed = kindText.includes('/');
  const odd = isSlashed ? names.find((word) => !word.includes('/')) : undefined;
  if (odd !== undefined) command.error(`error: ${odd}: give KIND NAME…, or KIND/NAME for each`);
  const words = isSlashed ? [kindText, ...names] : names;
  if (words.length === 0) await parseNamed(kindText, undefined, command);
  const targets: (Target & { name: string })[] = [];
  for (const word of words) {
    targets.push(await (isSlashed ? parseNamed(word, undefined, command) : parseNamed(kindText, word, command)));
  }
  return targets;
}

/**
 * Turns `foo=1` and `bar-` into `{ foo: '1', bar: null }`. @param what the argument or option that gave them, for
 * messages
 */
export function parseLabels(texts: readonly string[], what: string, command: Command): Record<string, string | null> {
  const labels = new Map<string, string | null>();
  for (const text of texts) {
    const [, key, value] = /^([^=]+)=(.*)$/.exec(text) ?? /^([^=]+)-$/.exec(text) ?? [];
    if (key === undefined) command.error(`error: ${what}${text}: it is KEY=VALUE, or KEY- to take it away`);
    if (labels.has(key)) command.error(`error: ${what}${text}: ${key} is given twice`);
    labels.set(key, value ?? null);
  }
  return Object.fromEntries(labels);
}
