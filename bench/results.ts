/**
 * The results of a benchmark run: `results.json`, stable and documented by its schema. Numbers
 * are in the unit that their measurement names; a ratio is the figure of one system divided by
 * that of another in the same round.
 */
import { z } from 'zod';

export const schemaName = 'weft-bench/1';

const summary = z.object({ median: z.number(), min: z.number(), max: z.number() });

const ratio = summary.extend({
  against: z.string().describe('the system in the denominator'),
  rounds: z.array(z.number()).describe('of each round in which both were measured'),
});

const systemResult = z.object({
  system: z.string(),
  rounds: z
    .array(z.number().nullable())
    .describe('the figure of each round; null where it failed, and `failures` says why'),
  summary: summary.nullable().describe('of the rounds that did not fail; null where all did'),
  details: z
    .record(z.string(), summary)
    .describe('what else was measured, such as frames out of order; units are in the names'),
  ratios: z.array(ratio),
  failures: z.array(z.string()),
});

const measurement = z.object({
  name: z.string().describe('topology/load, as `--only` takes it'),
  topology: z.string(),
  load: z.string(),
  title: z.string(),
  unit: z.string(),
  better: z.enum(['higher', 'lower']),
  systems: z.array(systemResult),
});

const figure = z.object({
  title: z.string(),
  measurement: z.string(),
  system: z.string(),
  against: z.string().nullable().describe('null for a figure that is no ratio'),
  better: z.enum(['higher', 'lower']),
  must: z.number(),
  aim: z.number().nullable(),
  value: summary.nullable().describe('null where it could not be measured'),
  reached: z.enum(['aim', 'must', 'no', 'undecided']),
  note: z.string().nullable().describe('why it is undecided'),
});

export const resultsSchema = z.object({
  schema: z.literal(schemaName),
  startedAt: z.iso.datetime(),
  seconds: z.number().describe('how long the run took'),
  command: z.string(),
  options: z.object({
    quick: z.boolean(),
    rounds: z.int().positive(),
    sampleSeconds: z.int().positive(),
  }),
  machine: z.object({ cpu: z.string(), cpus: z.int().positive(), memoryBytes: z.number(), kernel: z.string() }),
  versions: z.record(z.string(), z.string()).describe('of weft, node, iperf3 and, where it took part, openvswitch'),
  systems: z.array(z.object({ name: z.string(), title: z.string() })),
  measurements: z.array(measurement),
  figures: z.array(figure),
});

export type Results = z.infer<typeof resultsSchema>;
export type MeasurementResult = z.infer<typeof measurement>;
export type SystemResult = z.infer<typeof systemResult>;
export type FigureResult = z.infer<typeof figure>;
