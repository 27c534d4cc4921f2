/**
 * Resources on the command line: `endpoint web`, `endpoint/web`, `ep web -n shop`, `ep shop/web`; kinds are case-insensitive.
 * Loading the kinds also loads their schemas, so this happens only where they are needed and all other commands start
 * fast.
 */
import type { Command } from 'commander';
import type { KindDefinition } from '../model/kinds/kind.ts';
import type * as registry from '../model/kinds/registry.ts';
import type { ResourceName } from '../model/name.ts';

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
  /** What was given; `default` is meant if it is missing. */
  readonly namespace?: string | undefined;
}

export function withNamespace(command: Command): Command {
  return command.option('-n, --namespace <name>', 'the namespace, as in Kubernetes (default: default)');
}

/**
 * NAME in the namespace that -n gives, or NAMESPACE/NAME, as names are printed.
 * @returns no namespace if neither gives one
 */
export function parseName(given: string, { namespace }: NamespaceOptions, command: Command): ResourceName {
  const [name = '', above, ...more] = given.split('/').reverse();
  if (above === undefined) return { name, namespace };
  if (more.length > 0 || name === '' || above === '')
    command.error(`error: ${given}: a name is NAME or NAMESPACE/NAME`);
  if (namespace !== undefined) command.error(`error: ${given}: a name has no "/" beside -n, which gives the namespace`);
  return { name, namespace: above };
}

/** Parses KIND and NAME, or KIND/NAME; each NAME may be NAMESPACE/NAME. */
export async function parseTarget(
  kindText: string,
  name: string | undefined,
  options: NamespaceOptions,
  command: Command,
): Promise<Target> {
  const { findKind, unknownKindText } = await loadKinds();
  const [text = '', ...slashed] = name === undefined ? kindText.split('/') : [kindText];
  if (name !== undefined && text.includes('/'))
    command.error(`error: ${text} ${name}: give one resource, as KIND NAME or KIND/NAME`);
  const kind = findKind(text);
  if (kind === undefined) command.error(`error: ${unknownKindText(text)}`);
  if (name === undefined && slashed.length === 0) return { kind, name, namespace: options.namespace };
  const given = name ?? slashed.join('/');
  if (given.includes('/')) {
    if (!kind.isNamespaced) command.error(`error: ${given}: a ${kind.kind} has no namespace`);
    if (name !== undefined && findKind(given.split('/')[0]!))
      command.error(
        `error: ${given}: give KIND NAME…, or KIND/NAME for each; a namespace that is called so is given by -n`,
      );
  }
  return { kind, ...parseName(given, options, command) };
}

/** The same where a name is required. */
export async function parseNamed(
  kindText: string,
  name: string | undefined,
  options: NamespaceOptions,
  command: Command,
): Promise<Target & { name: string }> {
  const target = await parseTarget(kindText, name, options, command);
  if (target.name === undefined || target.name === '')
    command.error('error: NAME is missing: give KIND NAME or KIND/NAME');
  return { ...target, name: target.name };
}

/** Parses KIND NAME…, or KIND/NAME…: at least one. */
export async function parseAllNamed(
  kindText: string,
  names: readonly string[],
  options: NamespaceOptions,
  command: Command,
): Promise<(Target & { name: string })[]> {
  const isSlashed = kindText.includes('/');
  const odd = isSlashed ? names.find((word) => !word.includes('/')) : undefined;
  if (odd !== undefined) command.error(`error: ${odd}: give KIND NAME…, or KIND/NAME for each`);
  const words = isSlashed ? [kindText, ...names] : names;
  if (words.length === 0) await parseNamed(kindText, undefined, options, command);
  const targets: (Target & { name: string })[] = [];
  for (const word of words) {
    const [kind, name] = isSlashed ? [word, undefined] : [kindText, word];
    targets.push(await parseNamed(kind, name, options, command));
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
