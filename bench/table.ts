/** The results as tables for a terminal. */
import Table from 'cli-table3';
import { bound, notes, number, reachedText, spread, titleOf } from './format.ts';
import type { MeasurementResult, Results } from './results.ts';

export function tables(results: Results): string {
  const blocks = [measured(results)];
  if (results.figures.length > 0) blocks.push(`Figures to reach\n${figures(results)}`);
  return `${blocks.join('\n\n')}\n`;
}

/** One line of progress: medians, and the ratio to the kernel. */
export function progressText(results: Pick<Results, 'systems'>, { unit, systems }: MeasurementResult): string {
  const parts = systems.map(({ system, summary, ratios, failures }) => {
    const title = titleOf(results, system);
    if (!summary) return `${title} failed: ${failures[0]?.split('\n', 1)[0] ?? ''}`;
    const ratio = ratios.find(({ against }) => against === 'kernel');
    return `${title} ${number(summary.median)}${ratio ? ` (${number(ratio.median)}x)` : ''}`;
  });
  return `${parts.join(' · ')} ${unit}`;
}

function measured(results: Results): string {
  const table = plainTable(['measurement', 'system', 'median (min–max)', 'unit', 'ratio to the kernel', '']);
  for (const { name, unit, systems } of results.measurements) {
    systems.forEach((result, i) => {
      const ratio = result.ratios.find(({ against }) => against === 'kernel');
      const system = titleOf(results, result.system);
      const ratioText = result.system === 'kernel' ? '1' : spread(ratio);
      table.push([i === 0 ? name : '', system, spread(result.summary), unit, ratioText, notes(result)]);
    });
  }
  return table.toString();
}

function figures(results: Results): string {
  const table = plainTable(['', 'against', 'must', 'aim', 'median (min–max)', '']);
  for (const { title, against, better, must, aim, value, reached, note } of results.figures) {
    const verdict = note === null ? reachedText[reached] : `${reachedText[reached]} (${note})`;
    const peer = titleOf(results, against);
    table.push([title, peer, bound(better, must), bound(better, aim), spread(value), verdict]);
  }
  return table.toString();
}

function plainTable(head: string[]): Table.Table {
  return new Table({ head, style: { head: [], border: [], compact: true } });
}
