/**
 * A service as the switch sees it. The cluster puts it together from what is declared: the Service, its EndpointSlices
 * and the endpoints that they name, and what DestinationRules say about it. Balancing (`services.ts`) and names are made
 * of it, and of nothing else.
 *
 * It is a value: who changes anything builds another one. All addresses have 16 bytes, and are the very arrays that other
 * records of the same endpoint have, since there may be 100,000 of them.
 */
import type { Vni } from '../flow/types.ts';

export interface Service extends Spread {
  /** `NAMESPACE/NAME`. */
  readonly id: string;
  /** Where it is reached within the cluster, at most one for each family; none if it is headless. */
  readonly vips: readonly Uint8Array[];
  /** Where it is reached from outside as well, on all hosts (type LoadBalancer). */
  readonly externalAddresses: readonly Uint8Array[];
  readonly ports: readonly ServicePort[];
  /** Each once, whatever number of slices has it. They are in the same order on all hosts. */
  readonly backends: readonly Backend[];
  /** How long a client keeps its backend after its last new connection (`sessionAffinity: ClientIP`). */
  readonly affinityMs: number | undefined;
  /** `local` admits only backends of the host that the client is on, and drops if there is none. */
  readonly internalPolicy: TrafficPolicy;
  /** The same for connections from outside. */
  readonly externalPolicy: TrafficPolicy;
  /** The DestinationRule that says how its connections are spread, `NAMESPACE/NAME`; undefined if none does. */
  readonly rule: string | undefined;
  /** What it says for single ports, by their numbers: it takes the place of what holds for all of them. */
  readonly portSpreads: PortSpreads;
  /** The parts of its backends that the rule names. */
  readonly subsets: readonly Subset[];
  /** Where its connections go; undefined: to its own backends. */
  readonly routing: Routing | undefined;
  /** When a backend to which connections fail is left alone for a while; undefined: never. */
  readonly outlier: OutlierSettings | undefined;
  /** How each backend is checked, by its own host; undefined: not at all. */
  readonly check: BackendCheck | undefined;
  /** How long an established connection may stay with a backend that terminates. */
  readonly drainMs: number;
  /** The name that its own name stands for (type ExternalName); such a service is reached nowhere else. */
  readonly externalName: string | undefined;
  /** True if all names below its own mean it as well, unless they are somebody's (RFC 4592). */
  readonly hasWildcard: boolean;
}

/** When a backend is ejected because connections to it fail, and for how long. */
export interface OutlierSettings {
  /** Failures in a row that eject. */
  readonly failures: number;
  /** How long a backend has to be in the pool to be forgiven an ejection. */
  readonly intervalMs: number;
  /** The first ejection. */
  readonly baseEjectionMs: number;
  /** The largest share of the pool that is ejected at the same time; 0 ejects none. */
  readonly mostEjectedPercent: number;
  /** If a smaller share of the pool is left, there is a panic. */
  readonly leastHealthyPercent: number;
}

/** Where the connections of a service go: the first route that matches is taken. */
export interface Routing {
  /** The VirtualService, `NAMESPACE/NAME`. */
  readonly rule: string;
  readonly routes: readonly ServiceRoute[];
}

export interface ServiceRoute {
  /** One of them is enough; without any, all connections match. */
  readonly matches: readonly RouteMatch[];
  /** At least one, each with a weight above 0. */
  readonly destinations: readonly RouteDestination[];
}

/** All of it has to apply. */
export interface RouteMatch {
  /** The port of the service that the client asks for. */
  readonly l4Port: number | undefined;
  /** The namespace of the client's endpoint. */
  readonly namespace: string | undefined;
  /** Labels that the client's endpoint has, in the order of their keys. */
  readonly labels: readonly (readonly [key: string, value: string])[];
}

export interface RouteDestination {
  /** `NAMESPACE/NAME`. */
  readonly service: string;
  readonly subset: string | undefined;
  /** A port of that service; undefined: the one that the client asks for, or the only one. */
  readonly l4Port: number | undefined;
  readonly weight: number;
}

/** How connections are spread over backends. */
export interface Spread {
  readonly balancing: BalancingMethod;
  /** Which backends are preferred while there are any. */
  readonly distribution: 'none' | 'same-node' | 'same-zone';
  /**
   * How many TCP connections of this host one backend may have by one port of the service. One that has so many is no
   * candidate. Undefined: there is no limit.
   */
  readonly maxConnections: number | undefined;
}

export type PortSpreads = ReadonlyMap<number, Spread>;

/** Those backends that have its name in `Backend.subsets`. */
export interface Subset extends Spread {
  readonly name: string;
  readonly portSpreads: PortSpreads;
}

/** What holds for a port of a service, or of a subset of it. @param subset one of its own */
export function spreadOf(service: Service, { l4Port }: Pick<ServicePort, 'l4Port'>, subset?: string): Spread {
  const of = subset === undefined ? service : service.subsets.find(({ name }) => name === subset);
  return of?.portSpreads.get(l4Port) ?? of ?? service;
}

/** A health check of all backends of a service. */
export interface BackendCheck {
  readonly type: 'tcp' | 'http';
  /** For `http`. */
  readonly path: string;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Results in a row that make a backend unhealthy, and healthy again. */
  readonly failures: number;
  readonly successes: number;
  /** The port that is checked at each backend, in the order of `Service.backends`; 0 for one that is not checked. */
  readonly targets: readonly number[];
}

export type TrafficPolicy = 'cluster' | 'local';
export type BalancingMethod = 'maglev' | 'round-robin' | 'least-connections' | 'random' | 'source-hash';

export interface ServicePort {
  /** Empty if it is the only one. */
  readonly name: string;
  /** TCP or UDP. */
  readonly protocol: number;
  readonly l4Port: number;
  /** The last one of a range; otherwise the same as `l4Port`. */
  readonly lastL4Port: number;
  /** Where all hosts publish it; undefined if they do not. For a range, it is that of its first port, and the others follow. */
  readonly nodePort: number | undefined;
  /**
   * The port of each backend, in the order of `Service.backends`; 0 for one that does not have it. For a range, it is that of
   * the first port, and the others follow.
   */
  readonly targets: readonly number[];
}

export interface Backend {
  /**
   * `NAMESPACE/NAME` of the endpoint, also in the namespace `default`, where its port and policies have only `NAME` for it
   * (`idOf`); undefined for an address that was written by hand.
   */
  readonly endpoint: string | undefined;
  readonly address: Uint8Array;
  /** The network that it is in; undefined if it is in none, so that only networks with an outside reach it. */
  readonly vni: Vni | undefined;
  /** The host that it is on; undefined if that is not known. */
  readonly host: string | undefined;
  readonly zone: string | undefined;
  /** Its name below that of a headless service; undefined if it has none. */
  readonly hostname: string | undefined;
  /** `publishNotReadyAddresses` is already in these. */
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** Why it is not ready, for people; undefined if it is, if nobody has said so, or if it terminates by its label. */
  readonly whyNotReady?: string | undefined;
  /** How large its share is, beside those of the others. */
  readonly weight: number;
  /** The names of the subsets that it is in. */
  readonly subsets: readonly string[];
}
