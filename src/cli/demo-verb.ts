/** The `weft demo` command. The demonstration itself is in demo.ts. */
import type { Command } from 'commander';
import { verb } from './verb.ts';

export function demoVerb(program: Command): void {
  verb(program, 'demo', {
    summary: 'join four containers on two hosts, measure them, and clean up',
    examples: ['weft demo', 'weft demo --keep'],
  })
    .option('--keep', 'leave it running and print the commands to explore it')
    .action(async ({ keep = false }: { keep?: boolean }) => {
      const { demo } = await import('./demo.ts');
      await demo({ keep });
    });
}
