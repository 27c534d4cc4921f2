/** Results of an imaginary run, made from given samples. */
import type { Measurement } from '../../bench/catalogue.ts';
import { catalogue } from '../../bench/catalogue.ts';
import { figuresOf } from '../../bench/figures.ts';
import type { Sample } from '../../bench/loads.ts';
import { schemaName, type MeasurementResult, type Results } from '../../bench/results.ts';
import { resultOf } from '../../bench/runner.ts';
import { systems, type SystemName } from '../../bench/systems/index.ts';

export type Values = Partial<Record<SystemName, readonly (number | null)[]>>;

export function measurementNamed(name: string): Measurement {
  const found = catalogue({ ovs: true }).find((measurement) => measurement.name === name);
  if (!found) throw new Error(`no measurement is called ${name}`);
  return found;
}

/** @param details of every sample */
export function measured(name: string, values: Values, details: Sample['details'] = {}): MeasurementResult {
  const samples = Object.entries(values).map(([system, rounds]) => ({
    system: system as SystemName,
    rounds: rounds.map((value) => (value === null ? null : { value, details })),
    failures: rounds.includes(null) ? ['round 1: <it> & "that" failed'] : [],
  }));
  return resultOf(measurementNamed(name), samples);
}

export function resultsOf(measurements: MeasurementResult[]): Results {
  return {
    schema: schemaName,
    startedAt: '2001-02-03T04:05:06.000Z',
    seconds: 61,
    command: 'npm run bench -- --only <x>',
    options: { quick: false, rounds: 5, sampleSeconds: 2 },
    machine: { cpu: 'a CPU', cpus: 2, memoryBytes: 2 ** 34, kernel: '6.1.0' },
    versions: { weft: '1.2.3', node: '20.0.0' },
    systems: Object.entries(systems).map(([name, { title }]) => ({ name, title })),
    measurements,
    figures: figuresOf(measurements),
  };
}
