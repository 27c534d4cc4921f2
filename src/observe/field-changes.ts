/** What differs between two resources, field by field. */

export interface FieldChange {
  /** As `.metadata.labels.app` or `.spec.ingress[0].ports`. */
  readonly path: string;
  /** Undefined: it is not there. */
  readonly before: unknown;
  readonly after: unknown;
}

/** The innermost fields that differ. Of two lists of different lengths, that is the whole list. */
export function* fieldChanges(before: unknown, after: unknown, path = ''): Generator<FieldChange> {
  if (isList(before) && isList(after) && before.length === after.length) {
    for (const [at, item] of before.entries()) yield* fieldChanges(item, after[at], `${path}[${at}]`);
  } else if (isMap(before) && isMap(after)) {
    for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
      const name = /^[\w-]+$/.test(key) ? key : JSON.stringify(key);
      yield* fieldChanges(before[key], after[key], `${path}.${name}`);
    }
  } else if (JSON.stringify(before) !== JSON.stringify(after)) {
    yield { path, before, after };
  }
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
