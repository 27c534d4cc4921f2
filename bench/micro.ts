/**
 * Micro-benchmarks of the parts that decide: `npm run bench:micro`.
 *
 *   extract     a frame to its flow key (TypeScript)
 *   lookup      a key in the flow cache of the reference datapath, by its size
 *   decide      a key to a decision, by the number of ports, and with a flow hook that has answered before
 *   upcall      the whole slow path of a new flow: decide, put, execute
 *
 * They use the package `benchmark`: the mean of many samples with its relative margin of error.
 * Then follow the slow path on the native datapath (`slow-path.ts`): the CPU time of new flows, as the
 * median of some runs; connections, beside the budget that they have (`connections.ts`); services
 * (`services.ts`); network policy (`policies.ts`); and the cost of maintaining many cached flows. Compare figures of the same run only.
 */
import Benchmark from 'benchmark';
import Table from 'cli-table3';
import { FlowCache } from '../src/datapath/reference/flow-cache.ts';
import { extract } from '../src/flow/extract.ts';
import { emptyKey } from '../src/flow/key.ts';
import type { FlowId } from '../src/flow/types.ts';
import { decide } from '../src/pipeline/decide.ts';
import { createSimulation } from '../src/simulation.ts';
import { keysOf, tables, udpFrames } from './fixtures.ts';
import { connectionRows, nativeFigures } from './connections.ts';
import { policyFigures } from './policies.ts';
import { serviceFigures } from './services.ts';
import { hookOf } from '../test/support/hooks.ts';
import type { FlowHook } from '../src/table/hooks.ts';
import { askedMicroseconds } from './hooks.ts';
import { decideAtCap, decideFlows, openConnections, revalidate, type Decided } from './slow-path.ts';

interface Row {
  readonly name: string;
  readonly nanoseconds: number;
  readonly marginPercent: number;
}

function run(onRow: (row: Row) => void): Row[] {
  const rows: Row[] = [];
  const suite = new Benchmark.Suite();
  addExtract(suite);
  for (const size of [1_000, 60_000]) addLookup(suite, size);
  for (const ports of [2, 1_000]) addDecide(suite, ports);
  addDecide(suite, 2, hookOf('a', "if (flow.protocol === 'udp' && destination.port === 1) return deny('no')"));
  addUpcall(suite);
  suite.on('cycle', (event: Benchmark.Event) => {
    const { name, stats } = event.target as unknown as Benchmark;
    const row = { name: name!, nanoseconds: stats.mean * 1e9, marginPercent: stats.rme };
    rows.push(row);
    onRow(row);
  });
  suite.run({ async: false });
  return rows;
}

function addExtract(suite: Benchmark.Suite): void {
  const frames = udpFrames(256);
  const key = emptyKey();
  let i = 0;
  suite.add('extract', () => {
    extract(frames[i++ & 255]!, key);
  });
}

function addLookup(suite: Benchmark.Suite, size: number): void {
  const keys = keysOf(udpFrames(size));
  const cache = new FlowCache(size);
  const { mask, actions } = decide(keys[0]!, tables(2));
  keys.forEach((key, i) => cache.put({ id: (i + 1) as FlowId, key, mask, actions }, 0));
  let i = 0;
  suite.add(`lookup, ${size.toLocaleString('en')} flows`, () => {
    cache.lookup(keys[(i += 7919) % size]!);
  });
}

function addDecide(suite: Benchmark.Suite, ports: number, hook?: FlowHook): void {
  const keys = keysOf(udpFrames(256));
  const all = tables(ports);
  if (hook) all.hooks.set([hook]);
  let i = 0;
  suite.add(`decide, ${ports.toLocaleString('en')} ports${hook ? ' and a hook' : ''}`, () => {
    decide(keys[i++ & 255]!, all);
  });
}

function addUpcall(suite: Benchmark.Suite): void {
  const net = createSimulation({ flowCap: 100_000 });
  const host = net.host('a', '192.0.2.1');
  host.createNetwork('blue', 100);
  const web = host.attach({ name: 'web', network: 'blue', mac: '02:00:00:00:00:02', addresses: ['10.0.0.2'] });
  const db = host.attach({ name: 'db', network: 'blue', mac: '02:00:00:00:00:03', addresses: ['10.0.0.3'] });
  const frames = udpFrames(65_535);
  let i = 0;
  suite.add('upcall, new flow each (reference)', () => {
    web.send(frames[i++ % frames.length]!);
    db.received.length = 0;
  });
}

function print(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const colAligns = head.map((_, column) => (column === 0 ? 'left' : 'right'));
  const table = new Table({ head: [...head], colAligns, style: { head: [], border: [] } });
  for (const row of rows) table.push([...row]);
  process.stdout.write(`${table.toString()}\n`);
}

