/** Manifests: resources as text, or as values that came over the API. */
import * as z from 'zod';
import { parseDocuments } from './document.ts';
import { kindOf, kinds } from './kinds/registry.ts';
import { refusePrototypeField } from './prototype-field.ts';
import type { Resource } from './resource.ts';
import { validate, type Locate } from './validate.ts';

/**
 * The resources of a YAML or JSON text with any number of documents, each a resource or a list of them.
 * @param source the name of the text in messages
 * @throws WeftError('invalid'), one line with source, line and column
 */
export function parseManifests(text: string, source: string): Resource[] {
  return parseDocuments(text, source).flatMap(({ value, locate }) =>
    Array.isArray(value)
      ? value.map((one, at) => resourceOf(one, (path, of) => locate([at, ...path], of)))
      : [resourceOf(value, locate)],
  );
}

/** @throws WeftError('invalid'), one line that names the field, its value and what is accepted */
export function parseResource(value: unknown): Resource {
  return resourceOf(value, () => '');
}

function resourceOf(value: unknown, locate: Locate): Resource {
  // Enough to know which schema applies.
  const header = z.looseObject({ kind: z.enum(kinds.map(({ kind }) => kind)) });
  const { schema } = kindOf(validate(header, value, { locate }));
  refusePrototypeField(value, locate);
  // Everything else is passed on as it was given.
  const { status: _, ...declared } = value as Readonly<Record<string, unknown>>;
  return validate(schema, withoutNoTime(declared), { locate });
}

/** Without `creationTimestamp: null`, with which Kubernetes' own tools write a resource that no server has created yet. */
function withoutNoTime(declared: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { metadata } = declared;
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) return declared;
  const { creationTimestamp, ...rest } = metadata as Readonly<Record<string, unknown>>;
  return creationTimestamp === null ? { ...declared, metadata: rest } : declared;
}
