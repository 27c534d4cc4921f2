/**
 * The build of the TypeScript: types by tsc, code by esbuild into a few files. Node.js takes
 * longer to find hundreds of small modules than weft takes to start, and a switch that restarts
 * should be forwarding again before anybody notices.
 */
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { build } from 'esbuild';

rmSync('dist', { recursive: true, force: true });
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.', '--emitDeclarationOnly'], {
  stdio: 'inherit',
});
const common = {
  bundle: true,
  platform: 'node',
  target: 'node20',
  minifySyntax: true,
  minifyWhitespace: true,
  sourcemap: true,
  // @grpc/grpc-js loads the first for its own services of diagnosis, which weft does not have; the second is a program of its own.
  external: ['@grpc/proto-loader', 'esbuild'],
  logLevel: 'warning',
};
await build({
  ...common,
  entryPoints: [
    'src/index.ts',
    'src/internal/worker.ts',
    'src/checks/server.ts',
    'src/discovery/server.ts',
    'src/discovery/worker.ts',
    'src/hooks/program.ts',
  ],
  outbase: 'src',
  outdir: 'dist',
  chunkNames: 'chunks/[name]-[hash]',
  splitting: true,
  format: 'esm',
  // CommonJS packages load Node's own modules with require.
  banner: {
    js: "import { createRequire as bundleRequire } from 'node:module'; const require = bundleRequire(import.meta.url);",
  },
});

/** `charset` leaves the templates of tags as they are, since a tag may read them raw. weft's do not. */
const ascii = {
  name: 'ascii',
  setup(build) {
    build.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8');
      const escaped = source.replaceAll(
        /[^\0-\x7f]/g,
        (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
      );
      return { contents: escaped, loader: 'ts' };
    });
  },
};
// The executable, and its program in one file: src/cli/load-program.ts says why, and how it is loaded.
const script = { ...common, format: 'cjs', define: { 'import.meta.url': 'bundleUrl' } };
const ownUrl = "const bundleUrl = require('node:url').pathToFileURL(__filename).href;";
await build({
  ...script,
  entryPoints: ['src/cli/weft.ts', 'src/cli/load-program.ts'],
  outdir: 'dist/cli',
  banner: { js: ownUrl },
});
writeFileSync('dist/cli/package.json', '{ "type": "commonjs" }\n');
chmodSync('dist/cli/weft.js', 0o755);
await build({
  ...script,
  entryPoints: ['src/cli/program.ts'],
  outfile: 'dist/cli/program.cjs',
  charset: 'ascii',
  plugins: [ascii],
  // A script that is loaded like this cannot import: what is not in the file is required.
  supported: { 'dynamic-import': false },
  banner: { js: `(function (exports, require, module, __filename, __dirname) { ${ownUrl}` },
  footer: { js: '})' },
});
if (readFileSync('dist/cli/program.cjs').some((byte) => byte > 0x7f))
  throw new Error('dist/cli/program.cjs is read as ASCII (src/cli/load-program.ts), and has other characters');
const afterwards = `import('./dist/cli/load-program.js').then(async ({ keepCompiled, keepManual }) => {
  await keepManual('dist/man');
  await keepCompiled();
})`;
execFileSync(process.execPath, ['-e', afterwards], { stdio: 'inherit' });
