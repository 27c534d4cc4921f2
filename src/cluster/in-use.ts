/** What keeps a resource from being removed or changed: others that need it as it is. */
import { WeftError } from '../error.ts';
import type { Kind, Resource } from '../model/resource.ts';
import type { Endpoints } from './endpoints.ts';
import type { Hosts } from './hosts.ts';
import type { Networks } from './networks.ts';

/** Names in a message. */
const MOST_NAMED = 5;

/** @throws WeftError `not_found` without such a resource, `conflict` when endpoints need it */
export function refuseInUse(
  kind: Kind,
  name: string,
  { networks, hosts, endpoints }: { networks: Networks; hosts: Hosts; endpoints: Endpoints },
): void {
  switch (kind) {
    case 'Network':
      refuseUsed(kind, name, endpoints.of(networks.get(name).name));
      return;
    case 'Host':
      hosts.get(name);
      refuseUsed(
        kind,
        name,
        endpoints.all().filter((endpoint) => endpoint.resource.spec.host === name),
      );
      return;
    case 'Endpoint':
      endpoints.get(name);
      return;
    default:
      kind satisfies never;
  }
}

function refuseUsed(kind: Kind, name: string, users: readonly { readonly name: string }[]): void {
  if (users.length === 0) return;
  const names = users.slice(0, MOST_NAMED).map((endpoint) => endpoint.name);
  const more = users.length > names.length ? ` and ${users.length - names.length} more` : '';
  throw new WeftError(
    'conflict',
    `${kind.toLowerCase()} "${name}" has endpoints (${names.join(', ')}${more}): detach them first`,
  );
}

/** Without the outside of their network, ports would be published no more. @throws WeftError('conflict') */
export function refusePublished(resource: Resource, endpoints: Endpoints): void {
  if (resource.kind !== 'Network' || resource.spec.outside) return;
  const { name } = resource.metadata;
  const publishing = endpoints.of(name).filter((endpoint) => endpoint.resource.spec.publish.length > 0);
  if (publishing.length === 0) return;
  throw new WeftError(
    'conflict',
    `network "${name}": ports of its endpoints are published (${publishing.map((endpoint) => endpoint.name).join(', ')}): its outside stays until they are not`,
  );
}
