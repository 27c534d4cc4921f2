/**
 * The load test: measures what weft promises under floods, kills and at scale.
 *
 *     npm run test:load -- [--seconds 60] [--only flood/container]…     --help lists all options
 *
 * `--only` takes the name of a scenario or the beginning of it, and may be given several times.
 * The output includes the load of the machine, because figures mean little on processors that
 * others use, too. Exits with 1 if a promise is broken or a scenario could not be run.
 */
import { writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { number } from '../../bench/format.ts';
import { writeDocs } from './docs.ts';
import { parseOptions, usage, type RunOptions } from './options.ts';
import { resultsOf, type ScenarioResult, type Value } from './results.ts';
import { scenarios } from './scenarios.ts';
import type { Report, Scenario } from './scenario.ts';

const args = process.argv.slice(2);
const startedAt = new Date();
const options = optionsOf(args);
const chosen = scenarios.filter(({ name }) => options.only.some((only) => name === only || name.startsWith(only)));
if (chosen.length === 0) refuse(`--only: ${options.only.join(', ')} is the name of no scenario`);

const results: ScenarioResult[] = [];
for (const scenario of chosen) {
  results.push(await measured(scenario));
  await save();
}
const broken = results.reduce(
  (sum, { promises, failure }) =>
    sum + promises.filter(({ isKept }) => !isKept).length + (failure === undefined ? 0 : 1),
  0,
);
console.log(broken === 0 ? 'every promise was kept' : `${broken} broken or failed`);
process.exitCode = broken === 0 ? 0 : 1;

/** After each scenario, so that something is left if the run is ended before its end. */
async function save(): Promise<void> {
  if (options.json === undefined && !options.docs) return;
  const all = await resultsOf(startedAt, args, results);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(all, null, 2)}\n`);
  if (options.docs) writeDocs(all);
}

async function measured(scenario: Scenario): Promise<ScenarioResult> {
  const load = (): number => loadavg()[0]!;
  const [before, fromMs] = [load(), performance.now()];
  console.log(`${scenario.name} (load average ${before.toFixed(1)})`);
  const values: Value[] = [];
  const promises: { isKept: boolean; text: string }[] = [];
  const report: Report = {
    figure: (text) => console.log(`    ${text}`),
    value: (name, value, unit, at) => {
      values.push({ name, value, unit, ...(at !== undefined && { at }) });
      console.log(`    ${name}: ${number(value)} ${unit}`);
    },
    must: (isKept, text) => {
      promises.push({ isKept, text });
      console.log(`    ${isKept ? 'kept  ' : 'BROKEN'} ${text}`);
    },
  };
  let failure: string | undefined;
  try {
    await scenario.run(report, options);
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
    console.log(`    FAILED ${failure}`);
  }
  const after = load();
  console.log(`    load average ${after.toFixed(1)}`);
  return {
    name: scenario.name,
    seconds: Math.round((performance.now() - fromMs) / 1000),
    load: [before, after],
    values,
    promises,
    ...(failure !== undefined && { failure }),
  };
}

function optionsOf(given: readonly string[]): RunOptions {
  let parsed: RunOptions | 'help';
  try {
    parsed = parseOptions(given);
  } catch (error) {
    return refuse((error as Error).message);
  }
  if (parsed !== 'help') return parsed;
  console.log(usage(scenarios));
  return process.exit(0);
}

function refuse(why: string): never {
  console.error(`${why}\n${usage(scenarios)}`);
  process.exit(2);
}
