/** A Service of the cluster: what was declared, and what was allotted to it. */
import {
  HEADLESS,
  isHeadless,
  isPublished,
  loadBalancerIpsOf,
  type ServiceAllotted,
  type ServiceResource,
  type ServiceStatus,
} from '../../model/kinds/service.ts';
import { HEALTH_CHECK, HEALTH_CHECK_PORT } from '../../model/health-check.ts';
import { quote } from '../../model/value.ts';
import { readAnnotations, type PortRange } from '../../model/service-annotations.ts';
import type { Resource } from '../../model/resource.ts';
import type { Declared } from '../reconciler.ts';

export interface DeclaredService extends Declared<ServiceResource> {
  readonly allotted: ServiceAllotted;
}

/** What it has in the cluster for itself. */
export function addressesOf({ resource, allotted }: DeclaredService): readonly string[] {
  return [...allotted.clusterIps, ...loadBalancerIpsOf(resource)];
}

export function nodePortsOf({ resource, allotted: { nodePorts } }: DeclaredService): readonly string[] {
  const { ports } = resource.spec;
  const { ranges } = readAnnotations(resource.metadata.annotations);
  return nodePorts
    .flatMap((port, at) => (port === 0 ? [] : numbers(port, countOf(ranges[at - ports.length]))))
    .map(String);
}

function numbers(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, at) => first + at);
}

/** How many ports there are in a range. */
export function countOf(range: PortRange | undefined): number {
  return range ? range.last - range.first + 1 : 1;
}

/** Its selector; undefined if others say what is behind it. */
export function selectorOf({ spec }: ServiceResource): Readonly<Record<string, string>> | undefined {
  const { selector, type } = spec;
  return type === 'ExternalName' || selector === undefined || Object.keys(selector).length === 0 ? undefined : selector;
}

/** About a service that asks for checks if none of its backends has the port that is to be checked. */
export function uncheckedText({ metadata, spec }: ServiceResource): string {
  const named = metadata.annotations?.[HEALTH_CHECK_PORT];
  const first = spec.ports.find(({ protocol }) => protocol === 'TCP');
  const field = named === undefined ? HEALTH_CHECK : HEALTH_CHECK_PORT;
  const port = quote(String(named ?? first?.targetPort ?? first?.port));
  return `${field}: none of its backends has the TCP port ${port} among its \`ports\`: nothing checks them`;
}

/** As declared, with what weft allotted: as Kubernetes shows it. It can be applied again, and changes nothing then. */
export function shownService({ resource, allotted }: Pick<DeclaredService, 'resource' | 'allotted'>): Resource {
  const { spec } = resource;
  if (spec.type === 'ExternalName') return resource;
  const { clusterIps, ipFamilies, nodePorts } = allotted;
  const clusterIPs = isHeadless(resource.spec) ? [HEADLESS] : [...clusterIps];
  const outside = loadBalancerIpsOf(resource);
  const shown = {
    ...resource,
    spec: {
      ...spec,
      ports: spec.ports.map((port, at) => ({ ...port, ...(nodePorts[at] && { nodePort: nodePorts[at] }) })),
      clusterIP: clusterIPs[0],
      clusterIPs,
      ipFamilies: [...ipFamilies],
      ipFamilyPolicy: spec.ipFamilyPolicy ?? defaultPolicy(resource),
      ...(isPublished(spec) && { externalTrafficPolicy: spec.externalTrafficPolicy ?? 'Cluster' }),
    },
  };
  const ranges = nodePortRanges(resource, nodePorts);
  if (spec.type !== 'LoadBalancer' && ranges.length === 0) return shown;
  const ingress = outside.map((ip) => ({ ip }));
  const status: ServiceStatus = {
    ...(spec.type === 'LoadBalancer' && { loadBalancer: ingress.length === 0 ? {} : { ingress } }),
    ...(ranges.length > 0 && { nodePorts: ranges }),
  };
  return { ...shown, status } as Resource;
}

/** As text, in the order of the ranges: `31000-31100`. */
function nodePortRanges({ metadata, spec }: ServiceResource, nodePorts: readonly number[]): string[] {
  const { ranges } = readAnnotations(metadata.annotations);
  return ranges.flatMap((range, at) => {
    const first = nodePorts[spec.ports.length + at];
    return first ? `${first}-${first + countOf(range) - 1}` : [];
  });
}

/** A headless service without a selector may be of either family: who writes its slices decides. */
export function defaultPolicy(resource: ServiceResource): 'SingleStack' | 'RequireDualStack' {
  return isHeadless(resource.spec) && selectorOf(resource) === undefined ? 'RequireDualStack' : 'SingleStack';
}
