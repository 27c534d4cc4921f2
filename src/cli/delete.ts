/** `weft delete`: removes what manifests declare, or one resource by its name. */
import type { Command } from 'commander';
import { each } from './apply.ts';
import { parseKind } from './kind.ts';
import { clientOf, verb } from './verb.ts';

export function deleteVerb(program: Command): void {
  verb(program, 'delete [kind] [name]', {
    summary: 'remove resources: those of manifests, or KIND NAME',
    examples: ['weft delete -f manifests/', 'weft delete endpoint web'],
  })
    .option('-f, --filename <file|dir|->', 'manifest, directory of *.yaml, *.yml and *.json, or - for stdin')
    .action(
      async (
        kindText: string | undefined,
        name: string | undefined,
        { filename }: { filename?: string },
        command: Command,
      ) => {
        const client = clientOf(command);
        if (filename !== undefined && kindText === undefined) {
          const { readManifests } = await import('./manifests.ts');
          const resources = (await readManifests(filename)).reverse();
          await each(command, resources, ({ kind, metadata }) => client.delete(kind, metadata.name));
        } else if (filename === undefined && kindText !== undefined && name !== undefined) {
          await each(command, [parseKind(kindText, command)], (kind) => client.delete(kind, name));
        } else {
          command.error('error: give either -f FILE or KIND NAME');
        }
      },
    );
}
