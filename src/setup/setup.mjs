/**
 * The set-up: from a fresh clone to something that runs. It comes before
 * `npm ci`, so it uses Node's own modules only.
 *
 *   1. Node itself
 *   2. Debian packages          by apt-get, as root
 *   3. node_modules             npm ci
 *   4. the addon                node-gyp
 *   5. TypeScript               bundle.mjs
 *
 * Each step tells whether its result is out of date, from the hash of what it
 * is made from, kept as a stamp within the result: whoever removes the result
 * removes the stamp. Where nothing is out of date nothing is run and nothing is
 * printed. One set-up of a checkout runs at a time; a second one waits, then
 * looks again. All output goes to stderr.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Debian package → what it provides: a command, or a file by its absolute path. */
const packages = {
  'g++': 'g++',
  make: 'make',
  python3: 'python3',
  iproute2: 'ip',
  'util-linux': 'nsenter',
  nftables: 'nft',
  iperf3: 'iperf3',
  tcpdump: 'tcpdump',
  'iputils-ping': 'ping',
  ethtool: 'ethtool',
  procps: 'ps',
  socat: 'socat',
  traceroute: 'traceroute',
  'mtr-tiny': 'mtr',
  'iputils-tracepath': 'tracepath',
  'openvswitch-switch': 'ovs-vswitchd',
  clang: 'clang++',
  'libclang-rt-14-dev': '/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux',
};
const building = ['g++', 'make', 'python3', 'iproute2', 'util-linux', 'nftables'];
const traffic = ['iperf3', 'tcpdump', 'iputils-ping', 'ethtool', 'procps', 'socat', 'traceroute'];
const paths = ['mtr-tiny', 'iputils-tracepath'];

const steps = {
  node_modules: {
    title: 'npm ci',
    stamp: 'node_modules/.weft-setup',
    hash: () => hashOf(['package-lock.json'], [process.versions.modules]),
    run: () =>
      command('npm', ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--no-progress']),
  },
  addon: {
    title: 'building the addon',
    stamp: 'build/.weft-setup',
    hash: () =>
      hashOf(
        [
          'binding.gyp',
          'package-lock.json',
          ...filesUnder('native', /^native\/(?!bench\/|test\/|fuzz\/).*\.(?:cc|h)$/),
        ],
        [process.arch],
      ),
    run: () =>
      command(process.execPath, [
        'node_modules/node-gyp/bin/node-gyp.js',
        'configure',
        'build',
        '--jobs=max',
        '--loglevel=warn',
      ]),
  },
  typescript: {
    title: 'compiling TypeScript',
    stamp: 'dist/.weft-setup',
    hash: () => hashOf(['tsconfig.json', 'package-lock.json', 'src/setup/bundle.mjs', ...filesUnder('src', /\.ts$/)]),
    run: () => command(process.execPath, ['src/setup/bundle.mjs']),
  },
};

const purposes = {
  build: { packages: building, steps: ['node_modules', 'addon', 'typescript'] },
  test: { packages: [...building, ...traffic, ...paths], steps: ['node_modules', 'addon', 'typescript'] },
  demo: { packages: [...building, ...traffic], steps: ['node_modules', 'addon', 'typescript'] },
  bench: { packages: [...building, ...traffic], steps: ['node_modules', 'addon', 'typescript'] },
  // On request: the package has a service of its own, which is none of the benchmark's business.
  'bench-ovs': { packages: ['openvswitch-switch'], steps: [] },
  lint: { packages: building, steps: ['node_modules'] },
  sanitize: { packages: building, steps: [] },
  fuzz: { packages: [...building, 'clang', 'libclang-rt-14-dev'], steps: [] },
};

/** What the operator has to mend: one line, no stack. */
class Failure extends Error {}

try {
  await setUp(process.argv.slice(2));
} catch (error) {
  say(error instanceof Failure ? error.message : error.stack);
  process.exitCode = 1;
}

async function setUp(args) {
  requireNode();
  const purpose = purposeOf(args);
  if (missingPackages(purpose).length === 0 && !purpose.steps.some(isStale)) return;
  const lock = await exclusive();
  try {
    installPackages(missingPackages(purpose));
    for (const step of purpose.steps) if (isStale(step)) run(step);
  } finally {
    lock.close();
  }
}

function purposeOf(args) {
  const [option, name] = args.length === 0 ? ['--for', 'build'] : args;
  if (option !== '--for' || args.length > 2 || !Object.hasOwn(purposes, name ?? '')) {
    throw new Failure(`usage: setup.mjs [--for ${Object.keys(purposes).join('|')}]`);
  }
  return purposes[name];
}

// 1. Node itself

function requireNode() {
  const wanted = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).engines.node;
  const [major, minor] = process.versions.node.split('.').map(Number);
  const [wantedMajor, wantedMinor] = wanted.match(/\d+/g).map(Number);
  if (major < wantedMajor || (major === wantedMajor && minor < wantedMinor)) {
    throw new Failure(`weft needs Node ${wanted}, this is ${process.version} (${process.execPath})`);
  }
  if (process.platform !== 'linux') throw new Failure(`weft runs on Linux, this is ${process.platform}`);
}

