/**
 * Resources in little memory: there may be a hundred thousand of other hosts. What is empty, or the same in most of them, is
 * one object for all. Nobody writes to a resource.
 */
import type { Resource } from '../model/resource.ts';

const EMPTY_LIST: readonly unknown[] = Object.freeze([]);
const EMPTY_MAP = Object.freeze({});
/** Texts that are repeated, such as names of networks, and how many of them are remembered. */
const texts = new Map<string, string>();
const MOST_TEXTS = 4096;

export function thrifty<R extends Resource>(resource: R): R {
  const { apiVersion, kind, metadata, spec, ...others } = resource;
  const labels = isEmpty(metadata.labels) ? EMPTY_MAP : metadata.labels;
  return {
    apiVersion: shared(apiVersion),
    kind,
    metadata: { ...metadata, labels },
    ...(spec && {
      spec: Object.fromEntries(
        Object.entries(spec).map(([key, value]: [string, unknown]) => [key, thriftyValue(key, value)]),
      ),
    }),
    ...others,
  } as unknown as R;
}

function thriftyValue(key: string, value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? EMPTY_LIST : value;
  return key === 'network' && typeof value === 'string' ? shared(value) : value;
}

function isEmpty(map: object): boolean {
  for (const _ in map) return false;
  return true;
}

function shared(text: string): string {
  const known = texts.get(text);
  if (known !== undefined) return known;
  if (texts.size < MOST_TEXTS) texts.set(text, text);
  return text;
}
