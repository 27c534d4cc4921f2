/** The package itself: its root and its version. Works both from `src` and from the bundles in `dist`. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const { packageRoot, version } = packageAbove(dirname(fileURLToPath(import.meta.url)));

/**
 * The version and, behind a `+`, when the executable was built, so that a daemon that still runs an older build is told
 * from its command line although both have one version.
 */
export const build = `${version}+${builtAt()}`;

function builtAt(): string {
  const { mtimeMs } = statSync(join(packageRoot, 'dist/cli/weft.js'), { throwIfNoEntry: false }) ?? { mtimeMs: 0 };
  return Math.floor(mtimeMs).toString(36);
}

/** The path of a program that belongs to the addon: compiled here, or as it came with the package (`setup/prebuilds.mjs`). */
export function nativeProgram(name: string): string {
  const here = join(packageRoot, 'build/Release', name);
  return existsSync(here) ? here : join(packageRoot, `prebuilds/linux-${process.arch}`, name);
}

/** That of `dist/cli` only says that its files are CommonJS. */
function packageAbove(directory: string): { readonly packageRoot: string; readonly version: string } {
  const path = join(directory, 'package.json');
  const { name, version } = existsSync(path)
    ? (JSON.parse(readFileSync(path, 'utf8')) as { readonly name?: string; readonly version: string })
    : { name: undefined, version: '' };
  return name === 'weft' ? { packageRoot: directory, version } : packageAbove(dirname(directory));
}
