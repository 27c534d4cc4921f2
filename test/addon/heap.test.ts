/**
 * V8's heap gets a limit while the process runs: garbage stays below it, and so does the process. Each
 * case runs in a process of its own, since its limits stay changed.
 */
import t from 'tap';
import { flowCapOf, heapBytesOf } from '../../src/memory.ts';
import { run } from '../support/process.ts';

t.setTimeout(120_000);

const MIB = 1024 * 1024;

/** Runs a module that has `limitHeap`, and parses its output as JSON. */
async function inProcess(code: string): Promise<Record<string, number>> {
  const url = new URL('../../src/addon/heap.ts', import.meta.url).href;
  const source = `import v8 from 'node:v8'; import { HeapTrimmer, limitHeap } from '${url}'; ${code}`;
  return JSON.parse(await run([process.execPath, '--import=tsx', '--input-type=module', '-e', source])) as Record<
    string,
    number
  >;
}

t.test('the limit is in force at once', async (t) => {
  const { before, after } = await inProcess(`
    const limit = () => v8.getHeapStatistics().heap_size_limit;
    const before = limit();
    limitHeap(${128 * MIB});
    console.log(JSON.stringify({ before, after: limit() }));
  `);
  t.ok(before! > 200 * MIB, `${before}`);
  // New objects come on top of it.
  t.ok(after! >= 128 * MIB && after! <= 200 * MIB, `${after}`);
});

t.test('what is new stays small, however much of it there is', async (t) => {
  const { newBytes } = await inProcess(`
    limitHeap(${128 * MIB});
    const kept = [];
    for (let i = 0; i < 2_000_000; i++) kept[i % 50_000] = { i, list: [i] };
    const { space_size } = v8.getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
    console.log(JSON.stringify({ newBytes: space_size }));
  `);
  t.ok(newBytes! <= 8 * MIB, `${newBytes}`);
});

t.test('what a flood leaves is given back, with nobody asking for memory', async (t) => {
  const { full, later } = await inProcess(`
    const bytes = () => v8.getHeapStatistics().total_heap_size;
    limitHeap(${256 * MIB});
    const trimmer = new HeapTrimmer();
    let flows = Array.from({ length: 200_000 }, (_, n) => ({ n, list: [n] }));
    trimmer.look(flows.length);
    const full = bytes();
    flows = [];
    while (bytes() > full - ${20 * MIB}) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      trimmer.look(flows.length);
    }
    console.log(JSON.stringify({ full, later: bytes() }));
  `);
  t.ok(later! < full!, `${full}, ${later}`);
});

t.test('while nothing happens nothing is collected', async (t) => {
  const { collections } = await inProcess(`
    import { PerformanceObserver } from 'node:perf_hooks';
    let collections = 0;
    const observer = new PerformanceObserver((list) => {
      for (const { detail } of list.getEntries()) if (detail.kind !== 1) collections++;
    });
    const trimmer = new HeapTrimmer();
    observer.observe({ entryTypes: ['gc'] });
    for (let n = 0; n < 100; n++) {
      trimmer.look(500);
      await new Promise((resolve) => setImmediate(resolve));
    }
    console.log(JSON.stringify({ collections }));
  `);
  t.equal(collections, 0);
});

t.test('heap and flows follow from the memory', async (t) => {
  t.equal(heapBytesOf(256 * MIB), 96 * MIB);
  t.equal(flowCapOf(256 * MIB), 98_304);
  t.equal(heapBytesOf(32 * 1024 * MIB), 1024 * MIB, 'more is of no use');
  t.equal(flowCapOf(32 * 1024 * MIB), 200_000);
  t.equal(heapBytesOf(64 * MIB), 64 * MIB, 'less than that does not do');
  t.equal(heapBytesOf(256 * MIB, 1_000_000), 1_024_000_000, 'flows that are asked for have room');
});
