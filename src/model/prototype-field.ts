/**
 * A field `__proto__`. The library that validates leaves it out of a map without a word, so it is looked for before, and refused
 * by name like all that is not supported.
 */
import { WeftError } from '../error.ts';
import { fieldText, type FieldPath, type Locate } from './validate.ts';

const FIELD = '__proto__';

/** A value within another one. */
interface Inner {
  readonly value: unknown;
  readonly key?: string | number;
  readonly outer?: Inner;
}

/** @throws WeftError('invalid') with the place of the field, if there is one anywhere in `value` */
export function refusePrototypeField(value: unknown, locate: Locate = () => ''): void {
  // Not recursive, since nobody has looked yet how deep it is.
  const waiting: Inner[] = [{ value }];
  // What a text repeats by its aliases is looked at once.
  const seen = new Set<unknown>();
  for (let next; (next = waiting.pop()); ) {
    const one = next.value;
    if (typeof one !== 'object' || one === null || seen.has(one)) continue;
    seen.add(one);
    if (Object.hasOwn(one, FIELD)) {
      const at = [...pathOf(next), FIELD];
      throw new WeftError(
        'invalid',
        `${locate(at, 'name')}${fieldText(at)} is not supported here: nothing can have that name`,
      );
    }
    for (const [key, inner] of Object.entries(one)) {
      if (typeof inner === 'object' && inner !== null)
        waiting.push({ value: inner, key: Array.isArray(one) ? Number(key) : key, outer: next });
    }
  }
}

function pathOf(inner: Inner): FieldPath {
  const path: (string | number)[] = [];
  for (let at: Inner | undefined = inner; at?.key !== undefined; at = at.outer) path.push(at.key);
  return path.reverse();
}
