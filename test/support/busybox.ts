/** A file system that has busybox alone. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

const COMMANDS = ['sh', 'ping', 'wget', 'httpd', 'sleep', 'ip', 'cat', 'nc', 'nslookup', 'echo'];

/** @param directory where it is made @returns its path */
export function busyboxRoot(directory: string): string {
  const root = join(directory, 'root');
  for (const folder of ['bin', 'etc', 'tmp']) mkdirSync(join(root, folder), { recursive: true });
  copyFileSync('/usr/bin/busybox', join(root, 'bin/busybox'));
  for (const name of COMMANDS) symlinkSync('busybox', join(root, 'bin', name));
  return root;
}

/** As `import` of Docker and podman takes it. @param directory where it is made @returns the path of an archive */
export function busyboxArchive(directory: string): string {
  const root = busyboxRoot(directory);
  const archive = join(directory, 'root.tar');
  execFileSync('tar', ['-C', root, '-cf', archive, '.']);
  return archive;
}
