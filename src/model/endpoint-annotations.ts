/** The annotations of an Endpoint. */
import {
  ANNOTATION_PREFIX,
  unknownAnnotationText,
  WILDCARD,
  wildcardOf,
  type Annotations,
  type RefuseAnnotation,
} from './annotations.ts';
import { name } from './value.ts';

/** Names that it also has in its network, which others may have, too. */
export const ALIASES = `${ANNOTATION_PREFIX}aliases`;
/** The attachment of a container runtime that it is (drivers/cni). */
export const CNI = `${ANNOTATION_PREFIX}cni`;

/** The endpoint of a container engine that it is, or the address that it holds for one (cluster/carrying.ts, drivers/docker). */
export const DOCKER = `${ANNOTATION_PREFIX}docker`;

/** The subnet of which an endpoint only holds addresses, for one to come (cluster/held-addresses.ts). */
export const HELD = `${ANNOTATION_PREFIX}held`;

/** Those that only weft sets. */
const ITS_OWN = [CNI, DOCKER, HELD];

/** More than a runtime gives to a container; each costs a name. */
const MOST_ALIASES = 32;

export interface EndpointAnnotations {
  /** True if all names below its own mean it (RFC 4592). */
  readonly hasWildcard: boolean;
  readonly aliases: readonly string[];
}

export function readEndpointAnnotations(
  annotations: Annotations,
  refuse: RefuseAnnotation = () => {},
): EndpointAnnotations {
  let hasWildcard = false;
  let aliases: readonly string[] = [];
  for (const [key, text] of Object.entries(annotations ?? {})) {
    if (key === WILDCARD) hasWildcard = wildcardOf(text, (message) => refuse(key, message)) ?? false;
    else if (key === ALIASES) aliases = aliasesOf(text, (message) => refuse(key, message));
    else if (!ITS_OWN.includes(key) && key.startsWith(ANNOTATION_PREFIX)) {
      refuse(key, unknownAnnotationText(key, [WILDCARD, ALIASES]));
    }
  }
  return { hasWildcard, aliases };
}

/** `db,postgres`: those that are accepted. */
function aliasesOf(text: string, refuse: (message: string) => void): string[] {
  const aliases = [...new Set(text.split(',').map((alias) => alias.trim()))].filter((alias) => alias !== '');
  if (aliases.length > MOST_ALIASES) refuse(`an endpoint has at most ${MOST_ALIASES} aliases`);
  return aliases.slice(0, MOST_ALIASES).filter((alias) => {
    const { error } = name.safeParse(alias);
    if (error) refuse(error.issues[0]!.message);
    return !error;
  });
}
