/**
 * Resources on the command line: `endpoint web`, `endpoint/web`, `ep web -n shop`; kinds in any case. The kinds bring
 * their schemas along, so they are loaded when they are needed, and every other verb starts fast.
 */
import type { Command } from 'commander';
import type { KindDefinition } from '../model/kinds/kind.ts';
import type * as registry from '../model/kinds/registry.ts';

let loaded: typeof registry | undefined;

/** To be called before help is printed, which names the kinds. */
export async function loadKinds(): Promise<typeof registry> {
  return (loaded ??= await import('../model/kinds/registry.ts'));
}

/** Help lists the kinds and what else they are called. */
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

/** KIND and NAME, or KIND/NAME. */
export async function parseTarget(kindText: string, name: string | undefined, command: Command): Promise<Target> {
  const { findKind, unknownKindText } = await loadKinds();
  const [text = '', slashed] = name === undefined ? kindText.split('/', 2) : [kindText];
  const kind = findKind(text);
  if (kind === undefined) command.error(`error: ${unknownKindText(text)}`);
  return { kind, name: name ?? slashed };
}

/** The same of one that has to be named. */
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

/** `{ foo: '1', bar: null }` of `foo=1` and `bar-`. @param what they are given by, for messages */
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
