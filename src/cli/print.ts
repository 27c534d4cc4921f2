/** Output: tables for people, in kubectl's style; JSON and YAML for programs. */
import { once } from 'node:events';
import type { OutputFormat } from './verb.ts';

export type Cell = string | number;

/** Resolves when there is room for more. */
export async function write(text: string | Uint8Array): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

/** Prints a report in the chosen format; `text` makes the version for people. */
export async function print(
  format: OutputFormat,
  report: unknown,
  text: () => string | Promise<string>,
): Promise<void> {
  switch (format) {
    case 'json':
      return write(`${JSON.stringify(report, null, 2)}\n`);
    case 'yaml':
      return write((await import('./yaml.ts')).stringify(report));
    case 'table':
      return write(await text());
    default:
      format satisfies never;
  }
}

/** One item of a sequence: a line of JSON, a YAML document, or `text`. */
export async function printOne(format: OutputFormat, report: unknown, text: () => string): Promise<void> {
  switch (format) {
    case 'json':
      return write(`${JSON.stringify(report)}\n`);
    case 'yaml':
      return write(`---\n${(await import('./yaml.ts')).stringify(report)}`);
    case 'table':
      return write(text());
    default:
      format satisfies never;
  }
}

const noBorders = Object.fromEntries(
  ['top', 'bottom', 'left', 'right', 'mid', 'middle']
    .flatMap((name) => [name, `${name}-mid`, `${name}-left`, `${name}-right`])
    .concat('left-mid', 'mid-mid', 'right-mid')
    .map((name) => [name, '']),
);

/** The library compares each row with all before it. */
const ROWS_AT_ONCE = 200;

/**
 * Columns without borders. `none` is printed for an empty table. A long one is made in pieces, each of which begins with the
 * row of the heads and those with the widest cells, so that all pieces have the same columns.
 */
export async function table(
  heads: readonly string[],
  rows: readonly (readonly Cell[])[],
  none: string,
): Promise<string> {
  if (rows.length === 0) return `${none}\n`;
  const { default: Table } = await import('cli-table3');
  const linesOf = (some: readonly (readonly Cell[])[]): string[] => {
    const made = new Table({
      chars: noBorders,
      style: { 'padding-left': 0, 'padding-right': 3, head: [], border: [], compact: true },
    });
    for (const row of some) made.push(row.map((cell) => (cell === '' ? '-' : String(cell))));
    return made
      .toString()
      .split('\n')
      .map((line) => `${line.trimEnd()}\n`);
  };
  if (rows.length <= ROWS_AT_ONCE) return linesOf([heads, ...rows]).join('');
  const widest = heads.map((_, at) => rows.reduce((a, b) => (widthOf(b[at]) > widthOf(a[at]) ? b : a)));
  const first = [heads, ...widest];
  const lines = [linesOf(first)[0]];
  for (let at = 0; at < rows.length; at += ROWS_AT_ONCE) {
    lines.push(...linesOf([...first, ...rows.slice(at, at + ROWS_AT_ONCE)]).slice(first.length));
  }
  return lines.join('');
}

function widthOf(cell: Cell | undefined): number {
  return String(cell).length;
}

/** `Key:  value` lines, with the values in one column. Values of several lines are indented. */
export function fields(pairs: readonly (readonly [string, Cell])[], indent = ''): string {
  const width = Math.max(...pairs.map(([key]) => key.length)) + 1;
  return pairs.map(([key, value]) => `${indent}${`${key}:`.padEnd(width)}  ${value === '' ? '-' : value}\n`).join('');
}

export type Colour = 'green' | 'yellow' | 'red' | 'bold' | 'dim';

/** Colours if stdout is a terminal; plain text otherwise. */
export async function colours(): Promise<(colour: Colour, text: string) => string> {
  if (!process.stdout.isTTY) return (_, text) => text;
  const { default: picocolors } = await import('picocolors');
  return (colour, text) => picocolors[colour](text);
}

/** `a=1,b=2` */
export function pairsText(pairs: Readonly<Record<string, string | number>>): string {
  return Object.entries(pairs)
    .map(([key, value]) => `${key}=${typeof value === 'number' ? numberText(value) : value}`)
    .join(',');
}

const MULTIPLES = ['k', 'M', 'G', 'T', 'P', 'E'];

/** `9999`, `12.3k`, `4.56M`: exact if it is short, otherwise three digits and a multiple of 1000. */
export function numberText(value: number): string {
  if (value < 10_000) return String(value);
  let rest = value;
  let multiple = -1;
  while (rest >= 999.5) {
    rest /= 1000;
    multiple++;
  }
  return `${rest.toPrecision(3)}${MULTIPLES[multiple]}`;
}

/** `5s`, `3m12s`, `2h5m`, `4d`: as short as kubectl's. */
export function durationText(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${seconds % 60}s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h${Math.floor((seconds % 3600) / 60)}m`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** Time since a time in a report (RFC 3339). */
export function ageText(time: string): string {
  return durationText(Date.now() - Date.parse(time));
}
