/** weft's own labels: those that begin with `weft.dev/`. A misspelt one would have no effect, and nobody would see that. */
import { WeftError } from '../error.ts';
import { ANNOTATION_PREFIX as PREFIX } from './annotations.ts';
import { didYouMean } from './nearest.ts';
import { fieldText, type Locate } from './validate.ts';
import { quote } from './value.ts';

/** Takes an endpoint, or all of a host, out of services: new connections go elsewhere. */
export const DRAIN = 'weft.dev/drain';
const OF_KINDS: ReadonlyMap<string, readonly string[]> = new Map([
  ['Endpoint', [DRAIN]],
  ['Host', [DRAIN]],
]);
const FIELD = ['metadata', 'labels'];

/**
 * What is stored may have others: a schema does not refuse them.
 * @param labels that somebody gives; null takes one away, whichever it is
 * @throws WeftError('invalid') about the first of weft's that resources of this kind do not have
 */
export function refuseUnknownLabels(
  kind: string,
  labels: Readonly<Record<string, string | null>>,
  { field = FIELD, locate = () => '' }: { readonly field?: readonly string[]; readonly locate?: Locate } = {},
): void {
  const known = OF_KINDS.get(kind) ?? [];
  for (const [key, value] of Object.entries(labels)) {
    if (value === null || !key.startsWith(PREFIX) || known.includes(key)) continue;
    const path = [...field, key];
    const text =
      known.length === 0
        ? `${quote(key)} is no label of weft for a ${kind}: it has none`
        : `${quote(key)} is no label of weft${didYouMean(key, known) || ':'} accepted is ${known.join(', ')}`;
    throw new WeftError('invalid', `${locate(path, 'name')}${fieldText(path)}: ${text}`);
  }
}
