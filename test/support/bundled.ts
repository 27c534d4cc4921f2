/** Programs in TypeScript that tests run as processes of their own. */
import { rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';

/** Inside the package, so that a program finds the addon. */
const directory = fileURLToPath(new URL(`../../node_modules/.cache/weft-t${process.pid}/`, import.meta.url));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));

/**
 * Bundles a program into one JavaScript file, which starts in a fifth of the time. It is removed when the test ends.
 * @returns the path of the file
 */
export function bundled(source: URL): string {
  const entry = fileURLToPath(source);
  const outfile = join(directory, `${basename(entry, '.ts')}.mjs`);
  buildSync({
    entryPoints: [entry],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
  });
  return outfile;
}
