/** `weft apply`: puts manifests into force, all of them or none. */
import type { Command } from 'commander';
import { applyText } from './apply-text.ts';
import { print } from './print.ts';
import { clientOf, collect, globals, verb } from './verb.ts';
import { addWait, waitIfAsked, type WaitOptions } from './wait.ts';

interface Options extends WaitOptions {
  readonly filename: readonly string[];
  readonly dryRun?: boolean;
}

export function apply(program: Command): void {
  const command = verb(program, 'apply', {
    summary: 'create or change what manifests declare: all of it, or nothing',
    examples: [
      'weft apply -f network.yaml',
      'weft apply -f manifests/ --dry-run',
      'weft apply -f network.yaml -f services/',
      'weft get svc -o yaml | weft apply -f -',
      'weft apply -f network.yaml --wait=10s',
    ],
  });
  addWait(command)
    .requiredOption(
      '-f, --filename <file|dir|->',
      'manifest, directory of *.yaml, *.yml and *.json, or - for stdin; may be given several times',
      collect,
    )
    .option('--dry-run', 'check only and say what would be done')
    .action(async ({ filename, dryRun = false, ...options }: Options) => {
      const { readManifests } = await import('./manifests.ts');
      const reports = await clientOf(command).apply(await readManifests(filename), { dryRun });
      await print(globals(command).output, reports, () => reports.map(applyText).join(''));
      if (!dryRun) await waitIfAsked(options, command);
    });
}
