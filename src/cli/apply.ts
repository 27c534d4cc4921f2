/** `weft apply`: brings about what manifests declare. */
import type { Command } from 'commander';
import type { ApplyReport } from '../model/report.ts';
import { applyText } from './apply-text.ts';
import { print, write } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function apply(program: Command): void {
  verb(program, 'apply', {
    summary: 'create or change what manifests declare',
    examples: ['weft apply -f network.yaml', 'weft apply -f manifests/ --dry-run', 'cat all.yaml | weft apply -f -'],
  })
    .requiredOption('-f, --filename <file|dir|->', 'manifest, directory of *.yaml, *.yml and *.json, or - for stdin')
    .option('--dry-run', 'check only and say what would be done')
    .action(async ({ filename, dryRun = false }: { filename: string; dryRun?: boolean }, command: Command) => {
      const { readManifests } = await import('./manifests.ts');
      const client = clientOf(command);
      await each(command, await readManifests(filename), (resource) => client.apply(resource, { dryRun }));
    });
}

/** Does one after the other and prints each; after a failure, what was done before is still printed. */
export async function each<T>(
  command: Command,
  items: readonly T[],
  act: (item: T) => Promise<ApplyReport>,
): Promise<void> {
  const { output } = globals(command);
  const reports: ApplyReport[] = [];
  try {
    for (const item of items) {
      const report = await act(item);
      reports.push(report);
      if (output === 'table') await write(applyText(report));
    }
  } finally {
    if (output !== 'table') await print(output, reports, () => '');
  }
}
