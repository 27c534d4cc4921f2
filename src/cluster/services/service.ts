/** A Service of the cluster: what was declared, and what was allotted to it. */
import {
  HEADLESS,
  isHeadless,
  isPublished,
  loadBalancerIpsOf,
  type ServiceAllotted,
  type ServiceResource,
} from '../../model/kinds/service.ts';
import type { Resource } from '../../model/resource.ts';
import type { Declared } from '../reconciler.ts';

export interface DeclaredService extends Declared<ServiceResource> {
  readonly allotted: ServiceAllotted;
}

/** What it has in the cluster for itself. */
export function addressesOf({ resource, allotted }: DeclaredService): readonly string[] {
  return [...allotted.clusterIps, ...loadBalancerIpsOf(resource)];
}

export function nodePortsOf({ allotted }: DeclaredService): readonly string[] {
  return allotted.nodePorts.filter((port) => port !== 0).map(String);
}

/** Its selector; undefined if others say what is behind it. */
export function selectorOf({ spec }: ServiceResource): Readonly<Record<string, string>> | undefined {
  const { selector, type } = spec;
  return type === 'ExternalName' || selector === undefined || Object.keys(selector).length === 0 ? undefined : selector;
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
  if (spec.type !== 'LoadBalancer') return shown;
  const status = { loadBalancer: outside.length === 0 ? {} : { ingress: outside.map((ip) => ({ ip })) } };
  return { ...shown, status } as Resource;
}

/** A headless service without a selector may be of either family: who writes its slices decides. */
export function defaultPolicy(resource: ServiceResource): 'SingleStack' | 'RequireDualStack' {
  return isHeadless(resource.spec) && selectorOf(resource) === undefined ? 'RequireDualStack' : 'SingleStack';
}
