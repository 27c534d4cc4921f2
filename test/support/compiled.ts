/** C++ programs that tests and benchmarks run: compiled if the source, or a header that it includes, is newer than the program. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../src/package.ts';

export interface Compiled {
  readonly path: string;
  /** @throws with the compiler's output */
  build(): void;
}

/** @param source a single file, which includes headers at most, relative to the root of the package; `to` is relative to `build/` */
export function compiled(source: string, to: string): Compiled {
  const [from, path] = [join(packageRoot, source), join(packageRoot, 'build', to)];
  return {
    path,
    build() {
      const changedAt = Math.max(...withHeaders(from).map((file) => statSync(file).mtimeMs));
      if (existsSync(path) && statSync(path).mtimeMs > changedAt) return;
      mkdirSync(dirname(path), { recursive: true });
      execFileSync('g++', ['-std=c++20', '-O2', '-Wall', '-Wextra', '-o', path, from], {
        stdio: ['ignore', 'inherit', 'inherit'],
      });
    },
  };
}

/** A source, and the headers of weft that it includes, and that these include. */
function withHeaders(source: string): readonly string[] {
  const files = new Set([source]);
  for (const file of files) {
    for (const [, header = ''] of readFileSync(file, 'utf8').matchAll(/^#include "([^"]+)"/gm)) {
      files.add(join(dirname(file), header));
    }
  }
  return [...files];
}
