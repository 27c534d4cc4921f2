/** `weft policy test`, and `weft policy log` (`policy-log.ts`). */
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import { idOf } from '../model/name.ts';
import type { PolicyPacketReport, PolicyTestReport } from '../model/policy-report.ts';
import { policyLog } from './policy-log.ts';
import { colours, print, table, type Cell } from './print.ts';
import { clientOf, collect, globals, verb } from './verb.ts';

interface TestOptions {
  readonly filename?: readonly string[];
}

export function policy(program: Command): void {
  const parent = verb(program, 'policy', {
    summary: 'try out network policy before it is applied, and see what it denies',
    examples: ['weft policy test', 'weft policy test -f policies/', 'weft policy log --follow --to shop/db'],
  });
  policyLog(parent);

  verb(parent, 'test', {
    summary: 'hold PolicyTests against what is declared, and against manifests that are not applied yet',
    examples: [
      'weft policy test                          # those that are stored, against what is in force',
      'weft policy test -f policies/             # as if these were applied, with the PolicyTests among them',
      'weft policy test -f policies/ -f tests.yaml -o json',
    ],
  })
    .option(
      '-f, --filename <file|dir|->',
      'manifest, directory of *.yaml, *.yml and *.json, or - for stdin; may be given several times',
      collect,
    )
    .addHelpText('after', '\nNothing is changed. It exits with 1 if a test fails.')
    .action(async ({ filename }: TestOptions, command: Command) => {
      const { readManifests, sent } = await import('./manifests.ts');
      const resources = filename === undefined ? [] : await readManifests(filename);
      const report = await sent(resources, (all) => clientOf(command).policyTests(all));
      await print(globals(command).output, report, () => testTable(report));
      const failed = report.filter(({ result }) => result === 'failed');
      if (failed.length > 0) throw new WeftError('conflict', failedText(failed, report.length));
    });
}

/** Below the table, a line for each packet that a test fails by, and for each test that is undecided. */
export async function testTable(report: readonly PolicyTestReport[]): Promise<string> {
  const paint = await colours();
  const resultText = ({ result }: PolicyTestReport): string =>
    paint(result === 'passed' ? 'green' : result === 'failed' ? 'red' : 'yellow', result);
  const rows = report.map((test): Cell[] => [
    test.namespace,
    test.name,
    test.from,
    test.to,
    `${test.protocol.toLowerCase()}/${test.port}`,
    test.expect,
    test.packets,
    resultText(test),
  ]);
  const heads = ['NAMESPACE', 'NAME', 'FROM', 'TO', 'PORT', 'EXPECT', 'PACKETS', 'RESULT'];
  const lines = report.flatMap(linesOf);
  const none = 'No policy tests: apply PolicyTests, or name files that have some with -f.';
  return `${await table(heads, rows, none)}${lines.length === 0 ? '' : `\n${lines.join('')}`}`;
}

function linesOf(test: PolicyTestReport): readonly string[] {
  if (test.why !== undefined) return [`${idOf(test)}: undecided: ${test.why}\n`];
  return failureLines(test);
}

/** A line for each packet that it fails by. */
export function failureLines({ failures, wrong, ...test }: PolicyTestReport): readonly string[] {
  const name = idOf(test);
  const more = wrong - failures.length;
  return [
    ...failures.map((packet) => `${name}: ${packetText(packet)}\n`),
    ...(more > 0 ? [`${name}: and ${more} more\n`] : []),
  ];
}

/** `tcp from shop/web (10.0.0.2) to 192.0.2.7 port 443 is denied: …` */
function packetText({ from, to, protocol, port, verdict, because }: PolicyPacketReport): string {
  const said = verdict === 'allow' ? 'allowed' : 'denied';
  return `${protocol} from ${endText(from)} to ${endText(to)} port ${port} is ${said}: ${because}`;
}

/** `shop/web (10.0.0.2)`, or the address alone. */
export function endText({ address, endpoint }: PolicyPacketReport['from']): string {
  return endpoint === undefined ? address : `${endpoint} (${address})`;
}

function failedText(failed: readonly PolicyTestReport[], all: number): string {
  const names = failed.map((test) => idOf(test)).join(', ');
  return `${failed.length} of ${all} policy ${all === 1 ? 'test' : 'tests'} ${failed.length === 1 ? 'fails' : 'fail'}: ${names}`;
}
