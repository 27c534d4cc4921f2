/** The files of examples/bookinfo, with the containers of the demonstration. */
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { packageRoot } from '../../package.ts';
import * as stage from './stage.ts';

const directory = join(packageRoot, 'examples/bookinfo');
const NETNS = /\bnetns: ([\w-]+)/g;

/** The containers that a manifest attaches. */
export function containersOf(manifest: string): string[] {
  return [...read(manifest).matchAll(NETNS)].map(([, name = '']) => name);
}

/** Where the manifest is, with the namespaces that the containers have here. */
export function manifestHere(manifest: string): string {
  const path = join(stage.directory, basename(manifest));
  writeFileSync(
    path,
    read(manifest).replaceAll(NETNS, (_, name: string) => `netns: ${stage.namespaceOf(name)}`),
  );
  return path;
}

/**
 * The command that runs a program in a container. `ip netns exec` gives it weft's DNS server.
 * @param program without `.mjs` @param variables of its environment
 */
export function programIn(
  container: string,
  program: string,
  variables: Readonly<Record<string, string>> = {},
  words: readonly string[] = [],
): string[] {
  const set = Object.entries(variables).map(([key, value]) => `${key}=${value}`);
  const file = join(directory, 'programs', `${program}.mjs`);
  return ['ip', 'netns', 'exec', stage.namespaceOf(container), 'env', ...set, process.execPath, file, ...words];
}

function read(manifest: string): string {
  return readFileSync(join(directory, manifest), 'utf8');
}
