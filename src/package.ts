/** The package itself: its root and its version. Works both from `src` and from the bundles in `dist`. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const packageRoot = rootAbove(dirname(fileURLToPath(import.meta.url)));

export const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };

/**
 * The version and, behind a `+`, when the executable was built, so that a daemon that still runs an older build is told
 * from its command line although both have one version.
 */
export const build = `${version}+${builtAt()}`;

function builtAt(): string {
  const { mtimeMs } = statSync(join(packageRoot, 'dist/cli/weft.js'), { throwIfNoEntry: false }) ?? { mtimeMs: 0 };
  return Math.floor(mtimeMs).toString(36);
}

function rootAbove(directory: string): string {
  return existsSync(join(directory, 'package.json')) ? directory : rootAbove(dirname(directory));
}
