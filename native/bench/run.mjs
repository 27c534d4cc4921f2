/**
 * `node native/bench/run.mjs [name …]`: builds the benchmarks of the native core with the addon's
 * settings, in a temporary directory, and runs them one after the other: `frame`, `flow_cache`,
 * `connections` and `refuse`. Times are medians. Compare figures of the same run only. With `--json`,
 * `connections` prints an object instead of tables.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const native = fileURLToPath(new URL('..', import.meta.url));
const datapath = [
  'datapath',
  'datapath_connections',
  'coalesce',
  'extract',
  'flow_cache',
  'fragment_tracker',
  'pending',
  'refuse',
];
const io = ['underlay', 'tap', 'netns', 'privileges', 'steering'].map((name) => `io/${name}`);
const whole = [...datapath, 'connection_table', 'segment', ...io];
const sources = (names) => names.map((name) => `${name}.cc`);
const benchmarks = {
  frame: ['extract.cc'],
  flow_cache: ['flow_cache.cc'],
  connections: sources(whole),
  refuse: sources(whole),
};
const flags = ['-std=c++20', '-O3', '-Wall', '-Wextra', '-Werror', '-fno-exceptions', '-fno-rtti'];

const options = process.argv.slice(2).filter((argument) => argument === '--json');
const named = process.argv.slice(2).filter((argument) => argument !== '--json');
const names = named.length > 0 ? named : Object.keys(benchmarks);
const unknown = names.find((name) => !Object.hasOwn(benchmarks, name));
if (unknown !== undefined) {
  console.error(`${unknown}: ${Object.keys(benchmarks).join(' or ')}`);
  process.exit(2);
}

const directory = mkdtempSync(join(tmpdir(), 'weft-bench-'));
try {
  for (const name of names) {
    const program = join(directory, name);
    execFileSync('g++', [...flags, `bench/${name}.cc`, ...benchmarks[name], '-o', program], {
      cwd: native,
      stdio: 'inherit',
    });
    execFileSync(program, options, { stdio: 'inherit' });
    console.log();
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
