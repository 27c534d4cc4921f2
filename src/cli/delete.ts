/** `weft delete`: removes what manifests declare, or one resource by its name. */
import type { Command } from 'commander';
import type { Client } from '../api/client.ts';
import { WeftError } from '../error.ts';
import type { Kind } from '../model/resource.ts';
import { each } from './apply.ts';
import { parseKind } from './kind.ts';
import { clientOf, verb } from './verb.ts';

interface Options {
  readonly filename?: string;
  readonly ignoreNotFound?: boolean;
}

interface Wanted {
  readonly kind: Kind;
  readonly name: string;
}

export function deleteVerb(program: Command): void {
  verb(program, 'delete [kind] [name]', {
    summary: 'remove resources: those of manifests, or KIND NAME',
    examples: ['weft delete -f manifests/', 'weft delete endpoint web', 'weft delete -f blue.yaml --ignore-not-found'],
  })
    .option('-f, --filename <file|dir|->', 'manifest, directory of *.yaml, *.yml and *.json, or - for stdin')
    .option('--ignore-not-found', 'what does not exist (any more) is no failure')
    .action(async (kindText: string | undefined, name: string | undefined, options: Options, command: Command) => {
      const { filename, ignoreNotFound = false } = options;
      const client = clientOf(command);
      if (filename !== undefined && kindText === undefined) {
        const { readManifests } = await import('./manifests.ts');
        const resources = (await readManifests(filename)).reverse();
        const wanted = resources.map(({ kind, metadata }) => ({ kind, name: metadata.name }));
        await deleteAll(command, client, wanted, ignoreNotFound);
      } else if (filename === undefined && kindText !== undefined && name !== undefined) {
        await deleteAll(command, client, [{ kind: parseKind(kindText, command), name }], ignoreNotFound);
      } else {
        command.error('error: give either -f FILE or KIND NAME');
      }
    });
}

/**
 * One that does not exist, or is in use, keeps no other one from being removed.
 * @throws WeftError about all that were not
 */
async function deleteAll(
  command: Command,
  client: Client,
  wanted: readonly Wanted[],
  ignoreNotFound: boolean,
): Promise<void> {
  const failures: WeftError[] = [];
  await each(command, wanted, async ({ kind, name }) => {
    try {
      return await client.delete(kind, name);
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
