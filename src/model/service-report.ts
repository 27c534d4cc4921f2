/** What is reported about services (`report.ts`): their backends as this host sees them, and how one was chosen. */
import * as z from 'zod';

/** A port of a service. */
const servicePortReport = z.object({
  /** Empty if it has none. */
  name: z.string(),
  protocol: z.enum(['TCP', 'UDP']),
  port: z.number(),
  /** Of a range: its last port. */
  lastPort: z.number().optional(),
  /** Where all hosts publish it. */
  nodePort: z.number().optional(),
});

/** How a service chooses among its backends. */
const balancing = z.enum(['maglev', 'round-robin', 'least-connections', 'random', 'source-hash']);

/** How connections are spread over backends. */
const spreadReport = z.object({
  balancing,
  trafficDistribution: z.enum(['none', 'same-node', 'same-zone']),
  maxConnections: z.number().optional(),
});

/** A backend of a service, as this host sees it. */
export const serviceBackendReport = z.object({
  /** NAMESPACE/NAME; null for an address that was written by hand. */
  endpoint: z.string().nullable(),
  address: z.string(),
  network: z.string().nullable(),
  host: z.string().nullable(),
  zone: z.string().nullable(),
  /**
   * `ready`: gets new connections. `serving`: terminates, and gets new ones only while none is ready. The others get none.
   * `ejected` and `check failed` are what this host has found out about it.
   */
  state: z.enum(['ready', 'serving', 'terminating', 'not ready', 'host down', 'ejected', 'check failed']),
  /** Why it is in that state, if that is known. */
  why: z.string().optional(),
  weight: z.number(),
  /** The subsets that it is in; missing if no rule names subsets. */
  subsets: z.array(z.string()).optional(),
  /** Its port for each port of the service, in their order; null if it does not have it. */
  ports: z.array(z.number().nullable()),
  /** How many are open now from this host. */
  connections: z.number(),
});

/** A service and its backends, as this host sees them. */
export const serviceReport = z.object({
  name: z.string(),
  namespace: z.string(),
  /** Where it is reached within the cluster, one of each family; none if it is headless. */
  addresses: z.array(z.string()),
  /** Where it is reached from outside as well (type LoadBalancer). */
  externalAddresses: z.array(z.string()),
  /** The name that its own name stands for (type ExternalName). */
  externalName: z.string().optional(),
  ports: z.array(servicePortReport),
  balancing,
  /** How long a client keeps its backend after its last new connection; missing without affinity. */
  affinityMs: z.number().optional(),
  /** How long an established connection may stay with a backend that terminates. */
  drainMs: z.number(),
  internalTrafficPolicy: z.enum(['Cluster', 'Local']),
  externalTrafficPolicy: z.enum(['Cluster', 'Local']),
  trafficDistribution: z.enum(['none', 'same-node', 'same-zone']),
  /** NAMESPACE/NAME of the DestinationRule that says how its connections are spread; missing if none does. */
  destinationRule: z.string().optional(),
  /** How many TCP connections of this host a backend may have by one port; missing without a limit. */
  maxConnections: z.number().optional(),
  /** The VirtualService, NAMESPACE/NAME, and its routes: for whom in words, and for what is missing, why it is refused. */
  virtualService: z.string().optional(),
  routes: z
    .array(
      z.object({
        matches: z.array(z.string()),
        destinations: z.array(
          z.object({
            service: z.string(),
            subset: z.string().optional(),
            port: z.number().optional(),
            weight: z.number(),
            missing: z.string().optional(),
          }),
        ),
      }),
    )
    .optional(),
  /** What the rule says for single ports, by their numbers, and for subsets; missing if it says nothing. */
  portSpreads: z.record(z.string(), spreadReport).optional(),
  subsets: z.record(z.string(), spreadReport.extend({ portSpreads: z.record(z.string(), spreadReport) })).optional(),
  backends: z.array(serviceBackendReport),
});

/** A backend that could not be chosen, and why. */
const excludedReport = z.object({
  ...serviceBackendReport.pick({ endpoint: true, address: true, host: true }).shape,
  why: z.string(),
});

/** A service that had no backend for a connection. */
export const refusedReport = z.object({
  /** NAMESPACE/NAME. */
  service: z.string(),
  /** The first of its backends, and what excludes them. */
  excluded: z.array(excludedReport),
  /** How many more there are. */
  more: z.number(),
});

/** How the backend of a connection was chosen: by what was known when it was opened. */
export const choiceReport = z.object({
  /** NAMESPACE/NAME. */
  service: z.string(),
  port: servicePortReport,
  /** The subset that the backends are in; missing if they are all of the service. */
  subset: z.string().optional(),
  /** The route that led there; missing without one. */
  route: z
    .object({
      /** The service that was asked for. */
      service: z.string(),
      virtualService: z.string(),
      destinations: z.array(
        z.object({ service: z.string(), subset: z.string().optional(), weight: z.number(), chosen: z.boolean() }),
      ),
    })
    .optional(),
  /** The method of the service, or `affinity`: the client had this backend before. */
  by: z.enum([...balancing.options, 'affinity', 'hook']),
  /** Why it was this one, in words. */
  reason: z.string(),
  candidates: z.array(
    z.object({
      ...serviceBackendReport.pick({ endpoint: true, address: true, host: true, weight: true }).shape,
      /** Its port for that port of the service; for a range, for its first port. */
      port: z.number(),
      chosen: z.boolean(),
    }),
  ),
  /** Those that could not be chosen, and why. */
  excluded: z.array(excludedReport),
});

/** What has become of something that is followed. */
export const changeType = z.enum(['ADDED', 'MODIFIED', 'DELETED']);

/** One change of `weft services --watch -o json --output-watch-events`. */
export const serviceEventReport = z.object({ type: changeType, object: serviceReport });

export type SpreadReport = z.infer<typeof spreadReport>;
export type ServiceReport = z.infer<typeof serviceReport>;
export type ServiceBackendReport = z.infer<typeof serviceBackendReport>;
export type ChoiceReport = z.infer<typeof choiceReport>;
export type ServiceEventReport = z.infer<typeof serviceEventReport>;
/** As it comes from the daemon, which does not keep what is deleted. */
export type ServiceEvent =
  | { readonly type: 'ADDED' | 'MODIFIED'; readonly object: ServiceReport }
  | { readonly type: 'DELETED'; readonly object: Pick<ServiceReport, 'name' | 'namespace'> };
/** Some of what follows services. */
export interface ServiceNews {
  readonly events: readonly ServiceEvent[];
  /** True for the last of what there was when it began. */
  readonly isListed: boolean;
}
