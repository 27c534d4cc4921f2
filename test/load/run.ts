/**
 * The load test: measures what weft promises under floods, kills and at scale.
 *
 *     npm run test:load -- [--seconds 60] [--only flood/container]…
 *
 * `--only` takes the name of a scenario or the beginning of it, and may be given several times.
 * The output includes the load of the machine, because figures mean little on processors that
 * others use, too. Exits with 1 if a promise is broken or a scenario could not be run.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { scenarios } from './scenarios.ts';
import type { Report } from './scenario.ts';

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, only: { type: 'string', multiple: true, default: [''] } },
});
const seconds = Number(values.seconds);
const chosen = scenarios.filter(({ name }) => values.only.some((only) => name === only || name.startsWith(only)));
if (!(seconds >= 1) || chosen.length === 0) {
  const names = scenarios.map(({ name }) => `\n  ${name}`).join('');
  console.error(`usage: npm run test:load -- [--seconds N, 1 or more] [--only NAME]…, of these:${names}`);
  process.exit(2);
}

let broken = 0;
for (const scenario of chosen) {
  const load = (): string => loadavg()[0]!.toFixed(1);
  console.log(`${scenario.name} (load average ${load()})`);
  const report: Report = {
    figure: (text) => console.log(`    ${text}`),
    must: (isKept, text) => {
      if (!isKept) broken++;
      console.log(`    ${isKept ? 'kept  ' : 'BROKEN'} ${text}`);
    },
  };
  try {
    await scenario.run(report, { seconds });
  } catch (error) {
    broken++;
    console.log(`    FAILED ${error instanceof Error ? error.message : String(error)}`);
  }
  console.log(`    load average ${load()}`);
}
console.log(broken === 0 ? 'every promise was kept' : `${broken} broken or failed`);
process.exitCode = broken === 0 ? 0 : 1;
