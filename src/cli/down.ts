/** `weft down`: stops the daemon and waits until its socket is gone. */
import { lstatSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { clientOf, globals, verb } from './verb.ts';

const POLL_MS = 10;

export function down(program: Command): void {
  verb(program, 'down', {
    summary: 'stop the daemon; the ports stay, without traffic, until the next `weft up`',
    examples: ['weft down', 'weft down --purge'],
  })
    .option('--purge', 'remove the ports and their endpoints, too; networks, hosts and endpoints of other hosts stay')
    .action(async ({ purge = false }: { purge?: boolean }, command: Command) => {
      const { socket, output } = globals(command);
      const before = inodeOf(socket);
      await clientOf(command).shutdown({ purge });
      // A different inode is another daemon, which a supervisor has started meanwhile.
      while (inodeOf(socket) === before && (await answers(socket))) await delay(POLL_MS);
      if (output === 'table') process.stdout.write(`weft has stopped, its ports are ${purge ? 'removed' : 'kept'}\n`);
    });
}

function inodeOf(path: string): number | undefined {
  return lstatSync(path, { throwIfNoEntry: false })?.ino;
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
