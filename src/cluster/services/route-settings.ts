/** What a VirtualService says about a service, as the tables have it. */
import type { VirtualServiceResource } from '../../model/kinds/virtual-service.ts';
import { serviceOf } from '../../model/service-host.ts';
import type { Routing, ServiceRoute } from '../../table/service.ts';

export function routingOf(rule: VirtualServiceResource | undefined): Routing | undefined {
  if (!rule) return undefined;
  const { metadata, spec } = rule;
  const routes = spec.tcp.map(({ match, route }): ServiceRoute => {
    const only = route.length === 1;
    return {
      matches: match.map(({ port, sourceNamespace, sourceLabels = {} }) => ({
        l4Port: port,
        namespace: sourceNamespace,
        labels: Object.entries(sourceLabels).sort(([a], [b]) => (a < b ? -1 : 1)),
      })),
      destinations: route
        // A single one gets everything, whatever its weight.
        .map(({ destination, weight = 0 }) => ({ destination, weight: only ? 1 : weight }))
        .filter(({ weight }) => weight > 0)
        .map(({ destination: { host, subset, port }, weight }) => {
          const { name, namespace } = serviceOf(host, metadata.namespace);
          return { service: `${namespace}/${name}`, subset, l4Port: port?.number, weight };
        }),
    };
  });
  return { rule: `${metadata.namespace}/${metadata.name}`, routes };
}
