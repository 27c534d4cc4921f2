/** What a run of the load test saw, for other programs. */
import { machine, versions } from '../../bench/machine.ts';
import type { Results as BenchResults } from '../../bench/results.ts';

export interface LoadResults extends Pick<BenchResults, 'machine' | 'versions'> {
  readonly startedAt: string;
  readonly seconds: number;
  readonly command: string;
  readonly scenarios: readonly ScenarioResult[];
}

export interface ScenarioResult {
  readonly name: string;
  readonly seconds: number;
  /** The load average before it and after it: figures mean little on processors that others use, too. */
  readonly load: readonly [before: number, after: number];
  readonly values: readonly Value[];
  readonly promises: readonly { readonly isKept: boolean; readonly text: string }[];
  /** Why it could not be run to its end. */
  readonly failure?: string;
}

export interface Value {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The size at which it was seen. */
  readonly at?: number;
}

/** @param args of the command */
export async function resultsOf(
  startedAt: Date,
  args: readonly string[],
  scenarios: readonly ScenarioResult[],
): Promise<LoadResults> {
  const { weft, node } = await versions(false);
  return {
    startedAt: startedAt.toISOString(),
    seconds: Math.round((Date.now() - startedAt.getTime()) / 1000),
    command: ['npm run test:load --', ...args].join(' '),
    machine: machine(),
    versions: { weft: weft!, node: node! },
    scenarios,
  };
}
