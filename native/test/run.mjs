/**
 * Builds the C++ tests in a temporary directory and runs each under ASan + UBSan
 * and under TSan. Needs g++, and root for those that open TAPs and sockets.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const native = fileURLToPath(new URL('..', import.meta.url));
const core = [
  ...['coalesce.cc', 'datapath.cc', 'extract.cc', 'flow_cache.cc', 'fragment_tracker.cc', 'pending.cc', 'segment.cc'],
  ...['worker.cc', 'workers.cc'],
];
const io = ['io/steering.cc', 'io/tap.cc', 'io/underlay.cc'];
const tests = {
  core_test: [...core, ...io],
  worker_test: [...core, ...io],
  io_test: ['io/conntrack.cc', 'io/frame_io.cc', ...io],
};
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
    for (const [test, sources] of Object.entries(tests)) {
      console.log(`${test} under ${name}`);
      try {
        const program = join(directory, test);
        execFileSync('g++', [...flags, flag, `test/${test}.cc`, ...sources, '-o', program], {
          cwd: native,
          stdio: 'inherit',
        });
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
