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

function all(of: Readonly<Record<string, z.ZodType>>, io: 'input' | 'output'): JsonSchemas['reports'] {
  return Object.fromEntries(Object.entries(of).map(([name, schema]) => [name, z.toJSONSchema(schema, { io })]));
}
