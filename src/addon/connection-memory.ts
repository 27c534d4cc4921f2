/** Where connections are kept: a file as memory, so that a crash of the daemon does not end them. */
import { WeftError } from '../error.ts';
import { CONNECTION_BYTES } from '../flow/connection.ts';
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';

/**
 * @param path undefined: they end with the process
 * @returns room for `count` connections; what is in the file from before is still there
 * @throws WeftError `system` when the file cannot be made or mapped
 */
export function connectionMemory(path: string | undefined, count: number): Uint8Array {
  const bytes = count * CONNECTION_BYTES;
  if (path === undefined) return new Uint8Array(bytes);
  const memory = loadAddon().mapFile(path, bytes);
  if (typeof memory === 'number') {
    throw new WeftError('system', `connections cannot be kept in ${path} (${errnoName(-memory)})`);
  }
  return memory;
}
