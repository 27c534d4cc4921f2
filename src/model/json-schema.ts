/** JSON Schema (2020-12) of weft's inputs and outputs, for editors and for other programs. */
import * as z from 'zod';
import { reports } from './report.ts';
import { kinds } from './kinds/registry.ts';

export interface JsonSchemas {
  /** Schemas of manifests, by kind. */
  readonly resources: Readonly<Record<string, z.core.JSONSchema.BaseSchema>>;
  /** Schemas of what `-o json` prints, by name. */
  readonly reports: Readonly<Record<string, z.core.JSONSchema.BaseSchema>>;
}

export function jsonSchemas(): JsonSchemas {
  return {
    resources: all(Object.fromEntries(kinds.map(({ kind, schema }) => [kind, schema])), 'input'),
    reports: all(reports, 'output'),
  };
}

/** Of a manifest of any kind. */
export function manifestSchema(): z.core.JSONSchema.BaseSchema {
  const { resources } = jsonSchemas();
  const of = Object.entries(resources).map(([kind, { $schema: _, ...schema }]) => [kind, schema] as const);
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $defs: Object.fromEntries(of),
    // Which one it is follows from the kind, so that an editor tells what is wrong in it, and not that it is none of them.
    type: 'object',
    required: ['apiVersion', 'kind', 'metadata'],
    properties: { kind: { enum: of.map(([kind]) => kind) } },
    allOf: of.map(([kind]) => ({
      if: { properties: { kind: { const: kind } }, required: ['kind'] },
      then: { $ref: `#/$defs/${kind}` },
    })),
  };
}

function all(of: Readonly<Record<string, z.ZodType>>, io: 'input' | 'output'): JsonSchemas['reports'] {
  return Object.fromEntries(Object.entries(of).map(([name, schema]) => [name, z.toJSONSchema(schema, { io })]));
}
