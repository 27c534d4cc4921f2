/** The load tool, compiled when its source is newer than what was compiled. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../src/package.ts';

const source = join(packageRoot, 'bench/load/load.cc');
const path = join(packageRoot, 'build/bench/load');

export const loadTool = {
  path,
  /** @throws what the compiler says */
  build(): void {
    if (existsSync(path) && statSync(path).mtimeMs > statSync(source).mtimeMs) return;
    mkdirSync(dirname(path), { recursive: true });
    execFileSync('g++', ['-std=c++20', '-O2', '-Wall', '-Wextra', '-o', path, source], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
  },
};
