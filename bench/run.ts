/**
 * `npm run bench`: weft and its peers, side by side in one run. README.md explains how it
 * measures.
 *
 *   1. command line         what to measure, how often
 *   2. measurements         runner.ts, one after the other
 *   3. results              results.json, report.html, tables on standard output
 *
 * Exit code: 0, 1 if something could not be measured, 2 for wrong usage.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command, CommanderError } from 'commander';
import { collect, count } from '../src/cli/verb.ts';
import { packageRoot } from '../src/package.ts';
import { catalogue, matches, quickened, type Measurement } from './catalogue.ts';
import { figuresOf } from './figures.ts';
import { loadTool } from './load/tool.ts';
import { loads } from './loads.ts';
import { machine, versions } from './machine.ts';
import { report } from './report.ts';
import { resultsSchema, schemaName, type MeasurementResult, type Results } from './results.ts';
import { measure } from './runner.ts';
import { systems } from './systems/index.ts';
import { progressText, tables } from './table.ts';
import { topologies } from './topology.ts';

interface Options {
  readonly quick: boolean;
  readonly only: readonly string[];
  readonly rounds: number;
  readonly seconds: number;
  readonly ovs: boolean;
  readonly before?: string;
  readonly out: string;
  readonly list: boolean;
}

/** One line for people, and the exit code. */
class Refusal extends Error {
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

try {
  const options = parse(process.argv);
  if (options.list) process.stdout.write(list());
  else await bench(options);
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof Refusal) {
    process.stderr.write(`bench: ${error.message}\n`);
    process.exitCode = error.exitCode;
  } else throw error;
}

function parse(argv: readonly string[]): Options {
  const command = new Command('npm run bench --')
    .description('weft, the kernel and Open vSwitch side by side, in network namespaces of their own.')
    .option('--quick', 'the most telling measurements, 3 rounds of 1 second: under two minutes', false)
    .option('--only <pattern>', 'a measurement, a topology or a load; * stands for anything; repeatable', collect, [])
    .option('--rounds <n>', 'samples of each system (default: 5; 15 where the spread is wide)', count(1))
    .option('--seconds <n>', 'length of a sample (default: 2)', count(1))
    .option('--ovs', 'with Open vSwitch in user space; its Debian package is installed if missing', false)
    .option('--before <checkout>', 'another checkout of weft, built, that takes part as weft-before')
    .option('--out <dir>', 'where results.json and report.html go', 'bench/out')
    .option('--list', 'print the names of all measurements', false)
    .helpOption('-h, --help', 'print this help')
    .exitOverride()
    .parse(argv);
  const given = command.opts<Omit<Options, 'rounds' | 'seconds'> & Partial<Options>>();
  return { ...given, rounds: given.rounds ?? (given.quick ? 3 : 5), seconds: given.seconds ?? (given.quick ? 1 : 2) };
}

function list(): string {
  const lines = catalogue({}).map(({ name, topology, load, quick }) => {
    const title = `${topologies[topology].title}: ${loads[load].title}`;
    return `${name.padEnd(32)} ${title}${quick ? ' (quick)' : ''}\n`;
  });
  return lines.join('');
}

async function bench(options: Options): Promise<void> {
  const chosen = choose(options);
  if (process.getuid?.() !== 0) throw new Refusal(1, 'it makes network namespaces: run it as root');
  if (options.ovs) installOvs();
  loadTool.build();

  const startedAt = new Date();
  const titles = Object.entries(systems).map(([name, { title }]) => ({ name, title }));
  const measurements: MeasurementResult[] = [];
  for (const [i, measurement] of chosen.entries()) {
    process.stderr.write(`[${i + 1}/${chosen.length}] ${measurement.name}: `);
    const { rounds, seconds: sampleSeconds, before } = options;
    const result = await measure(measurement, { rounds, sampleSeconds, before: before && resolve(before) });
    process.stderr.write(`${progressText({ systems: titles }, result)}\n`);
    measurements.push(result);
  }
  const results = resultsSchema.parse({
    schema: schemaName,
    startedAt: startedAt.toISOString(),
    seconds: (Date.now() - startedAt.getTime()) / 1000,
    command: commandText(process.argv.slice(2)),
    options: { quick: options.quick, rounds: options.rounds, sampleSeconds: options.seconds },
    machine: machine(),
    versions: await versions(options.ovs),
    systems: titles.filter(({ name }) => measurements.some((one) => one.systems.some(({ system }) => system === name))),
    measurements,
    figures: figuresOf(measurements),
  } satisfies Results);
  publish(results, options.out);
}

/** @throws Refusal for a pattern that matches nothing */
function choose({ only, quick, ovs, before }: Options): Measurement[] {
  const all = catalogue({ ovs, before: before !== undefined });
  for (const pattern of only) {
    if (all.some((measurement) => matches(measurement, pattern))) continue;
    const accepted = [...Object.keys(topologies), ...Object.keys(loads)].join(', ');
    throw new Refusal(2, `nothing is called ${pattern}; --only takes ${accepted}, or topology/load (see --list)`);
  }
  const chosen = all.filter((measurement) =>
    only.length > 0 ? only.some((pattern) => matches(measurement, pattern)) : !quick || measurement.quick,
  );
  return quick ? chosen.map(quickened) : chosen;
}

function installOvs(): void {
  const setUp = join(packageRoot, 'src/setup/setup.mjs');
  try {
    execFileSync(process.execPath, [setUp, '--for', 'bench-ovs'], { stdio: ['ignore', 'inherit', 'inherit'] });
  } catch {
    throw new Refusal(1, 'Open vSwitch could not be installed; without --ovs it is left out');
  }
}

function publish(results: Results, out: string): void {
  const directory = resolve(out);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'results.json'), `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(join(directory, 'report.html'), report(results));
  process.stdout.write(tables(results));
  process.stderr.write(`${join(directory, 'results.json')}\n${join(directory, 'report.html')}\n`);
  if (results.measurements.some((one) => one.systems.some(({ failures }) => failures.length > 0))) process.exitCode = 1;
}

/** The command as it can be typed again. */
function commandText(words: readonly string[]): string {
  const quoted = words.map((word) => (/^[\w./=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`));
  return ['npm run bench', ...(quoted.length > 0 ? ['--', ...quoted] : [])].join(' ');
}
