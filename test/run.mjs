/**
 * The tests: runs tap and prints one line a file, the failures, and at the end
 * `N passed, N failed, N skipped`. Arguments go to `tap run`: files, options.
 *
 * The unit that is counted is a test that holds no other tests. A test that
 * holds others counts only where it fails by itself: an assertion beside them,
 * a timeout, a wrong plan. A test to be done counts as skipped.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Parser } from 'tap-parser';

const tap = fileURLToPath(new URL('../node_modules/tap/dist/esm/run.mjs', import.meta.url));
const root = fileURLToPath(new URL('..', import.meta.url));
/**
 * What only computes, and what waits for no deadline, shares the processors; the rest has namespaces, links and
 * clocks of the machine to itself.
 */
const SHARING = [
  'api',
  'cli',
  'cluster',
  'conformance',
  'control',
  'diff',
  'flow',
  'health',
  'model',
  'netns/antispoof',
  'netns/bad-input',
  'netns/manifests',
  'pipeline',
  'table',
  'transcripts',
  'wire',
];

const given = process.argv.slice(2);
const files = readdirSync(join(root, 'test'), { recursive: true }).filter((name) => name.endsWith('.test.ts'));
const shares = (name) => SHARING.some((part) => name.startsWith(`${part}/`) || name === `${part}.test.ts`);
const paths = (names) => names.sort().map((name) => join('test', name));
const runs =
  given.length > 0
    ? [given]
    : [
        [`--jobs=${availableParallelism()}`, ...paths(files.filter(shares))],
        paths(files.filter((name) => !shares(name))),
      ];

const all = { passed: 0, failed: 0, skipped: 0 };
let child;
let stopped = false;
// Ctrl-C reaches tap too: it ends its tests, and what is known by then is printed.
process.on('SIGINT', () => (stopped = true));
process.on('SIGTERM', () => {
  stopped = true;
  child?.kill();
});
for (const args of runs) {
  if (stopped) break;
  child = spawn(process.execPath, [tap, 'run', '--reporter=tap', ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.on('close', resolve));
  const count = watch(new Parser(), printFile);
  child.stdout.pipe(count.parser);
  const code = await ended;
  if (code !== 0 && count.failed === 0) {
    // Not a test that failed, but the run: a bail-out, no such file.
    count.failed = 1;
    count.failures.forEach(printFailure);
  }
  for (const key of Object.keys(all)) all[key] += count[key];
  if (code !== 0 || !count.parser.ok) process.exitCode = code || 1;
}
console.log(`\n${all.passed} passed, ${all.failed} failed, ${all.skipped} skipped`);

/**
 * Counts what the parser of a test reads.
 * @param onTest called for each test directly inside, with its result and its own count
 */
function watch(parser, onTest = () => {}) {
  const count = { parser, holdsTests: false, passed: 0, failed: 0, skipped: 0, comments: [], failures: [] };
  let last;
  parser.on('child', (inner) => (last = watch(inner)));
  parser.on('comment', (comment) => count.comments.push(comment));
  parser.on('bailout', (reason) => count.failures.push({ fullname: `Bail out! ${reason}` }));
  parser.on('assert', (result) => {
    // The result of a test comes right behind it.
    const test = last;
    last = undefined;
    const skipped = result.skip || result.todo;
    if (test !== undefined) {
      count.holdsTests = true;
      count.passed += test.passed;
      count.failed += test.failed;
      count.skipped += test.skipped;
      count.failures.push(...test.failures);
      if (skipped) count.skipped += test.holdsTests ? 0 : 1;
      else if (!result.ok) count.failed += test.failed > 0 ? 0 : 1;
      else if (!test.holdsTests) count.passed += 1;
      if (!result.ok && !skipped && test.failures.length === 0) count.failures.push(result);
      onTest(result, test);
    } else if (skipped) {
      count.holdsTests = true;
      count.skipped += 1;
    } else if (!result.ok) {
      count.failures.push(result);
    }
  });
  return count;
}

function printFile(result, test) {
  const single = result.skip || result.todo ? 'skipped' : result.ok ? 'passed' : 'failed';
  const own = test.holdsTests ? test : { passed: 0, failed: 0, skipped: 0, [single]: 1 };
  const skipped = own.skipped > 0 ? `, ${own.skipped} skipped` : '';
  const seconds = ((result.time ?? 0) / 1000).toFixed(1);
  const word = result.ok ? 'ok    ' : 'FAILED';
  console.log(`${word} ${test.parser.name}  ${own.passed} of ${own.passed + own.failed}${skipped}  ${seconds} s`);
  if (result.ok) return;
  // Comments tell the seed of a random test.
  for (const comment of test.comments) process.stdout.write(`  ${comment}`);
  for (const failure of test.failures.length > 0 ? test.failures : [result]) printFailure(failure);
}

function printFailure({ fullname, diag }) {
  console.log(`  ✗ ${fullname}`);
  const { diff, stack, source, at, ...rest } = diag ?? {};
  const where = stack ?? (at ? `${at.fileName}:${at.lineNumber}:${at.columnNumber}` : '');
  const known = Object.entries(rest).filter(([, value]) => value !== null && typeof value !== 'object');
  const values = diff === undefined ? known.map(([key, value]) => `${key}: ${value}`) : [diff];
  for (const text of [...values, where]) if (text) console.log(text.trimEnd().replace(/^/gm, '      '));
}
