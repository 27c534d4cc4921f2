/**
 * `npm run deb`: a package for Debian, weft_VERSION_ARCH.deb in this folder, or in the one that is given. It has what npm
 * would install, without what is compiled for one release of Node.js alone, in /usr/lib/weft; the program in /usr/bin, its
 * manual pages and completions, and the systemd unit, which is not started.
 */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { command, Failure, hasCommand, root, runMain, say } from './steps.mjs';

const LIBRARY = 'usr/lib/weft';
const PROGRAM = `${LIBRARY}/node_modules/weft/dist/cli/weft.js`;
/** Dependencies that are compiled for one release of Node.js, and what only these need. weft goes on without them. */
const ofOneNode = ['raw-socket', 'nan'];
/** What Debian calls this architecture. */
const architectures = { x64: 'amd64', arm64: 'arm64' };

/** What dpkg runs. Systemd reads its units again; what runs is stopped before it is removed. */
const scripts = {
  postinst: '#!/bin/sh\nset -e\n[ ! -d /run/systemd/system ] || systemctl daemon-reload\n',
  prerm: '#!/bin/sh\nset -e\n[ "$1" != remove ] || [ ! -d /run/systemd/system ] || systemctl disable --now weft\n',
  postrm: `#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
[ "$1" != purge ] || rm -rf /var/lib/weft
`,
};

await runMain(async () => {
  if (!hasCommand('dpkg-deb')) throw new Failure('dpkg-deb is missing: packages for Debian are made on Debian');
  const { version, description, engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const architecture = architectures[process.arch];
  const work = mkdtempSync(join(tmpdir(), 'weft-deb-'));
  try {
    const tree = join(work, 'tree');
    fill(tree, work);
    control(tree, { version, description, architecture, node: /\d+\.\d+/.exec(engines.node)[0] });
    const file = join(process.argv[2] ?? root, `weft_${version}_${architecture}.deb`);
    command('dpkg-deb', ['--root-owner-group', '--build', tree, file]);
    say(`made ${file}`);
  } finally {
    rmSync(work, { recursive: true });
  }
});

function fill(tree, work) {
  const folder = (path) => (mkdirSync(join(tree, path), { recursive: true }), join(tree, path));
  command('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', work]);
  const [archive] = readdirSync(work).filter((name) => name.endsWith('.tgz'));
  const quiet = [
    '--omit=peer',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--prefer-offline',
    '--no-save',
    '--install-links',
  ];
  command('npm', ['install', ...quiet, '--prefix', folder(LIBRARY), join(work, archive)]);
  const ofNpm = ['package.json', 'package-lock.json', 'node_modules/.package-lock.json'];
  const left = [...ofNpm, ...ofOneNode.map((name) => `node_modules/${name}`)];
  for (const name of left) rmSync(join(tree, LIBRARY, name), { recursive: true, force: true });

  symlinkSync(`../${PROGRAM.slice('usr/'.length)}`, join(folder('usr/bin'), 'weft'));
  const unit = readFileSync(join(root, 'src/setup/weft.service'), 'utf8');
  const started = unit.replace('/usr/bin/env weft', '/usr/bin/weft');
  writeFileSync(join(folder('usr/lib/systemd/system'), 'weft.service'), started);

  const man = folder('usr/share/man/man1');
  for (const name of readdirSync(join(root, 'dist/man'))) {
    writeFileSync(join(man, `${name}.gz`), gzipSync(readFileSync(join(root, 'dist/man', name))));
  }
  const completions = {
    bash: 'bash-completion/completions/weft',
    zsh: 'zsh/vendor-completions/_weft',
    fish: 'fish/vendor_completions.d/weft.fish',
  };
  for (const [shell, path] of Object.entries(completions)) {
    const text = execFileSync(process.execPath, [join(root, 'dist/cli/weft.js'), 'completion', shell]);
    folder(join('usr/share', path, '..'));
    writeFileSync(join(tree, 'usr/share', path), text);
  }
}

function control(tree, { version, description, architecture, node }) {
  const folder = join(tree, 'DEBIAN');
  mkdirSync(folder);
  const fields = {
    Package: 'weft',
    Version: version,
    Architecture: architecture,
    Maintainer: 'The weft project <weft@localhost>',
    Depends: `nodejs (>= ${node}), iproute2, libc6, libstdc++6`,
    Recommends: 'nftables',
    Suggests: 'tcpdump',
    Section: 'net',
    Priority: 'optional',
    Description: description,
  };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\n`);
  writeFileSync(join(folder, 'control'), lines.join(''));
  for (const [name, text] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), text);
    chmodSync(join(folder, name), 0o755);
  }
}
