/**
 * Loads the program as fast as possible. While a killed daemon starts again, no frame passes, and finding, reading and
 * compiling its modules takes longer than running them. So they are one file, `dist/cli/program.cjs`, with V8's compiled
 * code beside it in a cache. The executable is a CommonJS script, because Node.js starts these sooner than modules. The
 * build and the installation write that; a start only reads it, and whatever is wrong with it, or with another release of
 * Node.js, it compiles the file.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';
import type * as programCode from './program.ts';

const DIRECTORY = dirname(fileURLToPath(import.meta.url));
const FILE = join(DIRECTORY, 'program.cjs');
const CACHE = `${FILE}.cache`;
const CHECKSUM_BYTES = 4;

type Program = typeof programCode;
type CommonJs = (
  exports: object,
  require: (id: string) => unknown,
  module: { exports: object },
  filename: string,
  directory: string,
) => void;

export interface Loaded {
  readonly program: Program;
  readonly script: Script;
  /** False if V8 had to compile it. */
  readonly isCompiled: boolean;
}

export function loadProgram(): Loaded {
  const source = readFileSync(FILE);
  const { program, script } = load(source, readCache(source));
  return { program, script, isCompiled: script.cachedDataRejected === false };
}

/** Writes the cache: what V8 compiles when everything is loaded that `weft up` needs, and a start is rehearsed. */
export async function keepCompiled(): Promise<void> {
  const source = readFileSync(FILE);
  const { program, script } = load(source);
  await program.read(['node', 'weft', '--socket', '/run/weft.sock', 'up', '--host', 'here']);
  const { rehearse } = await program.loadDaemon();
  await rehearse();
  const compiled = script.createCachedData();
  writeFileSync(CACHE, Buffer.concat([checksumOf(source, compiled), compiled]));
}

/** Writes the manual pages. */
export async function keepManual(directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true });
  const pages = await loadProgram().program.manual();
  for (const [name, text] of pages) writeFileSync(join(directory, name), text);
}

function load(source: Buffer, cachedData?: Buffer): Pick<Loaded, 'program' | 'script'> {
  const script = new Script(source.toString('latin1'), {
    filename: FILE,
    ...(cachedData && { cachedData }),
  });
  const module = { exports: {} };
  (script.runInThisContext() as CommonJs)(module.exports, createRequire(FILE), module, FILE, DIRECTORY);
  return { program: module.exports as Program, script };
}

/**
 * The compiled code, if it is undamaged and that of `source`: V8 would compare their lengths only, and end the process
 * over damage.
 */
function readCache(source: Buffer): Buffer | undefined {
  try {
    const cache = readFileSync(CACHE);
    const compiled = cache.subarray(CHECKSUM_BYTES);
    return checksumOf(source, compiled).equals(cache.subarray(0, CHECKSUM_BYTES)) ? compiled : undefined;
  } catch {
    return undefined;
  }
}

/** Whoever can change the cache can change the program, too, so this is only about damage, which a CRC finds quickly. */
function checksumOf(source: Buffer, compiled: Buffer): Buffer {
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  checksum.writeUInt32LE(crc32(compiled, crc32(source)));
  return checksum;
}
