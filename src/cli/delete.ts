/** `weft delete`: removes what manifests declare, or resources by their names. */
import type { Command } from 'commander';
import type { Client } from '../api/client.ts';
import type { ApplyReport } from '../model/report.ts';
import { applyText } from './apply-text.ts';
import { throwAll, tryEach } from './failures.ts';
import { parseAllNamed, withKinds, withNamespace, type NamespaceOptions } from './kind.ts';
import { print, write } from './print.ts';
import { clientOf, collect, globals, verb } from './verb.ts';
import { addWait, waitIfAsked, type WaitOptions } from './wait.ts';

interface Options extends NamespaceOptions, WaitOptions {
  readonly filename?: readonly string[];
  readonly ignoreNotFound?: boolean;
}

interface Wanted {
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string | undefined;
}

export function deleteVerb(program: Command): void {
  const command = verb(program, 'delete [kind] [name...]', {
    summary: 'remove resources: those of manifests, or KIND NAME…',
    examples: [
      'weft delete -f manifests/',
      'weft delete endpoint web',
      'weft delete ep web db cache',
      'weft delete svc/web ep/web -n shop',
      'weft delete host b',
      'weft delete -f blue.yaml --ignore-not-found',
      'weft delete netpol/db --wait=10s',
    ],
  });
  addWait(withNamespace(withKinds(command)))
    .option(
      '-f, --filename <file|dir|->',
      'manifest, directory of *.yaml, *.yml and *.json, or - for stdin; may be given several times',
      collect,
    )
    .option('--ignore-not-found', 'what does not exist (any more) is no failure')
    .action(async (kindText: string | undefined, names: string[], options: Options, command: Command) => {
      const { filename, ignoreNotFound = false } = options;
      const client = clientOf(command);
      let deleted: readonly ApplyReport[] = [];
      if (filename !== undefined && kindText === undefined) {
        const { readManifests } = await import('./manifests.ts');
        const resources = (await readManifests(filename)).reverse();
        const wanted = resources.map(({ kind, metadata: { name, namespace } }) => ({ kind, name, namespace }));
        deleted = await deleteAll(command, client, wanted, ignoreNotFound);
      } else if (filename === undefined && kindText !== undefined && (names.length > 0 || kindText.includes('/'))) {
        const targets = await parseAllNamed(kindText, names, options, command);
        const wanted = targets.map(({ kind: { kind }, name, namespace }) => ({ kind, name, namespace }));
        deleted = await deleteAll(command, client, wanted, ignoreNotFound);
      } else {
        command.error('error: give either -f FILE or KIND NAME');
      }
      await waitIfAsked(options, command, deleted);
    });
}

/** @returns what was removed @throws WeftError that names all that could not be removed */
async function deleteAll(
  command: Command,
  client: Client,
  wanted: readonly Wanted[],
  ignoreNotFound: boolean,
): Promise<readonly ApplyReport[]> {
  const { output } = globals(command);
  const { done, failures } = await tryEach(wanted, async ({ kind, name, namespace }) => {
    const report = await client.delete(kind, name, { namespace });
    if (output === 'table') await write(applyText(report));
    return report;
  });
  if (output !== 'table') await print(output, done, () => '');
  const told = failures.filter(({ code }) => code !== 'not_found' || !ignoreNotFound);
  const isMissing = told.every(({ code }) => code === 'not_found');
  throwAll(
    told,
    isMissing && wanted.length > 1 ? ' (all others are deleted; --ignore-not-found makes this no failure)' : '',
  );
  return done;
}