// 2. Debian packages

function missingPackages(purpose) {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return purpose.packages.filter((name) => {
    const provides = packages[name];
    return provides.startsWith('/')
      ? !existsSync(provides)
      : !directories.some((path) => existsSync(join(path, provides)));
  });
}

function installPackages(missing) {
  if (missing.length === 0) return;
  const list = missing.join(' ');
  if (!existsSync('/etc/debian_version')) {
    const provided = missing.map((name) => packages[name]).join(', ');
    throw new Failure(`missing: ${provided}. This is not Debian: install what its packages ${list} correspond to here`);
  }
  const install = ['install', '--yes', '--no-install-recommends', ...missing];
  if (process.getuid() !== 0)
    throw new Failure(`missing Debian packages; as root: apt-get update && apt-get ${install.join(' ')}`);
  say(`Debian packages: ${list}`);
  const options = ['-qq', '-o', 'DPkg::Lock::Timeout=300', '-o', 'Dpkg::Use-Pty=0'];
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  command('apt-get', [...options, 'update'], env);
  command('apt-get', [...options, ...install], env);
}

// 3. – 5. What is built

function isStale(name) {
  const { stamp, hash } = steps[name];
  const path = join(root, stamp);
  return !existsSync(path) || readFileSync(path, 'utf8') !== hash();
}

function run(name) {
  const { title, stamp, hash, run } = steps[name];
  say(`${title} …`);
  const startedAt = process.hrtime.bigint();
  // What changes while it is being built is built again the next time.
  const before = hash();
  rmSync(join(root, stamp), { force: true });
  run();
  writeFileSync(join(root, stamp), before);
  say(`${title}: done in ${(Number(process.hrtime.bigint() - startedAt) / 1e9).toFixed(1)} s`);
}

/** Over paths and contents of the files, in the given order, and the words. */
function hashOf(paths, words = []) {
  const hash = createHash('sha256');
  for (const word of words) hash.update(`${word}\0`);
  for (const path of paths) {
    const content = readFileSync(join(root, path));
    hash.update(`${path}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

/** Sorted paths from the root of the checkout, of the files whose path matches. */
function filesUnder(directory, pattern) {
  const paths = readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' });
  return paths
    .map((path) => `${directory}/${path}`)
    .filter((path) => pattern.test(path))
    .sort();
}

// Running commands, one set-up at a time

function command(file, args, env = {}) {
  const { status, signal, error } = spawnSync(file, args, {
    cwd: root,
    stdio: ['ignore', process.stderr.fd, process.stderr.fd],
    env: { ...process.env, ...headers(), ...env },
  });
  if (error) throw new Failure(`${file}: ${error.message}`);
  if (status !== 0) throw new Failure(`${[file, ...args].join(' ')}: ${signal ?? `exit ${status}`}`);
}

/** For node-gyp: the headers that came with this Node, so that none are fetched. */
function headers() {
  const prefix = dirname(dirname(realpathSync(process.execPath)));
  const given = process.env.npm_config_nodedir;
  return given === undefined && existsSync(join(prefix, 'include/node/node_api.h'))
    ? { npm_config_nodedir: prefix }
    : {};
}

/**
 * Waits until no other set-up of this checkout runs. The lock is a name in the
 * abstract socket namespace, so it ends with its holder, however that ends.
 * @returns the lock: to close it is to give it up
 */
async function exclusive() {
  const name = `\0weft-setup-${createHash('sha256').update(realpathSync(root)).digest('hex').slice(0, 32)}`;
  for (let waited = false; ; waited = true) {
    const server = createServer((waiter) => waiter.destroy());
    const held = await new Promise((resolve, reject) => {
      server.once('error', (error) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)));
      server.listen(name, () => resolve(true));
    });
    if (held) return server;
    if (!waited) say('another set-up of this checkout is running: waiting for it');
    await new Promise((resolve) => {
      connect(name)
        .on('error', () => {})
        .once('close', resolve)
        .resume();
    });
  }
}

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}
