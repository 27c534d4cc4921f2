/** `weft apply`: brings about what manifests declare. */
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import type { ApplyReport } from '../model/report.ts';
import type { Resource } from '../model/resource.ts';
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
      const created = new Set<string>();
      await each(command, await readManifests(filename), async (resource) => {
        try {
          const report = await client.apply(resource, { dryRun });
          if (report.action === 'created') created.add(`${resource.kind}/${resource.metadata.name}`);
          return report;
        } catch (error) {
          if (!dryRun || !isForWantOf(created, resource, error)) throw error;
          return { kind: resource.kind, name: resource.metadata.name, action: 'created', dryRun };
        }
      });
    });
}

/** In a dry run: is it refused only because what these manifests create before it does not exist yet? */
function isForWantOf(created: ReadonlySet<string>, resource: Resource, error: unknown): boolean {
  if (resource.kind !== 'Endpoint' || !(error instanceof WeftError) || error.code !== 'not_found') return false;
  const { network, host } = resource.spec;
  const lacks = (kind: 'Network' | 'Host', name: string): boolean =>
    created.has(`${kind}/${name}`) && error.message.startsWith(`${kind.toLowerCase()} "${name}" `);
  return lacks('Network', network) || (host !== undefined && lacks('Host', host));
}

/**
 * Does one after the other and prints each; after a failure, what was done before is still printed. Of what `act` did
 * nothing for, nothing is.
 */
export async function each<T>(
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
