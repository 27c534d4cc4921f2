/**
 * The tests: runs each file as a process of its own and prints one line for it,
 * the failures, and at the end a line for each failure once more and
 * `N passed, N failed, N skipped`. Arguments are the files to run; all of them
 * without.
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

const root = fileURLToPath(new URL('..', import.meta.url));
/** TypeScript is run by tsx; what comes before it is spared its look at every module. */
const loaders = ['--import=tap', '--import=tsx'];
/** One more than processors: most wait for something now and then. */
const JOBS = availableParallelism() + 1;
/** A file that hangs, on a machine that others load too, is told to end, and then ended. */
const LONGEST_MS = 660_000;
const TO_CLEAN_UP_MS = 30_000;
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
  'setup/install',
  'e2e/demo',
  'netns/bad-input',
  'netns/rates',
  'netns/fragments',
  'netns/one-host',
  'netns/path-mtu',
  'netns/state',
  'cli/cli',
  'netns/nat',
  'netns/kernel-vtep',
  'netns/restart',
  'netns/ecn',
  'netns/established',
  'outside/outside-upkeep',
  'outside/outside',
  'diff/pipeline',
].map((name) => `${name}.test.ts`);

const given = process.argv.slice(2);
const files = readdirSync(join(root, 'test'), { recursive: true }).filter((name) => name.endsWith('.test.ts'));
const others = files.filter((name) => !LONGEST.includes(name)).sort((a, b) => (a < b ? -1 : 1));
const queue = given.length > 0 ? given : [...LONGEST, ...others].map((name) => join('test', name));

const all = newCount();
const failed = [];
const running = new Set();
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    // What is known by the time that all have ended is printed.
    queue.length = 0;
    process.exitCode = 1;
    for (const child of running) child.kill(signal);
  });
}
await Promise.all(Array.from({ length: JOBS }, runQueue));
if (all.failed > 0) process.exitCode = 1;
console.log('');
// Those above can be far up, between lines of logs, or cut out by who keeps only the end.
for (const { file, fullname } of failed) console.log(`FAILED ${file}: ${fullname}`.replaceAll('\n', ' ').slice(0, 600));
console.log(`${all.passed} passed, ${all.failed} failed, ${all.skipped} skipped`);

async function runQueue() {
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const [result, test] = await runFile(file);
    add(all, result, test);
    printFile(result, test);
  }
}

/** @returns its result as tap would say it of a test, and what its tests count */
async function runFile(file) {
  const startMs = performance.now();
  // A test has no shorter time than its file: how long something takes decides nothing.
  const env = { TAP_TIMEOUT: String(LONGEST_MS / 1000), ...process.env };
  const child = spawn(process.execPath, [...loaders, file], { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] });
  running.add(child);
  const ended = new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal })));
  const tellTimer = setTimeout(() => child.kill('SIGALRM'), LONGEST_MS);
  const endTimer = setTimeout(() => child.kill('SIGKILL'), LONGEST_MS + TO_CLEAN_UP_MS);
  const test = watch(new Parser());
  const parsed = new Promise((resolve) => test.parser.on('complete', resolve));
  child.stdout.pipe(test.parser);
  const { code, signal } = await ended;
  await parsed;
  clearTimeout(tellTimer);
  clearTimeout(endTimer);
  running.delete(child);
  const ok = code === 0 && test.parser.ok;
  const diag = { ended: signal ?? `exit ${code}` };
  return [{ ok, skip: false, todo: false, fullname: file, time: performance.now() - startMs, diag }, test];
}

function newCount() {
  return { holdsTests: false, passed: 0, failed: 0, skipped: 0, comments: [], failures: [] };
}

/** Counts what the parser of a test reads. */
function watch(parser) {
  const count = { parser, ...newCount() };
  let last;
  parser.on('child', (inner) => (last = watch(inner)));
  parser.on('comment', (comment) => count.comments.push(comment));
  parser.on('bailout', (reason) => count.failures.push({ fullname: `Bail out! ${reason}` }));
  parser.on('assert', (result) => {
    // The result of a test comes right behind it.
    const test = last;
    last = undefined;
    if (test !== undefined) add(count, result, test);
    else if (result.skip || result.todo) {
      count.holdsTests = true;
      count.skipped += 1;
    } else if (!result.ok) {
      count.failures.push(result);
    }
  });
  return count;
}

/** Adds a test's result, and what it counted itself, to what holds it. */
function add(count, result, test) {
  const skipped = result.skip || result.todo;
  count.holdsTests = true;
  count.passed += test.passed;
  count.failed += test.failed;
  count.skipped += test.skipped;
  count.failures.push(...test.failures);
  // What a test that failed has said.
  if (!result.ok && !skipped) count.comments.push(...test.comments.filter((one) => !one.startsWith('# Subtest')));
  if (skipped) count.skipped += test.holdsTests ? 0 : 1;
  else if (!result.ok) count.failed += test.failed > 0 ? 0 : 1;
  else if (!test.holdsTests) count.passed += 1;
  if (!result.ok && !skipped && test.failures.length === 0) count.failures.push(result);
}

function printFile(result, test) {
  const single = result.skip || result.todo ? 'skipped' : result.ok ? 'passed' : 'failed';
  const own = test.holdsTests ? test : { passed: 0, failed: 0, skipped: 0, [single]: 1 };
  const skipped = own.skipped > 0 ? `, ${own.skipped} skipped` : '';
  const seconds = ((result.time ?? 0) / 1000).toFixed(1);
  const word = result.ok ? 'ok    ' : 'FAILED';
  console.log(`${word} ${result.fullname}  ${own.passed} of ${own.passed + own.failed}${skipped}  ${seconds} s`);
  if (result.ok) return;
  // Comments tell the seed of a random test.
  for (const comment of test.comments) process.stdout.write(`  ${comment}`);
  for (const failure of test.failures.length > 0 ? test.failures : [result]) {
    failed.push({ file: result.fullname, fullname: failure.fullname });
    printFailure(failure);
  }
}

function printFailure({ fullname, diag }) {
  console.log(`  ✗ ${fullname}`);
  const { diff, stack, source, at, ...rest } = diag ?? {};
  const where = stack ?? (at ? `${at.fileName}:${at.lineNumber}:${at.columnNumber}` : '');
  const known = Object.entries(rest).filter(([, value]) => value !== null && typeof value !== 'object');
  const values = diff === undefined ? known.map(([key, value]) => `${key}: ${value}`) : [diff];
  for (const text of [...values, where]) if (text) console.log(text.trimEnd().replace(/^/gm, '      '));
}
