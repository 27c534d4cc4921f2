/** `weft key`: a new key for the probes between two hosts. */
import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { print } from './print.ts';
import { globals, verb } from './verb.ts';

const KEY_BYTES = 32;

export function key(program: Command): void {
  verb(program, 'key', {
    summary: 'print a new random key for probes between hosts (peerKey, --peer ADDRESS,KEY)',
    examples: ['weft key'],
  }).action(async (_, command: Command) => {
    const made = randomBytes(KEY_BYTES).toString('hex');
    await print(globals(command).output, { key: made }, () => `${made}\n`);
  });
}
