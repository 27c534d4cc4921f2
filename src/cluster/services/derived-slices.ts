/**
 * The EndpointSlices that weft makes of the selector of a service, as Kubernetes would: for people, and for programs that read
 * them. Every host makes them of what it knows, and nobody stores them.
 *
 * A slice has one set of ports, so endpoints that name different ports are in different slices.
 */
import { familyOf, type Family } from '../../model/kinds/service.ts';
import { MANAGED_BY, MANAGED_BY_WEFT, SERVICE_NAME } from '../../model/kinds/endpoint-slice.ts';
import { WEFT_V1 } from '../../model/kinds/kind.ts';
import type { Resource } from '../../model/resource.ts';
import type { Service } from '../../table/service.ts';
import { formatIp } from '../../flow/types.ts';
import { nameOf } from '../../model/resource.ts';

/** As many as the slices of Kubernetes have. */
const ENDPOINTS_PER_SLICE = 100;

/** The name of a slice that is made: that of its service, and which one it is. */
const MADE = /^(.+)-weft-ipv[46]-\d+$/;

/** The service that a slice with this name would be made of; undefined if none would. */
export function serviceOfMade(name: string): string | undefined {
  return MADE.exec(name)?.[1];
}

/**
 * @param value of the service, with the backends that its selector matches, and no others
 * @param declared how many ports it declares: what follows are ranges, which are weft's own
 */
export function derivedSlices(value: Service, families: readonly Family[], declared: number): Resource[] {
  const { namespace, name } = nameOf(value.id);
  const service = { ...value, ports: value.ports.slice(0, declared) };
  return families.flatMap((family) => {
    const groups = new Map<string, number[]>();
    for (const [at, { address }] of service.backends.entries()) {
      if (familyOf(formatIp(address)) !== family) continue;
      const key = service.ports.map(({ targets }) => targets[at]).join();
      const group = groups.get(key);
      if (group) group.push(at);
      else groups.set(key, [at]);
    }
    // Also a service without endpoints has a slice, which says so.
    const all = groups.size === 0 ? [[]] : [...groups.values()];
    const chunks = all.flatMap((group) => {
      const count = Math.max(1, Math.ceil(group.length / ENDPOINTS_PER_SLICE));
      return Array.from({ length: count }, (_, n) =>
        group.slice(n * ENDPOINTS_PER_SLICE, (n + 1) * ENDPOINTS_PER_SLICE),
      );
    });
    return chunks.map((chunk, n) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: `${name}-weft-${family.toLowerCase()}-${n + 1}`,
        namespace,
        labels: { [SERVICE_NAME]: name, [MANAGED_BY]: MANAGED_BY_WEFT },
      },
      addressType: family,
      endpoints: chunk.map((at) => endpointOf(service, at)),
      ports: portsOf(service, chunk[0]),
    }));
  });
}

function endpointOf({ backends }: Service, at: number): object {
  const { endpoint, address, hostname, host, zone, ready, serving, terminating } = backends[at]!;
  const target = endpoint === undefined ? undefined : nameOf(endpoint);
  return {
    addresses: [formatIp(address)],
    conditions: { ready, serving, terminating },
    ...(hostname !== undefined && { hostname }),
    ...(host !== undefined && { nodeName: host }),
    ...(zone !== undefined && { zone }),
    ...(target && { targetRef: { apiVersion: WEFT_V1, kind: 'Endpoint', ...target } }),
  };
}

/** @param at one of the endpoints of the slice, all of which have the same ports */
function portsOf({ ports }: Service, at: number | undefined): object[] {
  return ports.flatMap(({ name, protocol, targets }) => {
    const port = at === undefined ? 0 : targets[at]!;
    return port === 0 ? [] : [{ name, protocol: protocol === 17 ? 'UDP' : 'TCP', port }];
  });
}
