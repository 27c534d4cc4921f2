/** Writes the figures of docs/scale.md, and its curves, from what `cluster/…` measured. The text around them stays. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { curve, type Series } from '../../bench/curve.ts';
import { number } from '../../bench/format.ts';
import type { LoadResults, ScenarioResult, Value } from './results.ts';

const docs = fileURLToPath(new URL('../../docs/', import.meta.url));
const [BEGIN, END] = ['<!-- figures: written by npm run test:load -- --docs -->', '<!-- end of figures -->'];
const WATCHED = 'cluster/watched';
const WAITS = 'event loop waits for a processor';
/** From so many percent on, times tell more of other programs than of weft. */
const BUSY = 10;

interface Curve {
  readonly file: string;
  readonly title: string;
  readonly unit: string;
  /** Names of values, and what the curve calls them. */
  readonly series: Readonly<Record<string, string>>;
  readonly most?: number;
}

const curves: readonly Curve[] = [
  {
    file: 'reachable',
    title: 'A new endpoint is reachable',
    unit: 'ms',
    series: { 'new endpoint reachable, p50': 'p50', 'new endpoint reachable, p99': 'p99' },
    most: 1000,
  },
  {
    file: 'memory',
    title: 'Memory of a daemon',
    unit: 'MiB',
    series: { 'resident memory': 'resident', 'memory in use for the cluster': 'JavaScript, for the cluster' },
  },
  {
    file: 'start',
    title: 'Start of a daemon, until everything is in force',
    unit: 'ms',
    series: {
      'start without a copy': 'first start',
      'start with a copy, after a kill': 'after a kill',
      'what is new is known after a kill': 'until what is new is known',
    },
  },
  {
    file: 'listing',
    title: 'Event loop late while everything is listed again',
    unit: 'ms',
    series: {
      'event loop late while listing, p99': 'p99',
      'event loop late while listing, worst': 'worst',
      'answer of the API while listing, worst': 'worst answer of the API',
    },
    most: 100,
  },
  {
    file: 'processor',
    title: 'Processor time of a daemon',
    unit: '% of one',
    series: {
      'event loop’s processor time at rest': 'event loop, at rest',
      'processor time of other threads at rest': 'other threads, at rest',
      'event loop’s processor time under churn': 'event loop, under churn',
      'processor time of other threads under churn': 'other threads, under churn',
    },
  },
  {
    file: 'etcd',
    title: 'Connection of a daemon to etcd',
    unit: 'kB/s',
    series: {
      'received from etcd at rest': 'received, at rest',
      'received from etcd under churn': 'received, under churn',
      'sent to etcd under churn': 'sent, under churn',
    },
  },
];

/** @throws Error if the document has no place for figures */
export function writeDocs(results: LoadResults): void {
  const file = `${docs}scale.md`;
  const before = readFileSync(file, 'utf8');
  const [begin, end] = [before.indexOf(BEGIN), before.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${file} has no lines ${BEGIN} and ${END}`);
  const watched = results.scenarios.find(({ name }) => name === WATCHED);
  mkdirSync(`${docs}scale`, { recursive: true });
  writeFileSync(`${docs}scale/results.json`, `${JSON.stringify(results, null, 2)}\n`);
  for (const one of curves) writeFileSync(`${docs}scale/${one.file}.svg`, drawn(one, watched?.values ?? []));
  writeFileSync(file, `${before.slice(0, begin)}${BEGIN}\n\n${figures(results)}\n${before.slice(end)}`);
}

function drawn({ title, unit, series, most }: Curve, values: readonly Value[]): string {
  const all = Object.entries(series).map(
    ([name, label]): Series => ({
      label,
      points: values.flatMap((one) =>
        one.name === name && one.at !== undefined ? [{ at: one.at, value: one.value }] : [],
      ),
    }),
  );
  return curve({ title, size: 'endpoints', unit, series: all, ...(most !== undefined && { most }) });
}

function figures(results: LoadResults): string {
  const { startedAt, command, seconds, machine: at, versions, scenarios } = results;
  const measured = scenarios.filter(({ name }) => name.startsWith('cluster/'));
  const loads = measured.flatMap(({ load }) => load);
  const waits = measured
    .flatMap(({ values }) => values.filter(({ name }) => name.startsWith(WAITS)))
    .map(({ value }) => value);
  const busiest = Math.max(0, ...waits);
  return [
    `\`${command}\`, ${startedAt.slice(0, 10)}, ${number(seconds / 60)} minutes, on ${at.cpus} × ${at.cpu}, Linux ${at.kernel}, Node.js ${versions['node']}. The load average was ${number(Math.min(...loads))} to ${number(Math.max(...loads))}, and a daemon’s event loop waited for a processor during up to ${number(busiest)} % of the time${busiest > BUSY ? ': other programs used the processors, and times are longer than weft’s own' : ''}.`,
    ...measured.flatMap((scenario) => [`### ${titles[scenario.name] ?? scenario.name}`, ...section(scenario)]),
    '',
  ].join('\n\n');
}

const titles: Readonly<Record<string, string>> = {
  'cluster/real': 'Real daemons',
  'cluster/simulated': 'Simulated hosts',
  [WATCHED]: 'One daemon in a large cluster',
};

function section({ name, values, promises, failure }: ScenarioResult): string[] {
  return [
    ...(name === WATCHED
      ? [sizeTable(values), ...curves.map(({ file, title }) => `![${title}](scale/${file}.svg)`)]
      : [table(values)]),
    promises.map(({ isKept, text }) => `- ${isKept ? '' : '**Not kept**: '}${text}`).join('\n'),
    ...(failure === undefined ? [] : [`It could not be run to its end: ${failure.split('\n', 1)[0]}`]),
  ];
}

function table(values: readonly Value[]): string {
  return [
    '| | |',
    '|---|---|',
    ...values.map(({ name, value, unit }) => `| ${name} | ${number(value)} ${unit} |`),
  ].join('\n');
}

/** A column for each size. */
function sizeTable(values: readonly Value[]): string {
  const sizes = [...new Set(values.flatMap(({ at }) => at ?? []))];
  const rows = new Map(values.map(({ name, unit }) => [name, unit]));
  const cell = (name: string, size: number): string => {
    const found = values.find((one) => one.name === name && one.at === size);
    return found ? number(found.value) : '–';
  };
  return [
    `| endpoints | | ${sizes.map((size) => number(size)).join(' | ')} |`,
    `|---|---|${'---:|'.repeat(sizes.length)}`,
    ...[...rows].map(([name, unit]) => `| ${name} | ${unit} | ${sizes.map((size) => cell(name, size)).join(' | ')} |`),
  ].join('\n');
}
