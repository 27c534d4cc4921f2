/** Refuses to delete or change a resource that others need as it is. */
import { WeftError } from '../error.ts';
import { referredId, type KindDefinition } from '../model/kinds/kind.ts';
import { kindOf } from '../model/kinds/registry.ts';
import type { NetworkResource } from '../model/kinds/network.ts';
import { DEFAULT_NAMESPACE } from '../model/resource.ts';
import type { Endpoint } from './endpoint.ts';
import { byName } from './endpoint-index.ts';
import type { Declared } from './reconciler.ts';
import type { RefusedRecords } from './refused-records.ts';

/** How many names a message lists. */
const MOST_NAMED = 5;

/** True for kinds that others refer to on several hosts. */
export function isReferredTo({ kind }: KindDefinition): boolean {
  return kind === 'Network' || kind === 'Namespace';
}

/**
 * @param all everything declared @param refused on other hosts it may be in force
 * @throws WeftError('conflict') if others refer to the resource, or are in it
 */
export function refuseInUse(
  { kind, isLeaf }: KindDefinition,
  name: string,
  all: Iterable<Declared>,
  refused: RefusedRecords,
): void {
  if (isLeaf) return;
  const users = [...all].filter(({ resource }) => needs(resource, kind, name));
  const which = `${kind.toLowerCase()} "${name}"`;
  const [first] = users;
  if (first) {
    const { plural } = kindOf(first.resource);
    const mend = plural === 'endpoints' ? 'detach' : 'delete';
    throw new WeftError('conflict', `${which} has ${plural} (${namesOf(users)}): ${mend} them first`);
  }
  const unread = refused.within(kind, name);
  const [one] = unread;
  if (!one) return;
  throw new WeftError(
    'conflict',
    `${which} has ${one.kind.plural} (${namesOf(unread)}) whose records this host does not accept, and others may: delete them first, on a host that does`,
  );
}

function namesOf(users: readonly { readonly name: string }[]): string {
  const names = users.slice(0, MOST_NAMED).map((user) => user.name);
  return `${names.join(', ')}${users.length > names.length ? ` and ${users.length - names.length} more` : ''}`;
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
