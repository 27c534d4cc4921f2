/**
 * Loads the daemon's code as fast as possible. While a killed daemon starts again, no frame
 * passes, and finding, reading and compiling its modules takes longer than running them. So
 * they are one file, `dist/cli/daemon.cjs`, with V8's compiled code beside it. Another release
 * of Node.js than the one of the build rejects that, and compiles the file.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { constants, Script } from 'node:vm';
import * as error from '../error.ts';
import { packageRoot } from '../package.ts';
import type * as daemonCode from './daemon.ts';

const FILE = join(packageRoot, 'dist/cli/daemon.cjs');
const CACHE = `${FILE}.cache`;
/** The module that the file loads in place of error.ts (bundle.mjs), so that there is one class of errors. */
const ERROR_MODULE = 'weft:error';

type Daemon = typeof daemonCode;
type CommonJs = (
  exports: object,
  require: (id: string) => unknown,
  module: { exports: object },
  filename: string,
  directory: string,
) => void;

export function loadDaemon(): Daemon {
  return load(readCache()).daemon;
}

/** For the build: stores what V8 compiles when the file is loaded. */
export function keepCompiled(): void {
  writeFileSync(CACHE, load(undefined).script.createCachedData());
}

function load(cachedData: Buffer | undefined): { daemon: Daemon; script: Script } {
  const source = `(function (exports, require, module, __filename, __dirname) { ${readFileSync(FILE, 'utf8')}\n});`;
  const script = new Script(source, {
    filename: FILE,
    ...(cachedData && { cachedData }),
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
  const requireFrom = createRequire(FILE);
  const module = { exports: {} };
  const run = script.runInThisContext() as CommonJs;
  run(module.exports, (id) => (id === ERROR_MODULE ? error : requireFrom(id)), module, FILE, dirname(FILE));
  return { daemon: module.exports as Daemon, script };
}

function readCache(): Buffer | undefined {
  try {
    return readFileSync(CACHE);
  } catch {
    return undefined;
  }
}
