/**
 * Claims the path of a unix socket, so that exactly one daemon has it, even when several start
 * at once over the socket of a dead one.
 *
 * 1. Listen inside a private directory beside the path, where nobody sees it yet.
 * 2. Link the socket to the path. This is atomic, and fails if the path exists.
 * 3. If the path exists and a daemon answers there, that daemon keeps it. A dead socket is
 *    replaced by whoever holds the claim on it: a link named after exactly that socket (inode
 *    and time). The holder checks that the path is still that socket, and renames its own over
 *    it. A claim that comes late finds another socket there, gives up and looks again. So only
 *    a socket that was found dead is ever replaced.
 */
import {
  chmodSync,
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  type BigIntStats,
} from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { WeftError } from '../error.ts';

/** What a starting daemon asks a daemon that may have the socket; it is answered even before there is a switch. */
export const ALIVE_METHOD = 'OPTIONS';
/** How long a daemon may take to answer that, or to die. */
const ANSWER_MS = 10_000;

/** sun_path holds 108 bytes, including the terminating zero (unix(7)). */
const PATH_BYTES = 107;

/**
 * Makes `server` listen on `path` with mode 0600; creates the directory. Returns how to give
 * the path up: the file is removed if it is still ours.
 *
 * @throws WeftError `conflict` if another daemon answers there or it is not a socket; `usage` if
 * the path is too long for a socket; `system` if it cannot be created
 */
export async function claimSocket(server: Server, path: string): Promise<() => void> {
  const privatePrefix = join(dirname(path), '.weft-');
  if (Math.max(Buffer.byteLength(path), Buffer.byteLength(`${privatePrefix}XXXXXX/s`)) > PATH_BYTES) {
    throw new WeftError(
      'usage',
      `--socket ${path}: the path of a unix socket has at most ${PATH_BYTES} bytes, choose a shorter one`,
    );
  }
  let directory: string | undefined;
  try {
    mkdirSync(dirname(path), { recursive: true });
    directory = mkdtempSync(privatePrefix);
    const own = join(directory, 's');
    await listen(server, own);
    chmodSync(own, 0o600);
    const ours = lstatSync(own, { bigint: true });
    while (!link(own, path)) if (await replaceDead(own, path)) break;
    return () => {
      const found = stat(path);
      if (found && isSame(found, ours)) rmSync(path);
    };
  } catch (error) {
    server.close();
    if (error instanceof WeftError) throw error;
    throw new WeftError('system', `cannot create ${path}: ${(error as Error).message}`, { cause: error });
  } finally {
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * Makes `server` listen at the socket of `path` that another daemon has claimed and left, by this descriptor of it,
 * which belongs to the server from then on. Returns how to give the path up, as `claimSocket` does, which is asked instead if
 * somebody has removed the socket.
 */
export async function takeSocket(server: Server, path: string, descriptor: number): Promise<() => void> {
  const ours = stat(path);
  if (!ours) {
    closeSync(descriptor);
    return claimSocket(server, path);
  }
  await listen(server, { fd: descriptor });
  return () => {
    const found = stat(path);
    if (found && isSame(found, ours)) rmSync(path);
  };
}

export function listen(server: Server, at: string | { readonly fd: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(at, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** False if something else has changed the path meanwhile. */
async function replaceDead(own: string, path: string): Promise<boolean> {
  const found = stat(path);
  if (!found) return false;
  if (!found.isSocket()) {
    throw new WeftError('conflict', `${path} exists and is not a socket: remove it, or choose another --socket`);
  }
  const running = new WeftError('conflict', `a daemon is already running on ${path} (weft status shows it)`);
  if (await answers(path)) throw running;

  const claim = join(dirname(path), `.weft-claim-${found.ino}-${found.mtimeNs}`);
  if (!link(own, claim)) {
    if (await answers(claim)) throw running;
    // Its holder died between the next two lines.
    rmSync(claim, { force: true });
    return false;
  }
  try {
    const now = stat(path);
    if (!now || !isSame(now, found)) return false;
    renameSync(own, path);
    return true;
  } finally {
    rmSync(claim, { force: true });
  }
}

/** False if `to` exists. */
function link(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/**
 * Does a daemon listen there? A killed daemon keeps its socket until the kernel has taken
 * everything from it, which may take a second, and connecting still works meanwhile: it has
 * died if its socket closes without an answer. A live daemon answers this question as soon as
 * it has the socket (unix-server.ts).
 */
async function answers(path: string): Promise<boolean> {
  const patience = AbortSignal.timeout(ANSWER_MS);
  for (;;) {
    const answer = await ask(path, patience);
    // One that is silent neither answers nor dies, so it belongs to somebody, whoever that is.
    if (answer !== 'closed') return answer !== 'refused';
    // Whoever closed it may have others waiting; a dead one refuses the next connection.
  }
}

/**
 * Does whoever has this socket do nothing at all for so long? A daemon that is busy with requests, or has no switch
 * yet, still answers.
 */
export async function isSilent(path: string, patienceMs: number): Promise<boolean> {
  return (await ask(path, AbortSignal.timeout(patienceMs)).catch(() => 'refused')) === 'silent';
}

function ask(path: string, patience: AbortSignal): Promise<'answered' | 'refused' | 'closed' | 'silent'> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const end = (answer: 'answered' | 'refused' | 'closed' | 'silent'): void => {
      socket.destroy();
      resolve(answer);
    };
    if (patience.aborted) return end('silent');
    patience.addEventListener('abort', () => end('silent'), { once: true });
    socket.once('connect', () => socket.write(`${ALIVE_METHOD} * HTTP/1.1\r\nhost: weft\r\nconnection: close\r\n\r\n`));
    socket.once('data', () => end('answered'));
    socket.once('close', () => end('closed'));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      switch (error.code) {
        case 'ECONNREFUSED':
        case 'ENOENT':
          return end('refused');
        case 'ECONNRESET':
        case 'EPIPE':
          return end('closed');
        case 'EAGAIN': // too busy to accept
          return end('answered');
        default:
          socket.destroy();
          reject(error);
      }
    });
  });
}

function stat(path: string): BigIntStats | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}

/** Inode numbers are reused; the time of creation distinguishes them. */
function isSame(a: BigIntStats, b: BigIntStats): boolean {
  return a.ino === b.ino && a.dev === b.dev && a.mtimeNs === b.mtimeNs;
}
