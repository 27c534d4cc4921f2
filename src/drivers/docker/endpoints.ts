/**
 * The endpoints of this host that are Docker's, by what Docker calls them. An annotation says whose one is, so that this lives
 * and goes with it:
 *
 *   held SUBNET            an address that Docker has asked for (cluster/endpoint.ts), with `afterwards` if it gives it back next
 *   NETWORK/ENDPOINT       Docker's ids
 */
import { isCarried, isHere, type Endpoint } from '../../cluster/endpoint.ts';
import { DOCKER } from '../../model/endpoint-annotations.ts';
import type { EndpointRef } from './protocol.ts';

export class DockerEndpoints {
  readonly #byAddress = new Map<string, string>();
  readonly #byId = new Map<string, string>();

  /** An endpoint has come, changed or gone. */
  endpointChanged(before: Endpoint | undefined, after: Endpoint | undefined): void {
    if (before && isOurs(before)) this.#leave(before);
    if (after && isOurs(after)) this.#enter(after);
  }

  /** The name of the endpoint that has an address in one of weft's networks. */
  at(network: string, address: string): string | undefined {
    return this.#byAddress.get(`${network} ${address}`);
  }

  /** The name of the endpoint that Docker means. */
  find(ref: EndpointRef): string | undefined {
    return this.#byId.get(idText(ref));
  }

  #enter({ name, resource, addresses }: Endpoint): void {
    for (const address of addresses) this.#byAddress.set(`${resource.spec.network} ${address}`, name);
    this.#byId.set(resource.metadata.annotations![DOCKER]!, name);
  }

  #leave({ name, resource, addresses }: Endpoint): void {
    for (const address of addresses) removeIf(this.#byAddress, `${resource.spec.network} ${address}`, name);
    removeIf(this.#byId, resource.metadata.annotations![DOCKER]!, name);
  }
}

/** What the annotation says of an endpoint of Docker's. */
export function idText({ NetworkID, EndpointID }: EndpointRef): string {
  return `${NetworkID}/${EndpointID}`;
}

/** Of this host, and Docker's. */
export function isOurs(endpoint: Endpoint): boolean {
  return isHere(endpoint) && isCarried(endpoint.resource);
}

function removeIf(map: Map<string, string>, key: string, name: string): void {
  if (map.get(key) === name) map.delete(key);
}
