/**
 * The addon: node-gyp compiles native/ to build/Release/weft.node. In a checkout this is a step
 * of the set-up. In an installed package it is npm's install script, which runs without the
 * development dependencies and changes nothing on the machine. It compiles only if what came with the package
 * (`prebuilds.mjs`) does not run here, and names what is missing for that. There it also compiles the
 * program for this Node.js.
 */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { command, Failure, filesUnder, hasCommand, hashOf, root, runMain, runStep, say } from './steps.mjs';

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

/** What gyp wants to know of a Node.js; that of the package is about more, which an addon with Node-API alone does not use. */
const COMMON = {
  target_defaults: {
    default_configuration: 'Release',
    configurations: { Release: {} },
    cflags: ['-fPIC', '-pthread', '-fno-omit-frame-pointer'],
    ldflags: ['-pthread'],
  },
};

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await runMain(install);

async function install() {
  // In a checkout the program is built after this, and one that is there may be older than the addon.
  const isCheckout = existsSync(join(root, 'tsconfig.json'));
  if (isCheckout || !isPrebuilt()) compile();
  // One that was compiled here before would be taken first.
  else rmSync(join(root, 'build'), { recursive: true, force: true });
  const loader = join(root, 'dist/cli/load-program.js');
  if (existsSync(loader) && !isCheckout) await (await import(loader)).keepCompiled();
}

/** True if the addon that came with the package runs here. */
function isPrebuilt() {
  if (!existsSync(join(root, 'prebuilds')) || process.env.npm_config_build_from_source === 'true') return false;
  const load = 'require(require.resolve("node-gyp-build", { paths: [process.argv[1]] }))(process.argv[1])';
  const env = { ...process.env, PREBUILDS_ONLY: '1' };
  const { status, stderr } = spawnSync(process.execPath, ['-e', load, root], { env, encoding: 'utf8' });
  if (status === 0) return true;
  const why = /^Error: (.*)$/m.exec(stderr ?? '')?.[1] ?? 'it ends the process';
  say(`the addon that comes with the package does not run here (${why}): it is compiled`);
  return false;
}

function compile() {
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
}

/** @param options.folder where binding.gyp is, and the results will be in build/Release */
export function nodeGyp(verbs, { folder = root, env = {} } = {}) {
  const [file, ...args] = findNodeGyp();
  const found = headersOfNode();
  const own = found.npm_config_nodedir === undefined ? nodeApiHeaders() : undefined;
  // gyp reads the rest from this Node.js itself then.
  const headers = own ? { npm_config_nodedir: own } : found;
  const more = own ? ['--force-process-config'] : [];
  try {
    command(file, [...args, ...verbs, ...more, '--jobs=max', '--loglevel=warn'], { ...headers, ...env }, folder);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    throw new Failure(`weft’s addon could not be compiled, for what is said above (${error.message})`);
  } finally {
    if (own) rmSync(own, { recursive: true });
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

/** The headers of Node-API alone, in a folder of its own, as node-gyp wants those of a Node.js. @returns the folder */
function nodeApiHeaders() {
  const { include_dir: from } = createRequire(join(root, 'package.json'))('node-api-headers');
  const folder = mkdtempSync(join(tmpdir(), 'weft-headers-'));
  const to = join(folder, 'include/node');
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(to, name));
  writeFileSync(join(to, 'common.gypi'), JSON.stringify(COMMON));
  return folder;
}
