/**
 * Takes the samples. In a measurement every system is set up and stays up, and the systems take
 * turns: one sample each, round after round, so that whatever disturbs the machine for a while
 * disturbs all of them. Only one sample is taken at a time, and each round starts with another
 * system.
 */
import { Lab } from '../test/support/lab.ts';
import type { Measurement } from './catalogue.ts';
import { loads, type Sample } from './loads.ts';
import type { MeasurementResult, SystemResult } from './results.ts';
import { pairedRatios, summarize } from './statistics.ts';
import { systems, type SystemName } from './systems/index.ts';
import { connect } from './systems/system.ts';
import { topologies, type Endpoints } from './topology.ts';

export interface RunOptions {
  readonly rounds: number;
  /** Length of one sample. */
  readonly sampleSeconds: number;
  /** Another checkout of weft, for the system `weft-before`. */
  readonly before?: string | undefined;
}

/** A system that fails this often in a measurement is not tried again: each time may take long. */
const MOST_FAILURES = 2;

/** The samples of one system: one for each round, null if it failed. */
export interface Samples {
  readonly system: SystemName;
  readonly rounds: (Sample | null)[];
  readonly failures: string[];
}

/** Never throws for a failure of a system: failures are in the result. */
export async function measure(measurement: Measurement, options: RunOptions): Promise<MeasurementResult> {
  const stands = await Promise.all(measurement.systems.map((system) => setUp(system, measurement, options)));
  try {
    for (let round = 0; round < options.rounds; round++) {
      for (let turn = 0; turn < stands.length; turn++) {
        const stand = stands[(round + turn) % stands.length]!;
        stand.samples.rounds.push(await sample(stand, measurement, options, round));
      }
    }
  } finally {
    await Promise.all(stands.map(tearDown));
  }
  return resultOf(
    measurement,
    stands.map(({ samples }) => samples),
  );
}

/** A system that is up, or failed to come up. */
interface Stand {
  readonly samples: Samples;
  readonly lab: Lab;
  readonly endpoints: Endpoints | undefined;
}

async function setUp(name: SystemName, { topology }: Measurement, { before }: RunOptions): Promise<Stand> {
  const lab = new Lab();
  const samples: Samples = { system: name, rounds: [], failures: [] };
  try {
    const endpoints = await connect(lab, systems[name], { topology: topologies[topology], before });
    return { samples, lab, endpoints };
  } catch (error) {
    samples.failures.push(`set-up: ${messageOf(error)}`, ...lab.logs());
    return { samples, lab, endpoints: undefined };
  }
}

async function sample(
  { samples, endpoints }: Stand,
  { load }: Measurement,
  { sampleSeconds }: RunOptions,
  round: number,
): Promise<Sample | null> {
  if (endpoints === undefined || samples.failures.length >= MOST_FAILURES) return null;
  try {
    return await loads[load].run(endpoints, sampleSeconds);
  } catch (error) {
    samples.failures.push(`round ${round + 1}: ${messageOf(error)}`);
    return null;
  }
}

async function tearDown({ lab, samples }: Stand): Promise<void> {
  await lab.close().catch((error: unknown) => samples.failures.push(`tear-down: ${messageOf(error)}`));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Evaluates the samples of a measurement. */
export function resultOf(measurement: Measurement, all: readonly Samples[]): MeasurementResult {
  const { title, unit, better } = loads[measurement.load];
  return {
    name: measurement.name,
    topology: measurement.topology,
    load: measurement.load,
    title,
    unit,
    better,
    systems: all.map((samples) => systemResult(samples, all)),
  };
}

function systemResult({ system, rounds, failures }: Samples, all: readonly Samples[]): SystemResult {
  const taken = rounds.filter((sample) => sample !== null);
  const values = valuesOf(rounds);
  const details = Object.keys(taken[0]?.details ?? {}).map((name) => [
    name,
    summarize(taken.map((sample) => sample.details[name] ?? 0)),
  ]);
  return {
    system,
    rounds: values,
    summary: taken.length === 0 ? null : summarize(taken.map(({ value }) => value)),
    details: Object.fromEntries(details) as SystemResult['details'],
    ratios: all.flatMap((peer) => {
      const ratios = peer.system === system ? [] : pairedRatios(values, valuesOf(peer.rounds));
      return ratios.length === 0 ? [] : [{ against: peer.system, ...summarize(ratios), rounds: ratios }];
    }),
    failures,
  };
}

function valuesOf(rounds: readonly (Sample | null)[]): (number | null)[] {
  return rounds.map((sample) => sample?.value ?? null);
}
