/**
 * The set-up: from a fresh clone to something that runs. It comes before `npm ci`, so it uses
 * only Node's own modules.
 *
 *   1. Node itself
 *   2. Debian packages          by apt-get, as root
 *   3. node_modules             npm ci, whose install script builds the addon
 *   4. the addon                addon.mjs, by node-gyp
 *   5. TypeScript               bundle.mjs
 *   6. for the package: what is compiled for those who install it (prebuilds.mjs)
 *
 * Each step knows whether its result is out of date (steps.mjs). If none is, nothing is run and
 * nothing is printed. Only one set-up of a checkout runs at a time; a second one waits, then
 * looks again. All output goes to stderr.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { addon, compilers, headersOfNode } from './addon.mjs';
import { prebuilds } from './prebuilds.mjs';
import { command, Failure, filesUnder, hasCommand, hashOf, isStale, root, runMain, runStep, say } from './steps.mjs';

/** Debian package → what it provides: a command, or a file given by its absolute path. */
const packages = {
  ...Object.fromEntries(compilers.map((name) => [name, name])),
  binutils: 'strip',
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
  'etcd-server': 'etcd',
  'etcd-client': 'etcdctl',
  openssl: 'openssl',
  'docker.io': 'dockerd',
  podman: 'podman',
  'containernetworking-plugins': '/usr/lib/cni/portmap',
  'golang-go': 'go',
  'golang-github-appc-cni-dev': '/usr/share/gocode/src/github.com/containernetworking/cni/libcni',
  iptables: 'iptables',
  'bind9-dnsutils': 'dig',
  'busybox-static': 'busybox',
  'musl-tools': 'musl-gcc',
  debootstrap: 'debootstrap',
  clang: 'clang++',
  'libclang-rt-14-dev': '/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux',
};
const building = [...compilers, 'iproute2', 'util-linux', 'nftables'];
const traffic = ['iperf3', 'tcpdump', 'iputils-ping', 'ethtool', 'procps', 'socat', 'traceroute'];
const etcd = ['etcd-server', 'etcd-client', 'openssl'];
/** Package → the services that it, or what it needs, would start and enable. weft starts its own where it needs one. */
const services = {
  'etcd-server': ['etcd'],
  'docker.io': ['docker', 'docker.socket', 'containerd'],
  podman: ['podman', 'podman.socket', 'podman-restart', 'podman-auto-update', 'podman-auto-update.timer'],
};
/** Asked by Debian's packages before they start a service; 101 forbids it. */
const policy = '/usr/sbin/policy-rc.d';
const paths = ['mtr-tiny', 'iputils-tracepath'];
const resolvers = ['bind9-dnsutils', 'busybox-static', 'musl-tools'];

const steps = {
  node_modules: {
    title: 'npm ci',
    stamp: 'node_modules/.weft-setup',
    hash: () => hashOf(['package-lock.json'], [process.versions.modules]),
    run: () =>
      command(
        'npm',
        ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--no-progress'],
        headersOfNode(),
      ),
  },
  addon,
  prebuilds,
  typescript: {
    title: 'compiling TypeScript',
    stamp: 'dist/.weft-setup',
    hash: () =>
      hashOf(
        ['tsconfig.json', 'package-lock.json', 'src/setup/bundle.mjs', ...filesUnder('src', /\.ts$/)],
        [process.versions.v8],
      ),
    run: () => command(process.execPath, ['src/setup/bundle.mjs']),
  },
};

const purposes = {
  build: { packages: building, steps: ['node_modules', 'addon', 'typescript'] },
  package: { packages: [...building, 'binutils'], steps: ['node_modules', 'addon', 'typescript', 'prebuilds'] },
  // A Debian of its own, into which the package is installed.
  'test-package': {
    packages: [...building, 'binutils', 'debootstrap'],
    steps: ['node_modules', 'addon', 'typescript', 'prebuilds'],
  },
  test: {
    packages: [...building, ...traffic, ...paths, ...resolvers, ...etcd, 'docker.io', 'podman'],
    steps: ['node_modules', 'addon', 'typescript'],
  },
  // libcni, and plugins that are chained behind weft's.
  cni: {
    packages: [
      ...building,
      ...traffic,
      'golang-go',
      'golang-github-appc-cni-dev',
      'containernetworking-plugins',
      'iptables',
    ],
    steps: ['node_modules', 'addon', 'typescript'],
  },
  demo: { packages: [...building, ...traffic, ...etcd], steps: ['node_modules', 'addon', 'typescript'] },
  bench: { packages: [...building, ...traffic], steps: ['node_modules', 'addon', 'typescript'] },
  // Only on request: the package starts a service, which the benchmark does not need.
  'bench-ovs': { packages: ['openvswitch-switch'], steps: [] },
  'bench-cni': {
    packages: [...building, ...traffic, 'containernetworking-plugins'],
    steps: ['node_modules', 'addon', 'typescript'],
  },
  lint: { packages: building, steps: ['node_modules'] },
  sanitize: { packages: building, steps: [] },
  fuzz: { packages: [...building, 'clang', 'libclang-rt-14-dev'], steps: [] },
};

await runMain(() => setUp(process.argv.slice(2)));

async function setUp(args) {
  requireNode();
  const purpose = purposeOf(args);
  if (missingPackages(purpose).length === 0 && !purpose.steps.some((name) => isStale(steps[name]))) return;
  const lock = await exclusive();
  try {
    installPackages(missingPackages(purpose));
    for (const name of purpose.steps) if (isStale(steps[name])) runStep(steps[name]);
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
  const isWanted = wanted.split('||').some((range) => {
    const [ofMajor, ofMinor] = range.match(/\d+/g).map(Number);
    return (major === ofMajor && minor >= ofMinor) || (major > ofMajor && !range.includes('^'));
  });
  if (!isWanted) {
    throw new Failure(`weft needs Node ${wanted}, this is ${process.version} (${process.execPath})`);
  }
  if (process.platform !== 'linux') throw new Failure(`weft runs on Linux, this is ${process.platform}`);
}

// 2. Debian packages

function missingPackages(purpose) {
  return purpose.packages.filter((name) => {
    const provides = packages[name];
    return provides.startsWith('/') ? !existsSync(provides) : !hasCommand(provides);
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
  const started = missing.flatMap((name) => services[name] ?? []);
  if (started.length === 0) command('apt-get', [...options, ...install], env);
  else withoutServices(started, () => command('apt-get', [...options, ...install], env));
}

/** Installs packages whose services must neither start now nor with the machine. */
function withoutServices(names, install) {
  const isForbidden = existsSync(policy);
  if (!isForbidden) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    install();
  } finally {
    if (!isForbidden) rmSync(policy);
  }
  // A policy of the machine's own may have allowed it.
  const now = existsSync('/run/systemd/system') ? ['--now'] : [];
  if (hasCommand('systemctl')) command('systemctl', ['--quiet', 'disable', ...now, ...names]);
}

// One set-up at a time

/**
 * Waits until no other set-up of this checkout runs. The lock is a name in the abstract socket
 * namespace, so it ends with its holder, however that ends.
 * @returns the lock; close it to release it
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
