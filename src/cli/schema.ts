/** `weft schema`: what manifests may have, as JSON Schema. */
import type { Command } from 'commander';
import { loadKinds, withKinds } from './kind.ts';
import { print } from './print.ts';
import { globals, verb } from './verb.ts';

export function schema(program: Command): void {
  const command = verb(program, 'schema [kind]', {
    summary: 'print the JSON Schema of a kind of manifests, or of all, for editors and other programs',
    examples: [
      'weft schema > weft.schema.json            # then in each manifest: # yaml-language-server: $schema=weft.schema.json',
      'weft schema netpol -o yaml',
    ],
  });
  withKinds(command).action(async (text: string | undefined, _, command: Command) => {
    const [{ findKind, unknownKindText }, { jsonSchemas, manifestSchema }] = await Promise.all([
      loadKinds(),
      import('../model/json-schema.ts'),
    ]);
    const kind = text === undefined ? undefined : findKind(text);
    if (text !== undefined && !kind) command.error(`error: ${unknownKindText(text)}`);
    const made = kind ? jsonSchemas().resources[kind.kind] : manifestSchema();
    await print(globals(command).output, made, () => `${JSON.stringify(made, undefined, 2)}\n`);
  });
}
