/**
 * `node native/bench/run.mjs [name …]`: builds the benchmarks of the native core with the addon's
 * settings, in a temporary directory, and runs them one after the other: `frame`, `flow_cache` and
 * `connections`. Times are medians. Compare figures of the same run only. With `--json`, `connections`
 * prints an object instead of tables.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildCore, command } from '../test/core.mjs';

const benchmarks = ['frame', 'flow_cache', 'connections'];
const flags = ['-std=c++20', '-O3', '-Wall', '-Wextra', '-Werror', '-fno-exceptions', '-fno-rtti', '-pthread'];

const options = process.argv.slice(2).filter((argument) => argument === '--json');
const named = process.argv.slice(2).filter((argument) => argument !== '--json');
const names = named.length > 0 ? named : benchmarks;
const unknown = names.find((name) => !benchmarks.includes(name));
if (unknown !== undefined) {
  console.error(`${unknown}: ${benchmarks.join(' or ')}`);
  process.exit(2);
}

const directory = mkdtempSync(join(tmpdir(), 'weft-bench-'));
try {
  const core = await buildCore('g++', flags, directory);
  for (const name of names) {
    const program = join(directory, name);
    await command('g++', [...flags, `native/bench/${name}.cc`, core, '-o', program]);
    execFileSync(program, options, { stdio: 'inherit' });
    console.log();
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
