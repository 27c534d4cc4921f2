/**
 *   npm pack ─► weft.tgz ─► npm install -g ─► weft demo, weft up … down --purge ─► npm uninstall -g
 *                           in a Debian 12 of its own with Node.js 20, 22, 24
 *
 *     npm run test:package
 *
 * The package where nothing of this machine is: no compiler, no checkout, nothing that an earlier weft has left. What is there
 * when it has been removed is what was there before.
 */
import { copyFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { run, until } from '../support/process.ts';
import { debootstrap, FreshRoot } from './fresh-root.ts';

/** Each with the npm that it comes with. */
const RELEASES = [
  { node: '20', npm: '10' },
  { node: '22', npm: '10' },
  { node: '24', npm: '11' },
];
const checkout = fileURLToPath(new URL('../..', import.meta.url));

t.setTimeout(3_600_000);

await t.test('the package in a fresh Debian', async (t) => {
  const lab = openLab(t);
  await run(['npm', '--prefix', checkout, 'pack', checkout, '--pack-destination', lab.directory], {
    timeoutMs: 900_000,
  });
  const archive = join(lab.directory, readdirSync(lab.directory).find((name) => name.endsWith('.tgz'))!);
  const debian = await debootstrap(lab);
  for (const release of RELEASES) {
    await t.test(`Node.js ${release.node}`, async (t) => {
      const root = await FreshRoot.open(lab, debian, release);
      copyFileSync(archive, join(root.path, 'root/weft.tgz'));
      await installed(t, lab, root, release);
    });
  }
});

async function installed(t: Test, lab: Lab, root: FreshRoot, release: { node: string }): Promise<void> {
  t.comment(`Node.js ${(await root.run(['node', '--version'])).trim()}`);
  const [before, idle] = [await root.files(), await root.processes()];
  const began = performance.now();
  await root.run(['npm', 'install', '-g', '/root/weft.tgz']);
  t.comment(`npm install: ${seconds(began)} s`);
  t.match(await root.run(['weft', '--version']), /^\d+\.\d+\.\d+\n$/);
  const fresh = await root.files();
  const compiled = fresh.filter((line) => /\/weft\/(?:build|dist\/cli\/program\.cjs\.cache)[/ ]/.test(line));
  t.match(compiled, [/program\.cjs\.cache/], 'the program is compiled for this Node.js; the addon is not');

  const host = await lab.namespace(`host-${release.node}`);
  const isAsBefore = async (what: string): Promise<void> => {
    t.same(changes(fresh, await root.files()), [], `${what} leaves no file`);
    t.same(await root.processes(), idle, 'and no process');
    t.same(await host.links(), [], 'and no link');
    t.equal(await host.run(['nft', 'list', 'ruleset']), '', 'and no rule');
    t.equal(await root.run(['ip', 'netns', 'list'], host), '', 'and no namespace');
  };

  const startedAt = performance.now();
  const shown = await root.run(['weft', 'demo'], host);
  t.match(shown, /removed everything\n$/);
  t.match(shown, /^cache → api +beta +[\d.]+ ms +[\d.]+ ms/m, 'with its table of who reaches whom');
  t.comment(`weft demo: ${seconds(startedAt)} s`);
  await isAsBefore('weft demo');

  await use(t, lab, root, host);
  await isAsBefore('weft down --purge, and rm -r of its state,');

  await root.run(['npm', 'uninstall', '-g', 'weft']);
  t.same(changes(before, await root.files()), [], 'npm uninstall leaves nothing');
}

/** A daemon with everything where it is if nobody says otherwise. */
async function use(t: Test, lab: Lab, root: FreshRoot, host: Namespace): Promise<void> {
  const weft = (...words: string[]): Promise<string> => root.run(['weft', ...words], host);
  const daemon = lab.start(root.inside(['weft', 'up'], host));
  await until(
    () => {
      if (!daemon.isRunning) throw new Error(daemon.stderr);
      return weft('status');
    },
    { what: 'weft up' },
  );
  await weft('network', 'create', 'blue', '--subnet', '10.0.0.0/24', '--outside');
  await root.run(['ip', 'netns', 'add', 'web'], host);
  await weft('attach', 'web', '--network', 'blue', '--netns', 'web', '--publish', '8080:80');
  await root.run(['ip', 'netns', 'exec', 'web', 'ping', '-c', '1', '-w', '60', '10.0.0.1'], host);
  await weft('down', '--purge');
  t.equal(await daemon.wait(), 0);
  await root.run(['ip', 'netns', 'del', 'web'], host);
  // What docs/operations.md says: networks stay.
  await root.run(['rm', '-r', '/var/lib/weft', '/run/weft']);
}

function changes(before: readonly string[], now: readonly string[]): string[] {
  const [old, all] = [new Set(before), new Set(now)];
  const gone = before.filter((line) => !all.has(line)).map((line) => `- ${line}`);
  return [...gone, ...now.filter((line) => !old.has(line)).map((line) => `+ ${line}`)];
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(0);
}
