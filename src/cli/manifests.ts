/** Reads the manifests that -f names, each time a file, a directory, or `-` for stdin. Validates all before any is used. */
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { WeftError } from '../error.ts';
import { LARGEST_TEXT_BYTES } from '../model/document.ts';
import { parseManifests, placeOf, STDIN } from '../model/manifest.ts';
import { compareKinds } from '../model/kinds/registry.ts';
import { idOf } from '../model/name.ts';
import type { Resource } from '../model/resource.ts';

/**
 * Returns them in order of dependency: whatever others refer to comes first.
 * @throws WeftError `invalid` with source, line and column; `not_found` if there are none in one of them.
 */
export async function readManifests(wheres: readonly string[]): Promise<Resource[]> {
  const resources: Resource[] = [];
  // What is named twice is read once: there is nothing more in stdin.
  for (const where of new Set(wheres)) {
    const before = resources.length;
    for (const source of await sources(where)) {
      const text = source === '-' ? await textOf(process.stdin, STDIN) : await read(source);
      for (const resource of parseManifests(text, source === '-' ? STDIN : source)) resources.push(resource);
    }
    if (resources.length === before) throw new WeftError('not_found', `-f ${where}: there are no resources in it`);
  }
  return resources.sort(compareKinds);
}

/**
 * Sends resources that were read here.
 * @throws WeftError with source, line and column where the daemon refuses one of them
 */
export async function sent<T>(resources: Resource[], send: (resources: Resource[]) => Promise<T>): Promise<T> {
  try {
    return await send(resources);
  } catch (error) {
    const about = error instanceof WeftError ? error.resource : undefined;
    if (!about) throw error;
    const { code, message } = error as WeftError;
    // Of two with one name the latter is refused.
    const resource = resources.findLast(({ kind, metadata }) => kind === about.kind && idOf(metadata) === idOf(about));
    throw new WeftError(code, `${resource ? placeOf(resource) : ''}${message}`, { cause: error });
  }
}

async function sources(where: string): Promise<string[]> {
  if (where === '-') return [where];
  let isDirectory: boolean;
  try {
    isDirectory = (await stat(where)).isDirectory();
  } catch (error) {
    throw new WeftError('not_found', `-f ${where}: ${(error as Error).message}`, { cause: error });
  }
  if (!isDirectory) return [where];
  const names = (await readdir(where)).filter((name) => /\.(yaml|yml|json)$/.test(name)).sort();
  if (names.length === 0) throw new WeftError('not_found', `-f ${where}: there is no *.yaml, *.yml or *.json in it`);
  return names.map((name) => join(where, name));
}

async function read(path: string): Promise<string> {
  try {
    return await textOf(createReadStream(path), path);
  } catch (error) {
    if (error instanceof WeftError) throw error;
    throw new WeftError('not_found', `-f ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** Reads no more than a text may have: a device or a pipe may never end. */
async function textOf(stream: AsyncIterable<Uint8Array>, source: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let lengthBytes = 0;
  for await (const chunk of stream) {
    lengthBytes += chunk.length;
    if (lengthBytes > LARGEST_TEXT_BYTES) {
      throw new WeftError('invalid', `${source}: it is too large: at most ${LARGEST_TEXT_BYTES} bytes are accepted`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
