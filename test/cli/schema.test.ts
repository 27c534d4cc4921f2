/** `weft schema`: what an editor knows of manifests. */
import t from 'tap';
import { kinds } from '../../src/model/kinds/registry.ts';
import { plain } from './fixture.ts';

interface Schema {
  readonly $schema?: string;
  readonly $defs?: Readonly<Record<string, Schema>>;
  readonly $ref?: string;
  readonly properties: Readonly<Record<string, { readonly enum?: readonly string[]; readonly const?: string }>>;
  readonly allOf: readonly { readonly then: Schema }[];
}

const printed = async (t: Parameters<typeof plain>[0], ...words: readonly string[]): Promise<Schema> => {
  const { code, stdout, stderr } = await plain(t, ['schema', ...words]);
  t.same({ code, stderr }, { code: 0, stderr: '' });
  return JSON.parse(stdout) as Schema;
};

t.test('of one kind, by any of its names', async (t) => {
  const schema = await printed(t, 'netpol');
  t.match(schema, { $schema: /2020-12/, properties: { kind: { const: 'NetworkPolicy' } } });
  t.same(await printed(t, 'NetworkPolicy', '-o', 'json'), schema);
  t.match(await plain(t, ['schema', 'svc', '-o', 'yaml']), { code: 0, stdout: /^\$schema: / });
  t.match(await plain(t, ['schema', 'networkpolcy']), {
    code: 2,
    stderr: /"networkpolcy" is not a kind, did you mean "NetworkPolicy"/,
  });
});

t.test('of all, one of which applies by the kind of a manifest', async (t) => {
  const { $defs = {}, properties, allOf } = await printed(t);
  const names = kinds.map(({ kind }) => kind);
  t.same(properties.kind?.enum, names);
  t.same(Object.keys($defs), names);
  t.same(
    allOf.map(({ then }) => then.$ref),
    names.map((name) => `#/$defs/${name}`),
  );
});
