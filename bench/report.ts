/**
 * The results as one HTML file that needs nothing else: no network and no script. For each
 * measurement it has the figures of all systems, their ratios to the kernel and to every other
 * system for which there is a figure to reach, and the bounds.
 */
import { chart, type Bar, type Bound } from './chart.ts';
import { bound, notes, number, reachedText, spread, titleOf } from './format.ts';
import type { FigureResult, MeasurementResult, Results } from './results.ts';
import type { Summary } from './statistics.ts';
import { topologies } from './topology.ts';

export function report(results: Results): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>weft and its peers</title>
<style>${style}</style>
<h1>weft and its peers</h1>
${circumstances(results)}
${figuresTable(results)}
${Object.entries(topologies)
  .map(([name, { title }]) => topologySection(results, name, title))
  .join('')}
</html>
`;
}

function circumstances({ startedAt, seconds, command, options, machine, versions }: Results): string {
  const { cpu, cpus, memoryBytes, kernel } = machine;
  const rows: [string, string][] = [
    ['Command', `<code>${escape(command)}</code>`],
    ['When', `${escape(startedAt)}, ${number(seconds / 60)} minutes`],
    ['Machine', `${cpus} × ${escape(cpu)}, ${number(memoryBytes / 2 ** 30)} GiB, Linux ${escape(kernel)}`],
    [
      'Versions',
      Object.entries(versions)
        .map((pair) => escape(pair.join(' ')))
        .join(', '),
    ],
    ['Rounds', `${options.rounds}, a sample of ${options.sampleSeconds} s of each system in turn`],
  ];
  return `<table class="facts">${rows.map(([name, value]) => `<tr><th>${name}<td>${value}`).join('\n')}</table>
<p>Bars are medians; whiskers reach from the least to the greatest round. A ratio is taken in each round by itself.
A <span class="must">solid line</span> is the floor, a <span class="aim">dashed one</span> the aim.</p>`;
}

function figuresTable(results: Results): string {
  if (results.figures.length === 0) return '';
  const rows = results.figures.map(({ title, measurement, against, better, must, aim, value, reached, note }) => {
    const verdict = reachedText[reached] + (note === null ? '' : ` (${note})`);
    const cells = [bound(better, must), bound(better, aim), spread(value)];
    return `<tr><td><a href="#${escape(measurement)}">${escape(title)}</a><td>${escape(titleOf(results, against))}${cells
      .map((cell) => `<td class="n">${cell}`)
      .join('')}<td class="${reached}">${escape(verdict)}`;
  });
  return `<h2>Figures to reach</h2>
<table><thead><tr><th><th>against<th>must<th>aim<th>median (min–max)<th></thead>
${rows.join('\n')}</table>`;
}

function topologySection(results: Results, topology: string, title: string): string {
  const measurements = results.measurements.filter((measurement) => measurement.topology === topology);
  if (measurements.length === 0) return '';
  return `<h2>${escape(title)}</h2>
${measurements.map((measurement) => measurementSection(results, measurement)).join('\n')}
`;
}

function measurementSection(results: Results, measurement: MeasurementResult): string {
  const figures = results.figures.filter((figure) => figure.measurement === measurement.name);
  const peers = new Set(['kernel', ...figures.flatMap(({ against }) => against ?? [])]);
  const charts = [
    absoluteChart(results, measurement, figures),
    ...[...peers].map((peer) => ratioChart(results, measurement, figures, peer)),
  ];
  return `<section id="${escape(measurement.name)}">
<h3>${escape(measurement.title)} <code>${escape(measurement.name)}</code></h3>
<div class="charts">${charts.join('\n')}</div>
${details(results, measurement)}
</section>`;
}

function absoluteChart(results: Results, { unit, better, systems }: MeasurementResult, all: FigureResult[]): string {
  const bars = systems.flatMap(({ system, summary }) => barOf(results, system, summary));
  const bounds = all.filter(({ against }) => against === null).flatMap(boundsOf);
  const axis = `${unit}, ${better === 'higher' ? 'more' : 'less'} is better`;
  return bars.length === 0 ? '<p>Nothing was measured.</p>' : chart({ axis, bars, bounds });
}

function ratioChart(results: Results, { systems }: MeasurementResult, all: FigureResult[], peer: string): string {
  const figures = all.filter(({ against }) => against === peer);
  // For the kernel all ratios are shown; for other peers only those for which there is a figure.
  const shown = systems.filter(({ system }) => peer === 'kernel' || figures.some((figure) => figure.system === system));
  const bars = shown.flatMap(({ system, ratios }) =>
    barOf(results, system, ratios.find(({ against }) => against === peer) ?? null),
  );
  const bounds: Bound[] = [{ at: 1, kind: 'equal' }, ...distinct(figures.flatMap(boundsOf))];
  return bars.length === 0 ? '' : chart({ axis: `ratio to ${titleOf(results, peer)}`, bars, bounds });
}

function barOf(results: Results, system: string, summary: Summary | null): Bar[] {
  return summary === null ? [] : [{ ...summary, label: titleOf(results, system), color: colorOf(system) }];
}

function boundsOf({ must, aim }: FigureResult): Bound[] {
  return [{ at: must, kind: 'must' }, ...(aim === null ? [] : [{ at: aim, kind: 'aim' } as const])];
}

function distinct(bounds: readonly Bound[]): Bound[] {
  return [...new Map(bounds.map((one) => [`${one.kind} ${one.at}`, one])).values()];
}

function colorOf(system: string): string {
  if (system.includes('weft')) return system === 'weft-reference' ? 'var(--reference)' : 'var(--weft)';
  return system === 'kernel' ? 'var(--kernel)' : 'var(--peer)';
}

/** Every number of a measurement, for readers who want details. */
function details(results: Results, { systems, unit }: MeasurementResult): string {
  const rows = systems.map((result) => {
    const rounds = result.rounds.map((value) => (value === null ? '–' : number(value))).join(' ');
    const kernel = result.ratios.find(({ against }) => against === 'kernel');
    const seen = Object.entries(result.details).map(([name, summary]) => `${name} ${spread(summary)}`);
    const rest = [...seen, notes(result)].filter((text) => text !== '').join('; ');
    const cells = [spread(result.summary), spread(kernel), rounds, rest].map((text) => `<td>${escape(text)}`);
    return `<tr><td>${escape(titleOf(results, result.system))}${cells.join('')}`;
  });
  return `<details><summary>Numbers</summary>
<table><thead><tr><th><th>${escape(unit)}<th>ratio to the kernel<th>rounds<th></thead>
${rows.join('\n')}</table></details>`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

const style = `
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --line: #d0d7de; --weft: #d9480f; --reference: #f2a27b;
  --kernel: #4c6ef5; --peer: #868e96; --must: #c92a2a; --aim: #2b8a3e; --equal: #868e96; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d; --weft: #ff7a3d;
  --reference: #a85a35; --kernel: #748ffc; --peer: #7d858d; --must: #ff6b6b; --aim: #51cf66; --equal: #868e96; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1180px;
  margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 code { font-weight: normal; font-size: 0.8em; opacity: 0.7; }
table { border-collapse: collapse; font-size: 0.93em; }
th, td { text-align: left; padding: 0.2rem 0.8rem 0.2rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.aim, td.must, span.aim { color: var(--aim); }
td.no, span.must { color: var(--must); }
a { color: inherit; }
.charts { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; }
.charts svg { flex: 0 1 560px; min-width: 0; max-width: 100%; height: auto; }
`;
