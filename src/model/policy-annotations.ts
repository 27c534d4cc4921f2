/** What weft adds to policies, and to the namespaces of those whom they select. */
import { ANNOTATION_PREFIX, unknownAnnotationText, type Annotations, type RefuseAnnotation } from './annotations.ts';
import { readPolicySource, SOURCE } from './policy-source.ts';
import { quote } from './value.ts';

/** What becomes of what a policy denies: `drop`, or `reject`, which answers whoever sent it. */
export const ON_DENY = `${ANNOTATION_PREFIX}on-deny`;
/** A policy that is judged and reported, and not enforced. */
export const STAGED = `${ANNOTATION_PREFIX}staged`;

export interface PolicyAnnotations {
  /** Undefined if it is not said. */
  readonly onDeny: 'drop' | 'reject' | undefined;
  readonly isStaged: boolean;
}

/** The others are texts with a form of their own. */
const accepted: Readonly<Record<string, readonly string[]>> = {
  [ON_DENY]: ['drop', 'reject'],
  [STAGED]: ['true', 'false'],
};

export function readPolicyAnnotations(
  annotations: Annotations,
  refuse: RefuseAnnotation = () => {},
  names: readonly string[] = [ON_DENY, STAGED, SOURCE],
): PolicyAnnotations {
  for (const [key, text] of Object.entries(annotations ?? {})) {
    if (!key.startsWith(ANNOTATION_PREFIX)) continue;
    if (!names.includes(key)) refuse(key, unknownAnnotationText(key, names));
    else if (key === SOURCE) {
      if (!readPolicySource(text)) refuse(key, `${quote(text)} is not accepted: it is FILE:LINE, as apply writes it`);
    } else if (!accepted[key]!.includes(text)) {
      const values = accepted[key]!.map((one) => quote(one)).join(', ');
      refuse(key, `${quote(text)} is not accepted: accepted are ${values}`);
    }
  }
  const onDeny = annotations?.[ON_DENY];
  return {
    onDeny: onDeny === 'reject' || onDeny === 'drop' ? onDeny : undefined,
    isStaged: annotations?.[STAGED] === 'true',
  };
}
