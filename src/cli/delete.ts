/** `weft delete`: removes what manifests declare, or one resource by its name. */
import type { Command } from 'commander';
import type { Client } from '../api/client.ts';
import { WeftError } from '../error.ts';
import type { ApplyReport } from '../model/report.ts';
import { applyText } from './apply-text.ts';
import { parseNamed, withKinds, withNamespace, type NamespaceOptions } from './kind.ts';
import { print, write } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

interface Options extends NamespaceOptions {
  readonly filename?: string;
  readonly ignoreNotFound?: boolean;
}

interface Wanted {
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string | undefined;
}

export function deleteVerb(program: Command): void {
  const command = verb(program, 'delete [kind] [name]', {
    summary: 'remove resources: those of manifests, or KIND NAME',
    examples: [
      'weft delete -f manifests/',
      'weft delete endpoint web',
      'weft delete ep/web -n shop',
      'weft delete host b',
      'weft delete -f blue.yaml --ignore-not-found',
    ],
  });
  withNamespace(withKinds(command))
    .option('-f, --filename <file|dir|->', 'manifest, directory of *.yaml, *.yml and *.json, or - for stdin')
    .option('--ignore-not-found', 'what does not exist (any more) is no failure')
    .action(async (kindText: string | undefined, name: string | undefined, options: Options, command: Command) => {
      const { filename, ignoreNotFound = false } = options;
      const client = clientOf(command);
      if (filename !== undefined && kindText === undefined) {
        const { readManifests } = await import('./manifests.ts');
        const resources = (await readManifests(filename)).reverse();
        const wanted = resources.map(({ kind, metadata: { name, namespace } }) => ({ kind, name, namespace }));
        await deleteAll(command, client, wanted, ignoreNotFound);
      } else if (filename === undefined && kindText !== undefined && (name !== undefined || kindText.includes('/'))) {
        const target = await parseNamed(kindText, name, command);
        const wanted = { kind: target.kind.kind, name: target.name, namespace: options.namespace };
        await deleteAll(command, client, [wanted], ignoreNotFound);
      } else {
        command.error('error: give either -f FILE or KIND NAME');
      }
    });
}

/**
 * A resource that does not exist or is still in use does not keep the others from being removed.
 * @throws WeftError that names all that could not be removed
 */
async function deleteAll(
  command: Command,
  client: Client,
  wanted: readonly Wanted[],
  ignoreNotFound: boolean,
): Promise<void> {
  const failures: WeftError[] = [];
  await each(command, wanted, async ({ kind, name, namespace }) => {
    try {
      return await client.delete(kind, name, { namespace });
    } catch (error) {
      if (!(error instanceof WeftError) || !['not_found', 'conflict'].includes(error.code)) throw error;
      if (error.code !== 'not_found' || !ignoreNotFound) failures.push(error);
      return undefined;
    }
  });
  const [first] = failures;
  if (!first) return;
  const text = failures.map(({ message }) => message).join('; ');
  const isMissing = failures.every(({ code }) => code === 'not_found');
  const hint =
    isMissing && wanted.length > 1 ? ' (all others are deleted; --ignore-not-found makes this no failure)' : '';
  throw new WeftError(first.code, `${text}${hint}`);
}

/** Handles one after the other and prints each result. After a failure, the results before it have been printed. */
async function each<T>(
  command: Command,
  items: readonly T[],
  act: (item: T) => Promise<ApplyReport | undefined>,
): Promise<void> {
  const { output } = globals(command);
  const reports: ApplyReport[] = [];
  try {
    for (const item of items) {
      const report = await act(item);
      if (!report) continue;
      reports.push(report);
      if (output === 'table') await write(applyText(report));
    }
  } finally {
    if (output !== 'table') await print(output, reports, () => '');
  }
}
