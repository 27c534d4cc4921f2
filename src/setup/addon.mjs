/**
 * The addon: node-gyp compiles native/ to build/Release/weft.node. In a checkout this is a step
 * of the set-up. In an installed package it is npm's install script, which runs without the
 * development dependencies and changes nothing on the machine: it names what is missing. There it also compiles the
 * program for this Node.js.
 */
import { existsSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { command, Failure, filesUnder, hasCommand, hashOf, root, runMain, runStep } from './steps.mjs';

/** Commands that node-gyp calls; in Debian the packages have the same names. */
export const compilers = ['g++', 'make', 'python3'];

export const addon = {
  title: 'building the addon',
  stamp: 'build/.weft-setup',
  hash: () =>
    hashOf(
      [
        'binding.gyp',
        ...['package-lock.json'].filter((path) => existsSync(join(root, path))),
        ...filesUnder('native', /^native\/(?!bench\/|test\/|fuzz\/).*\.(?:cc|h)$/),
      ],
      [process.arch],
    ),
  run: () => nodeGyp(['configure', 'build']),
};

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await runMain(install);

async function install() {
  const needed = compilers.filter((name) => name !== 'g++' || process.env.CXX === undefined);
  const missing = needed.filter((name) => !hasCommand(name));
  if (missing.length > 0) {
    const list = missing.join(' ');
    const mend = existsSync('/etc/debian_version')
      ? `as root: apt-get update && apt-get install --yes --no-install-recommends ${list}; then`
      : 'install them, then';
    throw new Failure(`weft’s addon is compiled here, and that needs ${missing.join(', ')}; ${mend} do this again`);
  }
  runStep({ ...addon, run: () => nodeGyp(['rebuild']) });
  const loader = join(root, 'dist/cli/load-program.js');
  // In a checkout the program is built after this, and one that is there may be older than the addon.
  const isCheckout = existsSync(join(root, 'tsconfig.json'));
  if (existsSync(loader) && !isCheckout) await (await import(loader)).keepCompiled();
}

function nodeGyp(verbs) {
  const [file, ...args] = findNodeGyp();
  const headers = headersOfNode();
  try {
    command(file, [...args, ...verbs, '--jobs=max', '--loglevel=warn'], headers);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const fetched =
      headers.npm_config_nodedir === undefined
        ? `. This Node (${process.execPath}) has no headers beside it, so node-gyp fetches them; where it cannot, set npm_config_nodedir to a directory that has include/node/node_api.h`
        : '';
    throw new Failure(`weft’s addon could not be compiled, for what is said above (${error.message})${fetched}`);
  }
}

/** The version that is pinned for developers, the one that npm brings for install scripts, or any other. */
function findNodeGyp() {
  const pinned = join(root, 'node_modules/node-gyp/bin/node-gyp.js');
  const script = existsSync(pinned) ? pinned : process.env.npm_config_node_gyp;
  return script === undefined ? ['node-gyp'] : [process.execPath, script];
}

/**
 * For node-gyp: where the headers of this Node are, so that none are downloaded. Empty if Node came without headers.
 */
export function headersOfNode() {
  const prefix = dirname(dirname(realpathSync(process.execPath)));
  const candidates = [process.env.npm_config_nodedir, prefix, ofNodeFromNpm()];
  const found = candidates.find((path) => path !== undefined && existsSync(join(path, 'include/node/node_api.h')));
  return found === undefined ? {} : { npm_config_nodedir: found };
}

/** npm's package `node` contains a copy of the executable; the headers are in the package that it depends on. */
function ofNodeFromNpm() {
  try {
    const name = `node-${process.platform}-${process.arch}`;
    return dirname(createRequire(process.execPath).resolve(`${name}/package.json`));
  } catch {
    return undefined;
  }
}
