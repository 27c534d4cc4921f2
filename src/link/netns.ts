/** Network namespaces of containers: found by name, path or process, and identified by (device, inode). */
import { statSync } from 'node:fs';
import { stat, statfs } from 'node:fs/promises';
import { WeftError } from '../error.ts';

/**
 * A network namespace: where it was found, and its identity. The path may lead to another
 * namespace later; `dev` and `ino` never do while this one lives.
 */
export interface NetnsRef {
  readonly path: string;
  readonly dev: bigint;
  readonly ino: bigint;
}

/** `netns` is a name under /run/netns, or a path if it contains a slash. */
export type NetnsSpec = { readonly netns: string } | { readonly pid: number };

/** Path of the namespace that this process is in. */
export const OWN_NETNS = '/proc/self/ns/net';

const NETNS_DIRECTORY = '/run/netns';

/** The file system whose files are namespaces (linux/magic.h). */
const NSFS_MAGIC = 0x6e736673n;

/**
 * @throws WeftError `not_found` if it does not exist, `invalid` if it is not a network
 * namespace or is the one that this process is in
 */
export async function resolveNetns(spec: NetnsSpec): Promise<NetnsRef> {
  const { path, label, missing } = locate(spec);
  let dev: bigint;
  let ino: bigint;
  try {
    ({ dev, ino } = await stat(path, { bigint: true }));
    const { type } = await statfs(path, { bigint: true });
    if (type !== NSFS_MAGIC)
      throw new WeftError(
        'invalid',
        `${label} is not a network namespace (${path}): if it was made inside \`ip netns exec\`, make it outside`,
      );
  } catch (error) {
    if (error instanceof WeftError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ESRCH') throw new WeftError('not_found', missing);
    if (code === 'EACCES' || code === 'EPERM') {
      throw new WeftError('system', `${label} may not be looked at (${path}); run weft as root`);
    }
    throw new WeftError('system', `${label} cannot be looked at (${path}: ${code})`);
  }
  const own = await ownNetns();
  if (own.dev === dev && own.ino === ino) {
    throw new WeftError(
      'invalid',
      `${label} is in the network namespace that weft itself runs in; attach a container's`,
    );
  }
  return { path, dev, ino };
}

/**
 * The namespace that this process is in, which has the host's ends of weft's links.
 * @throws WeftError('system') if /proc does not show it
 */
export async function ownNetns(): Promise<NetnsRef> {
  try {
    const { dev, ino } = await stat(OWN_NETNS, { bigint: true });
    return { path: OWN_NETNS, dev, ino };
  } catch (error) {
    throw new WeftError(
      'system',
      `${OWN_NETNS} cannot be looked at (${(error as NodeJS.ErrnoException).code}): mount /proc`,
    );
  }
}

function locate(spec: NetnsSpec): { path: string; label: string; missing: string } {
  if ('pid' in spec) {
    if (!Number.isSafeInteger(spec.pid) || spec.pid < 1) {
      throw new WeftError('invalid', `"${spec.pid}" is not a process id: a positive whole number`);
    }
    return {
      path: `/proc/${spec.pid}/ns/net`,
      label: `process ${spec.pid}`,
      missing: `process ${spec.pid} does not exist`,
    };
  }
  const { netns } = spec;
  const label = `network namespace "${netns}"`;
  if (netns.includes('\0')) throw new WeftError('invalid', 'a network namespace path contains no zero byte');
  if (netns.includes('/')) return { path: netns, label, missing: `${label} does not exist` };
  if (netns === '' || netns === '.' || netns === '..') {
    throw new WeftError('invalid', `"${netns}" is not the name of a network namespace; \`ip netns ls\` shows them`);
  }
  return {
    path: `${NETNS_DIRECTORY}/${netns}`,
    label,
    missing: `${label} does not exist; \`ip netns ls\` shows those that do`,
  };
}

/** Does its path still lead to it? Also true if that cannot be determined. */
export function isSameNetns(ref: NetnsRef): boolean {
  try {
    const found = statSync(ref.path, { bigint: true });
    return found.dev === ref.dev && found.ino === ref.ino;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'ESRCH';
  }
}
