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
/** What takes longest, first: no processor is then idle while the last one runs. */
const LONGEST = [
  'netns/mtu-matrix',
  'netns/routing',
  'netns/black-hole',
  'diff/differential',
  'netns/outside',
  'netns/two-hosts',
  'netns/offloads',
  'netns/mac-flood',
  'e2e/demo',
  'netns/bad-input',
  'netns/rates',
  'netns/fragments',
  'link/outside',
  'netns/one-host',
  'netns/path-mtu',
  'netns/state',
  'cli/cli',
  'netns/nat',
  'netns/kernel-vtep',
  'netns/restart',
  'netns/ecn',
  'netns/established',
  'diff/pipeline',
].map((name) => `${name}.test.ts`);

const given = process.argv.slice(2);
const files = readdirSync(join(root, 'test'), { recursive: true }).filter((name) => name.endsWith('.test.ts'));
const others = files.filter((name) => !LONGEST.includes(name)).sort((a, b) => (a < b ? -1 : 1));
const args =
  given.length > 0
    ? given
    : [`--jobs=${availableParallelism()}`, ...[...LONGEST, ...others].map((name) => join('test', name))];

const child = spawn(process.execPath, [tap, 'run', '--reporter=tap', ...args], {
  cwd: root,
  stdio: ['ignore', 'pipe', 'inherit'],
});
// Ctrl-C reaches tap too: it ends its tests, and what is known by then is printed.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => child.kill());
const ended = new Promise((resolve) => child.on('close', resolve));
const all = watch(new Parser(), printFile);
child.stdout.pipe(all.parser);
const code = await ended;
if (code !== 0 && all.failed === 0) {
  // Not a test that failed, but the run: a bail-out, no such file.
  all.failed = 1;
  all.failures.forEach(printFailure);
}
if (code !== 0 || !all.parser.ok) process.exitCode = code || 1;
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
