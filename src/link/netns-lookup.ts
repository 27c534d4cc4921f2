/**
 * Finds other ways into a namespace whose path no longer leads there: a name under which it is
 * mounted, or a process that lives in it. A namespace without either is gone, even though
 * weft's own TAP keeps it alive.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import type { NetnsRef } from './netns.ts';

/** A namespace as text: device and inode. */
export function netnsId({ dev, ino }: Pick<NetnsRef, 'dev' | 'ino'>): string {
  return `${dev}/${ino}`;
}

/** @returns by `netnsId`, a path to each of `refs` that still has one */
export function findNetns(refs: readonly NetnsRef[]): ReadonlyMap<string, string> {
  const wanted = new Set(refs.map(netnsId));
  const found = new Map<string, string>();
  for (const path of candidates()) {
    if (found.size === wanted.size) break;
    try {
      const id = netnsId(statSync(path, { bigint: true }));
      if (wanted.has(id) && !found.has(id)) found.set(id, path);
    } catch {
      // It has ended, or we may not look at it.
    }
  }
  return found;
}

/** All namespaces that a path leads to, each once. */
export function liveNamespaces(): NetnsRef[] {
  const found = new Map<string, NetnsRef>();
  for (const path of candidates()) {
    try {
      const { dev, ino } = statSync(path, { bigint: true });
      const id = netnsId({ dev, ino });
      if (!found.has(id)) found.set(id, { path, dev, ino });
    } catch {
      // It has ended, or we may not look at it.
    }
  }
  return [...found.values()];
}

/** Names first: they outlive processes. */
function* candidates(): Generator<string> {
  yield* mountedNamespaces();
  for (const entry of readdirSync('/proc')) if (/^\d+$/.test(entry)) yield `/proc/${entry}/ns/net`;
}

/** Where namespace files are mounted: proc_pid_mountinfo(5), with octal escapes in the path. */
function mountedNamespaces(): string[] {
  let text: string;
  try {
    text = readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return [];
  }
  return [...text.matchAll(/^\S+ \S+ \S+ net:\[\d+\] (\S+) .* - nsfs /gm)].map(([, path = '']) =>
    path.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
  );
}
