/** The results of the benchmark, as JSON, as tables and as a page. */
import t from 'tap';
import { report } from '../../bench/report.ts';
import { resultsSchema } from '../../bench/results.ts';
import { tables } from '../../bench/table.ts';
import { measured, resultsOf } from './results.ts';

const ovs = { 'ovs-tso': [4, 4, 4, 4, 4], 'ovs-tso-veth': [3, 3, 3, 3, 3] };
const results = resultsOf([
  measured('one-host/tcp-1', { weft: [9, 11, 10, 10, 10], kernel: [20, 20, 20, 20, 20], ...ovs }),
  measured('overlay/loss-100k', { weft: [0, 0, 0, 0, 0], kernel: [0, 0, 0, 0, 0] }, { reorderedFrames: 3 }),
  measured('overlay/rr', { weft: [null, null], kernel: [1000, 3000] }),
]);

t.test('results are what their schema says, and survive JSON', (t) => {
  t.same(resultsSchema.parse(JSON.parse(JSON.stringify(results))), results);
  t.throws(() => resultsSchema.parse({ ...results, schema: 'weft-bench/0' }));
  t.end();
});

t.test('a result has its rounds, their summary, and the ratios to all others', (t) => {
  const [weft, kernel] = results.measurements[0]!.systems;
  t.same(weft?.rounds, [9, 11, 10, 10, 10]);
  t.same(weft?.summary, { median: 10, min: 9, max: 11 });
  t.same(
    weft?.ratios.map(({ against }) => against),
    ['kernel', 'ovs-tso', 'ovs-tso-veth'],
  );
  t.same(weft?.ratios[0]?.rounds, [0.45, 0.55, 0.5, 0.5, 0.5]);
  t.equal(kernel?.system, 'kernel');
  const [failed] = results.measurements[2]!.systems;
  t.same([failed?.summary, failed?.ratios, failed?.failures.length], [null, [], 1]);
  t.end();
});

t.test('the page has every measurement with its charts, and every figure', (t) => {
  const html = report(results);
  const sections = html.split('<section ').slice(1);
  t.equal(sections.length, results.measurements.length);
  results.measurements.forEach(({ name, title }, i) => {
    t.ok(sections[i]?.includes(`id="${name}"`) && sections[i].includes(title), name);
  });
  const charts = sections.map((section) => section.split('<svg ').length - 1);
  // Figures, and ratios to the kernel and to two others. There are no ratios to a loss of nothing, nor to a failure.
  t.same(charts, [4, 1, 1]);
  for (const text of ['10.0', 'ratio to kernel', 'ratio to OVS userspace, TSO', 'must', 'aim']) {
    t.ok(sections[0]?.includes(text), text);
  }
  for (const { title } of results.figures) t.ok(html.includes(title), title);
  for (const text of ['6.1.0', 'a CPU', 'weft 1.2.3', '3 frames out of order']) t.ok(html.includes(text), text);
  t.end();
});

t.test('the page opens offline and takes no text for markup', (t) => {
  const html = report(results);
  t.notMatch(html, /<script|<link|@import|url\(|\bsrc=|href="(?!#)/);
  t.notOk(html.includes('<it>'), 'a failure');
  t.ok(html.includes('&lt;it&gt; &amp; &quot;that&quot;'));
  t.ok(html.includes('--only &lt;x&gt;'), 'the command');
  t.end();
});

t.test('the tables say the same', (t) => {
  const text = tables(results);
  for (const part of ['one-host/tcp-1', '10.0 (9.00–11.0)', '0.50 (0.45–0.55)', 'failed: round 1']) {
    t.ok(text.includes(part), part);
  }
  t.match(text, /One host, TCP, 1 stream +│ kernel +│ ≥ 0\.7 +│ ≥ 0\.9 +│ 0\.50 \(0\.45–0\.55\) +│ not reached/);
  t.match(text, /loss in %.*│ aim reached/);
  t.end();
});