/** The median of some runs. */
function medianOf(runs: number, measure: () => Decided): Decided {
  const all = Array.from({ length: runs }, measure);
  return all.sort((a, b) => a.cpuMicrosecondsPerFlow - b.cpuMicrosecondsPerFlow)[runs >> 1]!;
}

function decidedRow(what: string, { flowsPerCpuSecond, cpuMicrosecondsPerFlow, heapBytesPerFlow }: Decided): string[] {
  return [what, count(flowsPerCpuSecond), cpuMicrosecondsPerFlow.toFixed(1), count(heapBytesPerFlow)];
}

function count(number: number): string {
  return Math.round(number).toLocaleString('en');
}

const rows = run(({ name }) => process.stderr.write(`${name}\n`));
print(
  ['benchmark', 'ns', '± %'],
  rows.map(({ name, nanoseconds, marginPercent }) => [name, nanoseconds.toFixed(0), marginPercent.toFixed(1)]),
);

process.stderr.write('slow path\n');
decideFlows(30_000); // Warms up until all of it is compiled.
const [inEmpty, inFull] = [medianOf(5, () => decideFlows(100_000)), medianOf(3, () => decideAtCap(50_000, 50_000))];
const outside = medianOf(5, () => openConnections(100_000));
print(
  ['new flows (native)', 'a CPU-second', 'µs each', 'heap bytes each'],
  [
    decidedRow('100,000 in an empty cache, each opens a tracked connection', inEmpty),
    decidedRow('50,000 in a full cache of 50,000', inFull),
    decidedRow('100,000 connections to the outside', outside),
  ],
);
process.stderr.write('connections\n');
print(['connections', 'measured', 'budget'], connectionRows(nativeFigures(), inEmpty, outside));
process.stderr.write('services\n');
const services = serviceFigures();
const microseconds = (number: number): string => `${number.toFixed(2)} µs`;
print(
  ['services', 'measured', 'budget'],
  [
    ['30,000 with 3 backends each, put into the tables', `${services.loadedMs.toFixed(0)} ms`, '5,000 ms'],
    ['memory for all of them', `${services.loadedMib.toFixed(0)} MiB`, '256 MiB'],
    ['memory once clients have asked for all of them', `${services.usedMib.toFixed(0)} MiB`, '256 MiB'],
    ['the first client of a service', microseconds(services.firstUseMicroseconds), ''],
    ['a choice among 10 services', microseconds(services.fewMicroseconds), ''],
    [
      'among 30,000, of which the same 10 are asked for',
      microseconds(services.manyMicroseconds),
      `${microseconds(1.1 * services.fewMicroseconds)} (1.1 times)`,
    ],
    ['among 30,000, all in turn', microseconds(services.allMicroseconds), ''],
    ['the decision about a first packet, with 10 services', microseconds(services.fewDecidedMicroseconds), ''],
    [
      'with 30,000',
      microseconds(services.manyDecidedMicroseconds),
      `${microseconds(1.1 * services.fewDecidedMicroseconds)} (1.1 times)`,
    ],
  ],
);
process.stderr.write('policies\n');
const policies = policyFigures();
print(
  ['policies', 'measured', 'budget'],
  [
    ...[...policies.judgedNanoseconds].map(([rules, nanoseconds]) => [
      `deciding with ${count(rules)} rules: what they say`,
      `${nanoseconds.toFixed(0)} ns`,
      '',
    ]),
    ['10,000 rules for 1,000 endpoints, compiled', `${policies.compiledMs.toFixed(0)} ms`, '1,000 ms'],
    ['memory for them', `${policies.compiledMib.toFixed(0)} MiB`, '64 MiB'],
    ['one of 1,000 policies is replaced', `${policies.changedMs.toFixed(0)} ms`, ''],
    ['262,144 connections judged anew, 10 clients', `${policies.sweptAlikeMs.toFixed(0)} ms`, '1,000 ms'],
    ['of as many clients, half of them denied', `${policies.sweptMs.toFixed(0)} ms`, ''],
  ],
);
process.stderr.write('hooks\n');
print(['hooks', 'median'], [['a hook answers in its process', `${(await askedMicroseconds()).toFixed(1)} µs`]]);
print(
  ['cached flows (native)', 'flows', 'done after ms', 'longest stall ms'],
  (await revalidate(100_000, 1_000)).map(({ what, flows, convergedMs, longestStallMs }) => [
    what,
    count(flows),
    convergedMs.toFixed(1),
    longestStallMs.toFixed(1),
  ]),
);
