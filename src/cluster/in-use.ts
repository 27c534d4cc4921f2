/** Refuses to delete or change a resource that others need as it is. */
import { WeftError } from '../error.ts';
import { referredId, type KindDefinition } from '../model/kinds/kind.ts';
import { kindOf } from '../model/kinds/registry.ts';
import type { NetworkResource } from '../model/kinds/network.ts';
import { DEFAULT_NAMESPACE } from '../model/resource.ts';
import type { Endpoint } from './endpoint.ts';
import { byName } from './endpoint-index.ts';
import type { Declared } from './reconciler.ts';

/** How many names a message lists. */
const MOST_NAMED = 5;

/** True for kinds that others refer to on several hosts. */
export function isReferredTo({ kind }: KindDefinition): boolean {
  return kind === 'Network' || kind === 'Namespace';
}

/** @param all everything declared @throws WeftError('conflict') if others refer to the resource, or are in it */
export function refuseInUse({ kind, isLeaf }: KindDefinition, name: string, all: Iterable<Declared>): void {
  if (isLeaf) return;
  const users = [...all].filter(({ resource }) => needs(resource, kind, name));
  const [first] = users;
  if (!first) return;
  const names = users.slice(0, MOST_NAMED).map((user) => user.name);
  const more = users.length > names.length ? ` and ${users.length - names.length} more` : '';
  const { plural } = kindOf(first.resource);
  const mend = plural === 'endpoints' ? 'detach' : 'delete';
  throw new WeftError(
    'conflict',
    `${kind.toLowerCase()} "${name}" has ${plural} (${names.join(', ')}${more}): ${mend} them first`,
  );
}

function needs(resource: Declared['resource'], kind: string, name: string): boolean {
  const { isNamespaced, references } = kindOf(resource);
  const { namespace = DEFAULT_NAMESPACE } = resource.metadata;
  if (kind === 'Namespace') return isNamespaced && namespace === name;
  const isReferred = kindOf({ kind }).isNamespaced;
  return references(resource).some(
    (reference) => reference.kind === kind && referredId(reference, isReferred, namespace) === name,
  );
}

/** Without the outside of their network, published ports would stop working. @throws WeftError('conflict') */
export function refusePublished({ metadata, spec }: NetworkResource, endpoints: Iterable<Endpoint>): void {
  if (spec.outside) return;
  const publishing = byName([...endpoints].filter((endpoint) => endpoint.resource.spec.publish.length > 0));
  if (publishing.length === 0) return;
  throw new WeftError(
    'conflict',
    `network "${metadata.name}": ports of its endpoints are published (${publishing.map((endpoint) => endpoint.name).join(', ')}): its outside stays until they are not`,
  );
}
