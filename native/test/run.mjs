/**
 * Builds the C++ tests in a temporary directory and runs each under ASan + UBSan and under TSan. Needs
 * g++, and root for the tests that open TAPs and sockets.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildCore, command } from './core.mjs';

const tests = [
  'core_test',
  'flow_cache_test',
  'connection_test',
  'liveness_test',
  'worker_test',
  'io_test',
  'conntrack_test',
  'passing_test',
];
const sanitizers = { 'ASan + UBSan': '-fsanitize=address,undefined', TSan: '-fsanitize=thread' };
const flags = [
  '-std=c++20',
  '-O1',
  '-g',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-fno-exceptions',
  '-fno-rtti',
  '-fno-sanitize-recover=all',
  '-pthread',
];

const directory = mkdtempSync(join(tmpdir(), 'weft-sanitize-'));
let failed = false;
try {
  for (const [name, flag] of Object.entries(sanitizers)) {
    const core = await buildCore('g++', [...flags, flag], directory);
    for (const test of tests) {
      console.log(`${test} under ${name}`);
      try {
        const program = join(directory, test);
        await command('g++', [...flags, flag, `native/test/${test}.cc`, core, '-o', program]);
        execFileSync(program, { stdio: 'inherit', timeout: 300_000, killSignal: 'SIGKILL' });
      } catch (error) {
        console.error(`${test} under ${name} failed: ${error.message.split('\n')[0]}`);
        failed = true;
      }
    }
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
process.exitCode = failed ? 1 : 0;
