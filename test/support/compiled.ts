/** C++ programs that tests and benchmarks run: compiled if the source is newer than the program. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../src/package.ts';

export interface Compiled {
  readonly path: string;
  /** @throws with the compiler's output */
  build(): void;
}

/** @param source a single file, relative to the root of the package; `to` is relative to `build/` */
export function compiled(source: string, to: string): Compiled {
  const [from, path] = [join(packageRoot, source), join(packageRoot, 'build', to)];
  return {
    path,
    build() {
      if (existsSync(path) && statSync(path).mtimeMs > statSync(from).mtimeMs) return;
      mkdirSync(dirname(path), { recursive: true });
      execFileSync('g++', ['-std=c++20', '-O2', '-Wall', '-Wextra', '-o', path, from], {
        stdio: ['ignore', 'inherit', 'inherit'],
      });
    },
  };
}
