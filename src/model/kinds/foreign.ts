/**
 * What the kinds have in common that others have defined (Kubernetes, Istio): fields that are valid there and not
 * supported here are refused by name, with what to do instead, and never ignored.
 */
import * as z from 'zod';
import { didYouMean } from '../nearest.ts';

/**
 * A map of fields, all others refused. The library reports a missing field before one that is refused: where that would hide
 * why (a rule with only `http` has no `tcp`), the field is optional here, and checked when all others are accepted.
 * @param refused why each field that is valid upstream is not supported; the text continues `FIELD is not supported here: `.
 * One that is also in the shape is refused by the kind itself, so no message recommends it.
 */
export function foreignObject<S extends z.core.$ZodLooseShape>(
  shape: S,
  refused: Readonly<Record<string, string>> = {},
): z.ZodObject<S, z.core.$strict> {
  const known = Object.keys(shape).filter((field) => !Object.hasOwn(refused, field));
  const accepted = known.length === 0 ? 'no field is accepted' : `accepted are ${known.join(', ')}`;
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== 'unrecognized_keys') return undefined;
      const [field = ''] = issue.keys;
      const why = Object.hasOwn(refused, field) ? refused[field] : undefined;
      const hint = why === undefined ? didYouMean(field, known) || ':' : `: ${why};`;
      return `is not supported here${hint} ${accepted}`;
    },
  });
}
