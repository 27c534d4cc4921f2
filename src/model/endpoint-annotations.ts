/** The annotations of an Endpoint. */
import {
  ANNOTATION_PREFIX,
  unknownAnnotationText,
  WILDCARD,
  wildcardOf,
  type Annotations,
  type RefuseAnnotation,
} from './annotations.ts';

export interface EndpointAnnotations {
  /** True if all names below its own mean it (RFC 4592). */
  readonly hasWildcard: boolean;
}

export function readEndpointAnnotations(
  annotations: Annotations,
  refuse: RefuseAnnotation = () => {},
): EndpointAnnotations {
  let hasWildcard = false;
  for (const [key, text] of Object.entries(annotations ?? {})) {
    if (key === WILDCARD) hasWildcard = wildcardOf(text, (message) => refuse(key, message)) ?? false;
    else if (key.startsWith(ANNOTATION_PREFIX)) refuse(key, unknownAnnotationText(key, [WILDCARD]));
  }
  return { hasWildcard };
}
