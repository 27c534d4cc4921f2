/** Manifests: resources as text, or as values that came over the API. */
import * as z from 'zod';
import { parseDocuments } from './document.ts';
import { kindOf, kinds } from './kinds/registry.ts';
import { refuseUnknownLabels } from './own-labels.ts';
import { refusePrototypeField } from './prototype-field.ts';
import type { Resource } from './resource.ts';
import { validate, type FieldPath, type Locate } from './validate.ts';

/** Several resources in one document, as `kubectl get -o yaml` prints them. */
const listSchema = z.strictObject({
  apiVersion: z.literal('v1'),
  kind: z.literal('List'),
  /** Of the list itself; it says nothing about the resources. */
  metadata: z.unknown().optional(),
  items: z.array(z.unknown()),
});

/** The name of a text that is in no file. */
export const STDIN = 'stdin';

const places = new WeakMap<Resource, () => string>();

/** Where a resource is in the text that it was parsed from, as in the messages: `SOURCE:LINE:COLUMN: `. */
export function placeOf(resource: Resource): string {
  return places.get(resource)?.() ?? '';
}

/**
 * The resources of a YAML or JSON text with any number of documents, each a resource, a list of them, or a `List` of
 * Kubernetes.
 * @param source the name of the text in messages
 * @throws WeftError('invalid'), one line with source, line and column
 */
export function parseManifests(text: string, source: string): Resource[] {
  return parseDocuments(text, source).flatMap(({ value, locate, lineOf }) => {
    const resourceAt = (one: unknown, at: FieldPath): Resource => {
      const locateIn: Locate = (path, of) => locate([...at, ...path], of);
      const resource = resourceOf(one, locateIn);
      refuseUnknownLabels(resource.kind, resource.metadata.labels, { locate: locateIn });
      const placed = source === STDIN ? undefined : kindOf(resource).placed;
      const whole = placed?.(resource, { file: source, lineOf: (path) => lineOf([...at, ...path]) }) ?? resource;
      places.set(whole, () => locateIn(['metadata', 'name'], 'value'));
      return whole;
    };
    if (Array.isArray(value)) return value.map((one, index) => resourceAt(one, [index]));
    if (!isList(value)) return [resourceAt(value, [])];
    const { items } = validate(listSchema, value, { locate });
    return items.map((one, index) => resourceAt(one, ['items', index]));
  });
}

function isList(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'List';
}

/** @throws WeftError('invalid'), one line that names the field, its value and what is accepted */
export function parseResource(value: unknown): Resource {
  return resourceOf(value, () => '');
}

function resourceOf(value: unknown, locate: Locate): Resource {
  const { schema } = kindOf(headerOf(value, locate));
  refusePrototypeField(value, locate);
  // Everything else is passed on as it was given.
  const { status: _, ...declared } = value as Readonly<Record<string, unknown>>;
  return validate(schema, withoutNoTime(declared), { locate });
}

/** Enough of a resource to know which schema applies. */
function headerOf(value: unknown, locate: Locate): { readonly kind: string } {
  const { kind } = Object(value) as { readonly kind?: unknown };
  const known = kinds.find((one) => one.kind === kind);
  // A schema is made only for what it refuses: there may be very many resources.
  return known ?? validate(z.looseObject({ kind: z.enum(kinds.map((one) => one.kind)) }), value, { locate });
}

/** Without `creationTimestamp: null`, with which Kubernetes' own tools write a resource that no server has created yet. */
function withoutNoTime(declared: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { metadata } = declared;
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) return declared;
  const { creationTimestamp, ...rest } = metadata as Readonly<Record<string, unknown>>;
  return creationTimestamp === null ? { ...declared, metadata: rest } : declared;
}
