/**
 * Micro-benchmarks of the parts that decide: `npm run bench:micro`, or of some of them: `npm run bench:micro -- policies hooks`.
 *
 *   extract     a frame to its flow key (TypeScript)
 *   lookup      a key in the flow cache of the reference datapath, by its size
 *   decide      a key to a decision, by the number of ports, and with a flow hook that has answered before
 *   upcall      the whole slow path of a new flow: decide, put, execute
 *
 * These are the part `deciding`. They use the package `benchmark`: the mean of many samples with its relative margin of error.
 * Then follow `slow-path`, the slow path on the native datapath (`slow-path.ts`): the CPU time of new flows, as the
 * median of some runs, and connections, beside the budget that they have (`connections.ts`); `services`
 * (`services.ts`); `policies` (`policies.ts`); `hooks`; and `cached-flows`, the cost of maintaining many of them. Compare figures of
 * the same run only.
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

const microseconds = (number: number): string => `${number.toFixed(2)} µs`;

function deciding(): void {
  const rows = run(({ name }) => process.stderr.write(`${name}\n`));
  print(
    ['benchmark', 'ns', '± %'],
    rows.map(({ name, nanoseconds, marginPercent }) => [name, nanoseconds.toFixed(0), marginPercent.toFixed(1)]),
  );
}

function slowPath(): void {
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
  print(['connections', 'measured', 'budget'], connectionRows(nativeFigures(), inEmpty, outside));
}

function services(): void {
  const figures = serviceFigures();
  print(
    ['services', 'measured', 'budget'],
    [
      ['30,000 with 3 backends each, put into the tables', `${figures.loadedMs.toFixed(0)} ms`, '5,000 ms'],
      ['memory for all of them', `${figures.loadedMib.toFixed(0)} MiB`, '256 MiB'],
      ['memory once clients have asked for all of them', `${figures.usedMib.toFixed(0)} MiB`, '256 MiB'],
      ['the first client of a service', microseconds(figures.firstUseMicroseconds), ''],
      ['a choice among 10 services', microseconds(figures.fewMicroseconds), ''],
      [
        'among 30,000, of which the same 10 are asked for',
        microseconds(figures.manyMicroseconds),
        `${microseconds(1.1 * figures.fewMicroseconds)} (1.1 times)`,
      ],
      ['among 30,000, all in turn', microseconds(figures.allMicroseconds), ''],
      ['the decision about a first packet, with 10 services', microseconds(figures.fewDecidedMicroseconds), ''],
      [
        'with 30,000',
        microseconds(figures.manyDecidedMicroseconds),
        `${microseconds(1.1 * figures.fewDecidedMicroseconds)} (1.1 times)`,
      ],
    ],
  );
}

function policies(): void {
  const figures = policyFigures();
  const [few = 0] = figures.judgedNanoseconds.values();
  print(
    ['policies', 'measured', 'budget'],
    [
      ...[...figures.judgedNanoseconds].map(([rules, nanoseconds], at) => [
        `deciding with ${count(rules)} rules: what they say`,
        `${nanoseconds.toFixed(0)} ns`,
        at === 0 ? '' : `${(1.1 * few).toFixed(0)} ns (1.1 times)`,
      ]),
      ['10,000 rules for 1,000 endpoints, compiled', `${figures.compiledMs.toFixed(0)} ms`, '1,000 ms'],
      ['memory for them', `${figures.compiledMib.toFixed(0)} MiB`, '64 MiB'],
      ['one of 1,000 policies is replaced', `${figures.changedMs.toFixed(0)} ms`, '20 ms'],
      ['262,144 connections judged anew, 10 clients', `${figures.sweptAlikeMs.toFixed(0)} ms`, '1,000 ms'],
      ['of as many clients, half of them denied', `${figures.sweptMs.toFixed(0)} ms`, '1,000 ms'],
    ],
  );
}

async function hooks(): Promise<void> {
  print(['hooks', 'median'], [['a hook answers in its process', `${(await askedMicroseconds()).toFixed(1)} µs`]]);
}

async function cachedFlows(): Promise<void> {
  print(
    ['cached flows (native)', 'flows', 'done after ms', 'longest stall ms'],
    (await revalidate(100_000, 1_000)).map(({ what, flows, convergedMs, longestStallMs }) => [
      what,
      count(flows),
      convergedMs.toFixed(1),
      longestStallMs.toFixed(1),
    ]),
  );
}

const parts = new Map<string, () => void | Promise<void>>([
  ['deciding', deciding],
  ['slow-path', slowPath],
  ['services', services],
  ['policies', policies],
  ['hooks', hooks],
  ['cached-flows', cachedFlows],
]);
const chosen = process.argv.slice(2);
const unknown = chosen.find((name) => !parts.has(name));
if (unknown !== undefined) {
  process.stderr.write(`bench:micro: there is no ${unknown}; the parts are ${[...parts.keys()].join(', ')}\n`);
  process.exit(2);
}
for (const [name, measure] of parts) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  process.stderr.write(`${name}\n`);
  await measure();
}
