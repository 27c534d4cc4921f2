/** `weft hook check`: what is wrong with a hook, before it is applied. */
import type { Command } from 'commander';
import { WeftError } from '../error.ts';
import { print } from './print.ts';
import { globals, verb } from './verb.ts';

export function hook(program: Command): void {
  const parent = verb(program, 'hook', {
    summary: 'write flow hooks: programs in TypeScript that say who may begin a conversation',
    examples: ['weft hook check fence.ts'],
  });
  verb(parent, 'check <file.ts>', {
    summary: 'check the text and the types of a hook, and load it, without a daemon',
    examples: ['weft hook check fence.ts', 'weft hook check fence.ts -o json'],
  })
    .addHelpText('after', '\nTypes are checked by the package typescript, which is to be installed beside the file.')
    .action(async (path: string, _, command: Command) => {
      const { checkHook } = await import('../hooks/check.ts');
      const report = await checkHook(path);
      const { name, file, wrong } = report;
      const text = (): string => [...wrong, `${file}: hook ${name} can be loaded`].map((line) => `${line}\n`).join('');
      await print(globals(command).output, report, text);
      const errors = wrong.length === 1 ? '1 error' : `${wrong.length} errors`;
      if (wrong.length > 0) throw new WeftError('invalid', `${file}: ${errors} in its types, as told above`);
    });
}
