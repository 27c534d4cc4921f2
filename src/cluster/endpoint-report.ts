/** An endpoint as `weft endpoints` and `weft get` show it. */
import type { EndpointReport } from '../model/report.ts';
import type { Resource } from '../model/resource.ts';
import { isHolder, type Endpoint } from './endpoint.ts';
import { PENDING } from './reconciler.ts';

export interface EndpointSurroundings {
  /** The name of this host. */
  readonly hostName: string;
  /** The MTU of its network. */
  readonly mtu: number | undefined;
  /** The current path of the namespace with its interface. */
  readonly netns?: string;
  readonly ifname?: string;
  readonly problems: readonly string[];
}

export function endpointReport(
  { resource, revision, addresses, mac, state, host, local }: Endpoint,
  { hostName, mtu, netns, ifname, problems }: EndpointSurroundings,
): EndpointReport {
  const { spec, metadata } = resource;
  return {
    name: metadata.name,
    namespace: metadata.namespace,
    labels: metadata.labels,
    network: spec.network,
    addresses: [...addresses],
    mac,
    state,
    host: host ?? hostName,
    ...(local && {
      netns: netns ?? local.netns.path,
      interface: ifname ?? spec.interface,
      ...(mtu !== undefined && { mtu }),
      ...(state === 'attached' && { port: local.portNo }),
    }),
    ...(revision < 0 && { pending: PENDING }),
    ...(isHolder(resource) && { held: true }),
    ...(problems.length > 0 && { problems: [...problems] }),
    trust: spec.trust,
    ...(spec.ports && { ports: spec.ports }),
    publish: spec.publish.map(({ hostIP, ...one }) => ({ ...one, ...(hostIP !== undefined && { hostIP }) })),
    ...(spec.rateLimit && { rateLimit: spec.rateLimit }),
  };
}

/**
 * As declared, with what weft allotted. A namespace means one of the host that declares it, so another host shows where it
 * is instead.
 */
export function shownEndpoint({ resource, addresses, mac, host }: Endpoint): Resource {
  const { netns, pid, ...spec } = resource.spec;
  const place = host !== undefined ? { host } : netns !== undefined ? { netns } : { pid };
  return { ...resource, spec: { ...spec, ...place, addresses: [...addresses], mac } };
}
