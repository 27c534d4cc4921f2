/**
 * The build of the TypeScript: types by tsc, code by esbuild into a few files.
 * Hundreds of small modules take Node.js longer to find than weft takes to start,
 * and a switch that restarts should be forwarding again before anybody notices.
 */
import { chmodSync, rmSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { build } from 'esbuild';

rmSync('dist', { recursive: true, force: true });
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.', '--emitDeclarationOnly'], {
  stdio: 'inherit',
});
await build({
  entryPoints: ['src/cli/weft.ts', 'src/index.ts'],
  outbase: 'src',
  outdir: 'dist',
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  minifySyntax: true,
  minifyWhitespace: true,
  sourcemap: true,
  logLevel: 'warning',
  // Packages that are CommonJS ask for Node's own modules with require.
  banner: {
    js: "import { createRequire as bundleRequire } from 'node:module'; const require = bundleRequire(import.meta.url);",
  },
});
chmodSync('dist/cli/weft.js', 0o755);
