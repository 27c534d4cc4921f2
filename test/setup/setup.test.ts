/**
 * The set-up in a checkout of its own, where `apt-get` and `npm` are scripts that record how they
 * were called and create what the real ones would.
 */
import { spawn } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { needsRoot } from '../support/root.ts';

// It starts many processes, one after the other.
t.setTimeout(600_000);

const commands = ['g++', 'make', 'python3', 'ip', 'nsenter', 'nft'];

/** Asked by Debian's packages before they start a service. */
const POLICY = '/usr/sbin/policy-rc.d';

/** Shell text, after the line that records the call. */
const fakes: Readonly<Record<string, string>> = {
  'apt-get': `case "$*" in *etcd-server*) [ -x ${POLICY} ] && echo "services are forbidden" >>"$LOG";; esac
case "$*" in *install*) for c in ${commands.join(' ')}; do : >"$BIN/$c"; done;; esac`,
  systemctl: '',
  // The pause gives a second set-up the chance to interfere, if it can.
  npm: `/bin/rm -rf node_modules
/bin/mkdir -p node_modules/node-gyp/bin
/bin/cp node-gyp.mjs node_modules/node-gyp/bin/node-gyp.js
/bin/sleep 0.2`,
};
/** Records that it was called, and creates the directory. */
const fakeBuild = (name: string, directory: string): string => `import { appendFileSync, mkdirSync } from 'node:fs';
mkdirSync('${directory}', { recursive: true });
appendFileSync(process.env.LOG, '${name}\\n');`;

/** What the package says. */
const ENGINES = (
  JSON.parse(readFileSync(fileURLToPath(new URL('../../package.json', import.meta.url)), 'utf8')) as {
    readonly engines: { readonly node: string };
  }
).engines.node;

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

class Checkout {
  readonly path = mkdtempSync(join(tmpdir(), `weft-setup-${process.pid}-`));
  readonly #bin = join(this.path, 'bin');
  readonly #log = join(this.path, 'log');

