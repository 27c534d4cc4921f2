/**
 * What is compiled for the package, so that who installs it needs no compiler: the addon and the programs beside it, in
 * prebuilds/linux-ARCH, where node-gyp-build looks. The addon uses Node-API alone, so one is for all releases of Node.js.
 *
 * What is for this machine was compiled by the step before (`addon.mjs`). For arm64 it is compiled if Debian's cross-compiler
 * is installed (g++-aarch64-linux-gnu); nobody has tested that one.
 */
import { chmodSync, copyFileSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { addon, nodeGyp } from './addon.mjs';
import { command, hasCommand, root } from './steps.mjs';

/** The programs beside the addon. */
const programs = ['weft-holder', 'weft-cni'];
const CROSS = 'aarch64-linux-gnu';

const canCross = () => process.arch === 'x64' && hasCommand(`${CROSS}-g++`);

export const prebuilds = {
  title: 'prebuilds',
  stamp: 'prebuilds/.weft-setup',
  hash: () => `${addon.hash()} ${canCross()}`,
  run: () => {
    rmSync(join(root, 'prebuilds'), { recursive: true, force: true });
    collect('build/Release', process.arch, 'strip');
    if (!canCross()) return;
    collect(crossCompile('arm64'), 'arm64', `${CROSS}-strip`);
  },
};

/** @returns where the results are */
function crossCompile(arch) {
  const folder = join(root, 'build', arch);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const name of ['binding.gyp', 'native']) symlinkSync(join(root, name), join(folder, name));
  const tool = (name) => `${CROSS}-${name}`;
  const tools = { CC: tool('gcc'), CXX: tool('g++'), LINK: tool('g++'), AR: tool('ar') };
  nodeGyp(['rebuild', `--arch=${arch}`], { folder, env: tools });
  return `build/${arch}/build/Release`;
}

/** @param strip the program that takes away what only debuggers need */
function collect(from, arch, strip) {
  const folder = `prebuilds/linux-${arch}`;
  mkdirSync(join(root, folder), { recursive: true });
  const names = new Map([['weft.node', `weft.${libc()}.node`], ...programs.map((name) => [name, name])]);
  for (const [name, as] of names) {
    const to = join(root, folder, as);
    copyFileSync(join(root, from, name), to);
    chmodSync(to, 0o755);
    command(strip, ['--strip-unneeded', to]);
  }
}

/** As node-gyp-build names them. */
function libc() {
  return process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
}
