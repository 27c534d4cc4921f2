/** `weft label`: sets and removes labels of a resource. */
import type { Command } from 'commander';
import { applyText } from './apply-text.ts';
import { parseLabels, parseNamed, withKinds, withNamespace, type NamespaceOptions } from './kind.ts';
import { print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';
import { addWait, waitIfAsked, type WaitOptions } from './wait.ts';

interface Options extends NamespaceOptions, WaitOptions {}

export function label(program: Command): void {
  const command = verb(program, 'label <kind> <name> [labels...]', {
    summary: 'set labels of a resource (KEY=VALUE), or remove them (KEY-)',
    examples: [
      'weft label endpoint web app=web tier-',
      'weft label ep/web app=web -n shop',
      'weft label ns shop team=a',
      'weft label ep/web-1 weft.dev/drain=true --wait',
    ],
  });
  addWait(withNamespace(withKinds(command))).action(
    async (kindText: string, nameText: string, texts: string[], options: Options, command: Command) => {
      // KIND/NAME is a single argument.
      const isOneWord = kindText.includes('/');
      const target = await parseNamed(kindText, isOneWord ? undefined : nameText, options, command);
      const { kind, name, namespace } = target;
      const words = isOneWord ? [nameText, ...texts] : texts;
      if (words.length === 0) command.error('error: labels are missing: give KEY=VALUE or KEY-');
      const labels = parseLabels(words, '', command);
      const report = await clientOf(command).label(kind.kind, name, labels, { namespace });
      await print(globals(command).output, report, () => applyText(report));
      await waitIfAsked(options, command, [report]);
    },
  );
}