  constructor({ node = ENGINES, installed = commands } = {}) {
    for (const path of ['src/setup', 'native']) mkdirSync(join(this.path, path), { recursive: true });
    for (const name of ['setup', 'steps', 'addon', 'prebuilds']) {
      const path = `src/setup/${name}.mjs`;
      cpSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), join(this.path, path));
    }
    this.write('package.json', JSON.stringify({ engines: { node } }));
    this.write('package-lock.json', '1');
    this.write('node-gyp.mjs', fakeBuild('node-gyp', 'build'));
    this.write('src/setup/bundle.mjs', fakeBuild('bundle', 'dist'));
    for (const path of ['binding.gyp', 'native/datapath.cc', 'tsconfig.json', 'src/weft.ts']) this.write(path, '1');
    this.write('log', '');
    mkdirSync(this.#bin);
    for (const name of installed) this.write(`bin/${name}`, '');
    for (const [name, script] of Object.entries(fakes)) {
      this.write(`bin/${name}`, `#!/bin/sh\necho "${name} $*" >>"$LOG"\n${script}\n`);
      chmodSync(join(this.#bin, name), 0o755);
    }
  }

  write(path: string, content: string): void {
    writeFileSync(join(this.path, path), content);
  }

  /** @param node the version that runs it */
  setup(args: readonly string[], uid = 0, node = process.versions.node): Promise<Ended> {
    const versions = JSON.stringify({ ...process.versions, node });
    const code = `process.getuid=()=>${uid};Object.defineProperty(process,'versions',{value:${versions}})`;
    const made = `data:text/javascript,${encodeURIComponent(code)}`;
    return this.#run(['--import', made, join(this.path, 'src/setup/setup.mjs'), ...args]);
  }

  /** What npm runs where the package is installed. */
  install(environment: readonly string[] = []): Promise<Ended> {
    return this.#run([join(this.path, 'src/setup/addon.mjs')], environment);
  }

  #run(args: readonly string[], more: readonly string[] = []): Promise<Ended> {
    const environment = [`PATH=${this.#bin}`, `BIN=${this.#bin}`, `LOG=${this.#log}`, ...more];
    const command = [process.execPath, ...args];
    const child = spawn('env', ['-i', ...environment, ...command], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += String(data)));
    return new Promise((resolve) => child.on('close', (code) => resolve({ code, output })));
  }

  /** The calls since the last time, without the options of apt-get. */
  calls(): string[] {
    const lines = readFileSync(this.#log, 'utf8').split('\n').filter(Boolean);
    this.write('log', '');
    return lines.map((line) => line.replace(/ -o \S+| -qq| --[\w-]+(=\S+)?/g, ''));
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

t.test('a package with a service starts none, now or with the machine', { skip: needsRoot }, async (t) => {
  const others = ['iperf3', 'tcpdump', 'ping', 'ethtool', 'ps', 'socat', 'traceroute', 'openssl'];
  using checkout = new Checkout({ installed: [...commands, ...others] });
  const before = existsSync(POLICY);
  t.match(await checkout.setup(['--for', 'demo']), { code: 0 });
  t.same(checkout.calls().slice(0, 4), [
    'apt-get update',
    'apt-get install etcd-server etcd-client',
    'services are forbidden',
    'systemctl disable etcd',
  ]);
  t.equal(existsSync(POLICY), before, 'the policy of this machine is as it was');
});

t.test('it makes what is out of date, in order, and nothing else', async (t) => {
  using checkout = new Checkout({ installed: ['ip'] });
  const setup = () => checkout.setup(['--for', 'build']);
  const all = ['npm ci', 'node-gyp', 'bundle'];
  t.match(await setup(), { code: 0, output: /npm ci: done/ });
  t.same(checkout.calls(), ['apt-get update', 'apt-get install g++ make python3 util-linux', ...all]);

  t.same(await setup(), { code: 0, output: '' });
  t.same(checkout.calls(), []);

  checkout.write('native/datapath.cc', '2');
  t.match(await setup(), { code: 0 });
  t.same(checkout.calls(), ['node-gyp']);

  checkout.write('src/weft.ts', '2');
  t.match(await setup(), { code: 0 });
  t.same(checkout.calls(), ['bundle']);

  checkout.write('package-lock.json', '2');
  t.match(await setup(), { code: 0 });
  t.same(checkout.calls(), all);
});

t.test('of several at once one works and the others wait for it', async (t) => {
  using checkout = new Checkout();
  const all = await Promise.all([1, 2, 3].map(() => checkout.setup(['--for', 'build'])));
  t.same(
    all.map(({ code }) => code),
    [0, 0, 0],
  );
  t.same(checkout.calls(), ['npm ci', 'node-gyp', 'bundle']);
});

t.test('a step that failed is taken up again', async (t) => {
  using checkout = new Checkout();
  checkout.write('bin/npm', '#!/bin/sh\necho "npm $*" >>"$LOG"\nexit 7\n');
  t.match(await checkout.setup(['--for', 'lint']), { code: 1, output: /setup: npm ci .*: exit 7\n$/ });
  t.match(await checkout.setup(['--for', 'lint']), { code: 1 });
  t.same(checkout.calls(), ['npm ci', 'npm ci']);
});

t.test('without root it says what to install', async (t) => {
  using checkout = new Checkout({ installed: ['g++', 'make', 'ip', 'nsenter'] });
  t.same(await checkout.setup(['--for', 'lint'], 1000), {
    code: 1,
    output:
      'setup: missing Debian packages; as root: apt-get update && apt-get install --yes --no-install-recommends python3\n',
  });
  t.same(checkout.calls(), []);
});

t.test('it runs with the versions of Node that the package names, and no others', async (t) => {
  t.equal(ENGINES, '^20.19 || >=22.2');
  using checkout = new Checkout({ installed: [] });
  for (const node of ['18.20.0', '20.18.3', '21.7.0', '22.1.0']) {
    const refused = { code: 1, output: `setup: weft needs Node ${ENGINES}` };
    t.match(await checkout.setup(['--for', 'lint'], 0, node), refused, node);
  }
  t.same(checkout.calls(), []);
  for (const node of ['20.19.0', '22.2.0', '24.0.1'])
    t.match(await checkout.setup(['--for', 'lint'], 0, node), { code: 0 }, node);
});

t.test('a Node that is too old, and wrong usage, are refused', async (t) => {
  using checkout = new Checkout({ node: '>=99.1' });
  t.match(await checkout.setup([]), { code: 1, output: `setup: weft needs Node >=99.1, this is ${process.version}` });
  using other = new Checkout();
  for (const args of [['--for', 'tea'], ['--for'], ['tea'], ['--for', 'lint', 'tea'], ['--for', 'toString']]) {
    t.match(await other.setup(args), { code: 1, output: /^setup: usage: / }, args.join(' '));
  }
  t.same([...checkout.calls(), ...other.calls()], []);
});

t.test('where the package is installed, what is missing to compile is named, and nothing else is done', async (t) => {
  using checkout = new Checkout({ installed: ['ip', 'python3'] });
  const wanted =
    /^setup: weft’s addon is compiled here, and that needs g\+\+, make; .*g\+\+ make; then do this again\n$/;
  t.match(await checkout.install(), { code: 1, output: wanted });
  t.match(await checkout.install(['CXX=clang++']), { code: 1, output: /needs make; / });
  t.same(checkout.calls(), []);
});

t.test('where the package is installed, it is compiled by the node-gyp that npm brings', async (t) => {
  using checkout = new Checkout();
  const npm = join(checkout.path, 'node-gyp.mjs');
  t.match(await checkout.install([`npm_config_node_gyp=${npm}`]), { code: 0, output: /building the addon: done/ });
  t.same(checkout.calls(), ['node-gyp']);
  checkout.write('node-gyp.mjs', "console.error('no such thing'); process.exitCode = 3;");
  const failed = await checkout.install([`npm_config_node_gyp=${npm}`]);
  t.match(failed, { code: 1, output: /no such thing\nsetup: weft’s addon could not be compiled, .*exit 3\)/ });
});
