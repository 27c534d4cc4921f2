/** `--sort-by`: sorts resources by a field, named by a path as kubectl takes it: `.metadata.name`, `{.spec.subnets[0]}`. */
import { WeftError } from '../error.ts';
import { compareNames } from '../model/name-order.ts';
import type { Resource } from '../model/resource.ts';

/** The keys and indices on the way to the field. @throws WeftError('usage') */
export function parsePath(text: string): (string | number)[] {
  const inside = /^\{(.*)\}$/.exec(text)?.[1] ?? text;
  const steps = inside.startsWith('.') || inside.startsWith('[') ? inside : `.${inside}`;
  const found = [...steps.matchAll(/\.((?:[^.[\]{}\\]|\\.)+)|\[(\d+)\]/gy)];
  if (found.length === 0 || found.reduce((length, [step]) => length + step.length, 0) !== steps.length) {
    throw new WeftError(
      'usage',
      `--sort-by: "${text}" is not a path: give one like .metadata.name or .spec.subnets[0], with "\\." for a dot in a key`,
    );
  }
  return found.map(([, key, index]) => (key === undefined ? Number(index) : key.replaceAll(/\\(.)/g, '$1')));
}

/**
 * Sorted by that field: numbers by value, texts as people count, those without it first.
 * @throws WeftError('usage') if none of the resources has it
 */
export function sortBy(resources: readonly Resource[], text: string): Resource[] {
  const path = parsePath(text);
  const keyed = resources.map((resource) => ({ resource, value: valueAt(resource, path) }));
  if (keyed.length > 0 && keyed.every(({ value }) => value === undefined))
    throw new WeftError('usage', `--sort-by: none of them has ${text}: weft get … -o yaml shows what there is`);
  return keyed.sort((a, b) => compare(a.value, b.value)).map(({ resource }) => resource);
}

function valueAt(resource: Resource, path: readonly (string | number)[]): unknown {
  let value: unknown = resource;
  for (const step of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string | number, unknown>)[step];
  }
  return value;
}

function compare(a: unknown, b: unknown): number {
  if (a === undefined || b === undefined) return Number(a !== undefined) - Number(b !== undefined);
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return compareNames(textOf(a), textOf(b));
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
