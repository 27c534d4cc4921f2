/**
 * Ways into a namespace whose path leads there no more: a name that it is mounted
 * under, or a process that lives in it. A namespace without either is gone, even
 * though weft's own TAP keeps it.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import type { NetnsRef } from './netns.ts';

/** A namespace as text: its device and inode. */
export function netnsId({ dev, ino }: Pick<NetnsRef, 'dev' | 'ino'>): string {
  return `${dev}/${ino}`;
}

/** @returns by `netnsId` the path of each of `refs` that there still is one to */
export function findNetns(refs: readonly NetnsRef[]): ReadonlyMap<string, string> {
  const wanted = new Set(refs.map(netnsId));
  const found = new Map<string, string>();
  for (const path of candidates()) {
    if (found.size === wanted.size) break;
    try {
      const id = netnsId(statSync(path, { bigint: true }));
      if (wanted.has(id) && !found.has(id)) found.set(id, path);
    } catch {
      // It has ended, or is not ours to look at.
    }
  }
  return found;
}

/** Names first: they outlive processes. */
function* candidates(): Generator<string> {
  yield* mountedNamespaces();
  for (const entry of readdirSync('/proc')) if (/^\d+$/.test(entry)) yield `/proc/${entry}/ns/net`;
}

/** Where files of namespaces are mounted: proc_pid_mountinfo(5), with octal escapes in the path. */
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
