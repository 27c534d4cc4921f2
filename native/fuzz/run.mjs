/**
 * `node native/fuzz/run.mjs [--seconds N]`: builds each libFuzzer target of this directory with clang in
 * a temporary directory and runs it for N seconds (60), with ASan and UBSan. All are built before the
 * first one runs, and as many run at a time as there are processors. Exit code 1 if one does not build
 * or finds something; a finding is copied to the working directory and named.
 */
import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { buildCore, command, inParallel } from '../test/core.mjs';
import { seeds } from './seeds.mjs';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' } } });
const seconds = Number(values.seconds);
if (!Number.isInteger(seconds) || seconds < 1) {
  console.error(`--seconds ${values.seconds}: a whole number of seconds, 1 or more`);
  process.exit(2);
}

const targets = readdirSync(import.meta.dirname)
  .filter((name) => name.endsWith('.cc'))
  .map((name) => basename(name, '.cc'));
const flags = [
  '-std=c++20',
  '-O1',
  '-g',
  '-fno-exceptions',
  '-fno-rtti',
  '-fsanitize=fuzzer-no-link,address,undefined',
  '-fno-sanitize-recover=all',
];

const directory = mkdtempSync(join(tmpdir(), 'weft-fuzz-'));
try {
  const core = await buildCore('clang++', flags, directory);
  await inParallel(targets, (target) =>
    command('clang++', [
      ...flags,
      '-fsanitize=fuzzer',
      `native/fuzz/${target}.cc`,
      core,
      '-o',
      join(directory, target),
    ]),
  );
  await inParallel(targets, fuzz);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  rmSync(directory, { recursive: true, force: true });
}

async function fuzz(target) {
  const corpus = join(directory, `${target}-corpus`);
  const findings = join(directory, `${target}-findings`);
  mkdirSync(corpus);
  mkdirSync(findings);
  for (const [index, seed] of (seeds[target] ?? []).entries()) writeFileSync(join(corpus, `seed-${index}`), seed);
  const options = [
    `-max_total_time=${seconds}`,
    '-max_len=8192',
    '-print_final_stats=1',
    '-verbosity=0',
    `-artifact_prefix=${findings}/`,
  ];
  const child = spawn(join(directory, target), [...options, corpus], { stdio: ['ignore', 'inherit', 'pipe'] });
  const ended = new Promise((resolve) => child.on('close', (code, signal) => resolve(signal ?? code)));
  // libFuzzer's output is long, so all of it is shown only if something was found.
  const account = await text(child.stderr);
  if ((await ended) === 0) {
    const executed = /number_of_executed_units: *(\d+)/.exec(account)?.[1];
    console.log(`${target}: ${executed} inputs in ${seconds} s, nothing found`);
    return;
  }
  process.exitCode = 1;
  console.error(`${target} found something:\n${account}`);
  for (const name of readdirSync(findings)) {
    copyFileSync(join(findings, name), `${target}-${name}`);
    console.error(`found: ${target}-${name}`);
  }
}
