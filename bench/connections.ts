/**
 * What the budget of connections asks for, as the rows of one table: the C++ benchmark of the table of
 * connections (native/bench/connections.cc), and decisions about new connections (slow-path.ts).
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Decided } from './slow-path.ts';

/** What `--json` prints. Times are medians. */
interface NativeFigures {
  /** The first one has 1,000 connections, the last one 1,000,000. Ratios are to the first. */
  readonly sizes: readonly {
    readonly connections: number;
    readonly oneNs: number;
    readonly burstNs: number;
    readonly oneRatio: number;
    readonly burstRatio: number;
    readonly openNs: number;
    /** The memory of one connection: its record, and its part of the index. */
    readonly bytes: number;
  }[];
  /** Nanoseconds for a whole frame. */
  readonly establishedNs: number;
  readonly establishedMillionNs: number;
  readonly openingNs: number;
}

/** Builds and runs the C++ benchmark: takes half a minute. @throws Error if there is no compiler */
export function nativeFigures(): NativeFigures {
  const runner = fileURLToPath(new URL('../native/bench/run.mjs', import.meta.url));
  const printed = execFileSync(process.execPath, [runner, 'connections', '--json'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return JSON.parse(printed) as NativeFigures;
}

/** A connection to the outside is decided twice: that it must be opened, and where its packets go. */
const OUTSIDE_DECISIONS = 2;

/** Rows of: figure, measured, budget. Each `Decided` is a median. */
export function connectionRows(native: NativeFigures, tracked: Decided, outside: Decided): string[][] {
  const [few, many] = [native.sizes[0]!, native.sizes.at(-1)!];
  const [small, large] = [few.connections, many.connections].map(count);
  return [
    [`lookup in a burst of 32, ${small} connections`, ns(few.burstNs), ''],
    [`lookup in a burst of 32, ${large} connections`, ns(many.burstNs), ''],
    ['ratio of these two', many.burstRatio.toFixed(2), '≤ 4'],
    [`lookup one by one, ${small} connections`, ns(few.oneNs), ''],
    [`lookup one by one, ${large} connections`, ns(many.oneNs), ''],
    ['ratio of these two', many.oneRatio.toFixed(2), ''],
    ['memory of a connection, record and index', `${many.bytes.toFixed(0)} bytes`, '≤ 256 + 40'],
    [`opened by the datapath, up to ${large}`, perSecond(1e9 / many.openNs), '≥ 500,000'],
    [`the same with their frames`, perSecond(1e9 / native.openingNs), ''],
    [`frame of ${small} established connections`, ns(native.establishedNs), ''],
    [`frame of ${large} established connections`, ns(native.establishedMillionNs), ''],
    ['decided in TypeScript, each opens a tracked connection', perSecond(tracked.flowsPerCpuSecond), '≥ 50,000'],
    ['opened to the outside', perSecond(outside.flowsPerCpuSecond), ''],
    ['decisions for these, two for each', perSecond(OUTSIDE_DECISIONS * outside.flowsPerCpuSecond), '≥ 50,000'],
  ];
}

function ns(nanoseconds: number): string {
  return `${nanoseconds.toFixed(1)} ns`;
}

function perSecond(number: number): string {
  return `${count(number)}/s`;
}

function count(number: number): string {
  return Math.round(number).toLocaleString('en');
}
