/**
 * weft's own additions to a resource, which its manifest has no fields for: annotations that begin with `weft.dev/`. Those of others
 * are kept, and mean nothing here.
 */
import * as z from 'zod';
import { didYouMean } from './nearest.ts';
import { labelKey, quote } from './value.ts';

export const ANNOTATION_PREFIX = 'weft.dev/';
export const WILDCARD = `${ANNOTATION_PREFIX}wildcard`;

export const annotations = z.record(labelKey, z.string()).optional();
export type Annotations = z.output<typeof annotations>;

/** Is told what is wrong, by annotation. */
export type RefuseAnnotation = (key: string, message: string) => void;

/** Of a schema: what `read` refuses of the annotations of a resource is wrong with it. */
export function checkedBy(read: (annotations: Annotations, refuse: RefuseAnnotation) => unknown) {
  return (
    { metadata: { annotations } }: { readonly metadata: { readonly annotations?: Annotations } },
    context: z.core.$RefinementCtx,
  ): void => {
    read(annotations, (key, message) => {
      const path = ['metadata', 'annotations', key];
      context.addIssue({ code: 'custom', path, input: annotations?.[key], message });
    });
  };
}

/** @returns undefined if it is refused */
export function wildcardOf(text: string, refuse: (message: string) => void): boolean | undefined {
  if (text === 'true' || text === 'false') return text === 'true';
  refuse(`${quote(text)} is not accepted: accepted are "true", "false"`);
  return undefined;
}

/** @param names all annotations that weft has for this kind */
export function unknownAnnotationText(key: string, names: readonly string[]): string {
  const hint = didYouMean(key, names) || ':';
  return `${quote(key)} is no annotation of weft${hint} accepted are ${names.join(', ')}`;
}
