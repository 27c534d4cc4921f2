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

type Mutable = Record<string, unknown>;

/** @param resource as validation has made it: nobody else has it yet, so it is changed, not copied */
export function thrifty<R extends Resource>(resource: R): R {
  const { apiVersion, metadata, spec } = resource;
  (resource as Mutable).apiVersion = shared(apiVersion);
  if (isEmpty(metadata.labels)) (metadata as Mutable).labels = EMPTY_MAP;
  const values = spec as Mutable | undefined;
  for (const key in values) {
    const value = values[key];
    if (Array.isArray(value) && value.length === 0) values[key] = EMPTY_LIST;
    else if (key === 'network' && typeof value === 'string') values[key] = shared(value);
  }
  return resource;
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
