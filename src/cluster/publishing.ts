/** The ports of this host that lead to its endpoints: what may be published, and what is. */
import { WeftError } from '../error.ts';
import { protocolNumber } from '../flow/connection.ts';
import { isIp4, parseIp, type Vni } from '../flow/types.ts';
import { findListener } from '../link/listeners.ts';
import {
  addressOf,
  familiesOf,
  isSamePort,
  portText,
  type PortProtocol,
  type PublishedPort,
  type PublishSpec,
} from '../model/publish.ts';
import type { EndpointResource } from '../model/kinds/endpoint.ts';
import { publishedId, type Published } from '../table/topology.ts';
import type { NetworkResource } from '../model/kinds/network.ts';
import { isPublished, type ServiceResource } from '../model/kinds/service.ts';
import { idOf, type Resource } from '../model/resource.ts';
import type { Endpoint } from './endpoint.ts';
import type { Network } from './network.ts';

/**
 * A port of this host and its target. Traffic arrives at weft's transit address with the same port number and goes on
 * to the endpoint.
 */
export interface PublishedEndpointPort extends PublishedPort {
  readonly endpoint: string;
  readonly network: string;
  /** The endpoint's address of this family. */
  readonly address: string;
  readonly l4Port: number;
}

/**
 * One entry for each family in which the endpoint has an address, but none for what is the node port of a service.
 * @param endpoint one of this host
 */
export function publishedBy(
  { name, resource, addresses }: Endpoint,
  nodePortBefore: (port: number, protocol: PortProtocol) => string | undefined,
): PublishedEndpointPort[] {
  return resource.spec.publish.flatMap((one) => {
    if (nodePortBefore(one.hostPort, one.protocol) !== undefined) return [];
    const hostIp = addressOf(one);
    return familiesOf(one).flatMap((family) => {
      const address = addresses.find((ip) => familyOf(ip) === family);
      if (address === undefined) return [];
      const { protocol, hostPort, port: l4Port } = one;
      const on = hostIp === undefined ? {} : { hostIp };
      return [{ family, protocol, hostPort, ...on, endpoint: name, network: resource.spec.network, address, l4Port }];
    });
  });
}

/**
 * @param ips one address of each family in which the endpoint has, or will have, addresses
 * @throws WeftError `invalid` without an outside or an address of the family, `conflict` if another endpoint of this
 * host publishes the port, or a service does on all hosts
 */
export function refusePublish(
  { metadata, spec: { publish } }: EndpointResource,
  network: Network,
  ips: readonly string[],
  others: {
    readonly endpoints: () => readonly Endpoint[];
    /** The service that has a node port on every host. */
    readonly nodePortOwner: (port: number) => string | undefined;
  },
): void {
  if (publish.length === 0) return;
  const name = idOf(metadata);
  if (!network.resource.spec.outside) {
    throw new WeftError(
      'invalid',
      `endpoint "${name}": publish: network "${network.name}" has no outside: create it with --outside, or apply it with spec.outside: true`,
    );
  }
  const families = ips.map(familyOf);
  for (const one of publish) {
    if (!familiesOf(one).some((family) => families.includes(family))) {
      throw new WeftError(
        'invalid',
        `endpoint "${name}": publish: ${portText(one)} is published on ${one.hostIP}, but the endpoint has no IPv${familiesOf(one)[0]} address`,
      );
    }
    const service = others.nodePortOwner(one.hostPort);
    if (service !== undefined) {
      throw new WeftError(
        'conflict',
        `endpoint "${name}": host port ${portText(one)} is the node port of service "${service}" already`,
      );
    }
    const owner = others
      .endpoints()
      .find((other) => other.name !== name && other.resource.spec.publish.some((its) => isSamePort(its, one)));
    if (owner) {
      throw new WeftError(
        'conflict',
        `endpoint "${name}": host port ${portText(one)} is published by endpoint "${owner.name}" already`,
      );
    }
  }
}

/**
 * Refuses a port on which a program of the host listens (sshd, for example): it could no longer be reached.
 * @param before what the endpoint publishes already
 * @throws WeftError('conflict')
 */
export function refuseListeners({ metadata, spec }: EndpointResource, before: readonly PublishSpec[] = []): void {
  for (const one of spec.publish) {
    if (before.some((other) => isSamePort(one, other))) continue;
    for (const family of familiesOf(one)) {
      const listener = findListener({ protocol: one.protocol, l4Port: one.hostPort, family, ip: addressOf(one) });
      if (listener === undefined) continue;
      throw new WeftError(
        'conflict',
        `endpoint "${metadata.name}": a program of this host uses port ${portText(one)} on ${listener}: publish another, or stop it`,
      );
    }
  }
}

function familyOf(ip: string): 4 | 6 {
  return isIp4(parseIp(ip)) ? 4 : 6;
}

/**
 * The published ports as the switch needs them: by port of the transit address. @param vniOf gives the VNI of a network
 * name
 */
export function publishedPorts(
  ports: readonly PublishedEndpointPort[],
  vniOf: (network: string) => Vni,
): ReadonlyMap<string, Published> {
  const published = new Map<string, Published>();
  for (const { protocol, hostPort, endpoint, network, address, l4Port } of ports) {
    const id = publishedId(protocolNumber(protocol), hostPort);
    const addresses = [...(published.get(id)?.addresses ?? []), parseIp(address)];
    published.set(id, { endpoint, vni: vniOf(network), addresses, l4Port });
  }
  return published;
}

/** True for a network with an outside, and for a service that clients there reach. */
export function wantsOutside(resource: Resource): boolean {
  if (resource.kind === 'Network') return (resource as NetworkResource).spec.outside;
  return resource.kind === 'Service' && publishes(resource);
}

/** True if it has ports that are published. */
export function publishes(resource: Resource): boolean {
  if (resource.kind === 'Service') return isPublished((resource as ServiceResource).spec);
  return resource.kind === 'Endpoint' && (resource as EndpointResource).spec.publish.length > 0;
}
