/** Parts of what a newer version, another program or a defect may have written. */
import type * as z from 'zod';
import { refusePrototypeField } from './prototype-field.ts';

/** Undefined if it is not accepted. */
export function readIfValid<S extends z.ZodType>(schema: S, value: unknown): z.output<S> | undefined {
  try {
    refusePrototypeField(value);
  } catch {
    return undefined;
  }
  return schema.safeParse(value).data;
}
