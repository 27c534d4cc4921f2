/** `weft apply`: puts manifests into force, all of them or none. `weft confirm`: keeps what was applied with `--confirm`. */
import type { Command } from 'commander';
import { applyText } from './apply-text.ts';
import type { ApplyReport } from '../model/report.ts';
import { print } from './print.ts';
import { clientOf, collect, globals, verb } from './verb.ts';
import { timeIn } from './time.ts';
import { addWait, waitIfAsked, type WaitOptions } from './wait.ts';

interface Options extends WaitOptions {
  readonly filename: readonly string[];
  readonly dryRun?: boolean;
  /** Milliseconds. */
  readonly confirm?: number;
}

const CONFIRM_TIMES = { leastMs: 1000, mostMs: 86_400_000 };

export function apply(program: Command): void {
  const command = verb(program, 'apply', {
    summary: 'create or change what manifests declare: all of it, or nothing',
    examples: [
      'weft apply -f network.yaml',
      'weft apply -f manifests/ --dry-run',
      'weft apply -f network.yaml -f services/',
      'weft get svc -o yaml | weft apply -f -',
      'weft apply -f network.yaml --wait=10s',
      'weft apply -f policies/ --confirm 60s && curl -m 5 http://10.0.0.5/ && weft confirm',
    ],
  });
  addWait(command)
    .requiredOption(
      '-f, --filename <file|dir|->',
      'manifest, directory of *.yaml, *.yml and *.json, or - for stdin; may be given several times',
      collect,
    )
    .option('--dry-run', 'check only and say what would be done')
    .option(
      '--confirm <time>',
      'take it back after this time, such as 60s or 5m, unless `weft confirm` is run by then on one of the hosts',
      timeIn(CONFIRM_TIMES),
    )
    .action(async ({ filename, dryRun = false, confirm: confirmMs, ...options }: Options) => {
      if (dryRun && confirmMs !== undefined) command.error('error: --confirm has no effect with --dry-run');
      const { readManifests, sent } = await import('./manifests.ts');
      const client = clientOf(command);
      const reports = await sent(await readManifests(filename), (all) => client.apply(all, { dryRun, confirmMs }));
      await print(globals(command).output, reports, () => reports.map(applyText).join('') + untilText(reports));
      if (!dryRun) await waitIfAsked(options, command, reports);
    });
}

function untilText(reports: readonly ApplyReport[]): string {
  const until = reports.find(({ unconfirmedUntil }) => unconfirmedUntil !== undefined)?.unconfirmedUntil;
  return until === undefined ? '' : `taken back at ${until}, unless you run \`weft confirm\`\n`;
}

export function confirm(program: Command): void {
  const command = verb(program, 'confirm', {
    summary: 'keep what was applied with --confirm',
    examples: ['weft confirm', 'weft confirm -o json'],
  });
  command.action(async () => {
    const report = await clientOf(command).confirm();
    await print(globals(command).output, report, () =>
      [
        ...report.resources.map((resource) => `${resource} stays\n`),
        ...report.otherwise.map(({ resource, why }) => `${resource}: ${why}\n`),
      ].join(''),
    );
  });
}
