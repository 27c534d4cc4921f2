/**
 * Routes of a service (VirtualService): which of its connections go where, in shares of several destinations. A destination
 * is a service, often the same one, or a subset of it.
 *
 * The first route that matches is taken; connections that none matches go on as if there were no routes. A destination that
 * is not there gets its share all the same, and those connections are refused: nobody is sent elsewhere.
 */
import { IP_TCP } from '../wire/ipv4.ts';
import type { Changes } from './changes.ts';
import { isPort, type FoundPort } from './service-addresses.ts';
import type { RouteDestination, RouteMatch, Service, ServicePort, ServiceRoute } from './service.ts';

/** An endpoint of this host, as routes tell clients apart. */
export interface RoutedClient {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The route that a connection took, kept with it: not the service itself, which may be large, and change often. */
export interface TakenRoute {
  /** The id of the service that the client has asked for, and its port. */
  readonly service: string;
  readonly protocol: number;
  readonly l4Port: number;
  readonly affinityMs: number | undefined;
  /** The VirtualService. */
  readonly rule: string;
  readonly route: ServiceRoute;
  readonly destination: RouteDestination;
}

/** What a destination leads to. */
export type RoutedTo =
  | { readonly service: Service; readonly port: ServicePort; readonly offset: number }
  /** It is not there: why, following its name. */
  | { readonly missing: string };

/** The ids of the services that its routes lead to. */
export function routedServices({ routing }: Service): ReadonlySet<string> {
  return new Set(routing?.routes.flatMap(({ destinations }) => destinations.map(({ service }) => service)) ?? []);
}

export class ServiceRoutes {
  readonly #changes: Changes;
  readonly #serviceOf: (id: string) => Service | undefined;
  /** The endpoints of this host, by `idOf`. */
  readonly #clients = new Map<string, RoutedClient>();

  constructor(changes: Changes, serviceOf: (id: string) => Service | undefined) {
    this.#changes = changes;
    this.#serviceOf = serviceOf;
  }

  /** Says by what an endpoint of this host is told from others; undefined: there is none. */
  setClient(name: string, client: RoutedClient | undefined): void {
    if (client) this.#clients.set(name, client);
    else this.#clients.delete(name);
    this.#changes.changed(clientObject(name));
  }

  /** The route of connections to a port, and what that depends on. @param client the endpoint, by `idOf` */
  of({ service, port, offset, object }: FoundPort, client: string | undefined) {
    const known = client === undefined ? undefined : this.#clients.get(client);
    const asks = client !== undefined && asksForClient(service);
    return {
      route: routeOf(service, port.protocol, port.l4Port + offset, known),
      consulted: asks ? [object, clientObject(client)] : [object],
    };
  }

  /** What a destination leads to, for who asks for that port. A decision consults the service that it names. */
  to(destination: RouteDestination, { port, offset }: FoundPort): RoutedTo {
    return routedTo(destination, this.#serviceOf(destination.service), port.l4Port + offset);
  }
}

/**
 * The route of connections to a port of a service. @param l4Port the number that the client asks for
 * @param client undefined if it is not known: then it has no labels
 */
export function routeOf(
  { routing }: Service,
  protocol: number,
  l4Port: number,
  client: RoutedClient | undefined,
): ServiceRoute | undefined {
  if (!routing || protocol !== IP_TCP) return undefined;
  return routing.routes.find(
    ({ matches }) => matches.length === 0 || matches.some((one) => isMatch(one, l4Port, client)),
  );
}

/** True if it depends on the client's endpoint which route its connections take. */
export function asksForClient({ routing }: Service): boolean {
  const matches = routing?.routes.flatMap((route) => route.matches) ?? [];
  return matches.some(({ namespace, labels }) => namespace !== undefined || labels.length > 0);
}

function isMatch(match: RouteMatch, l4Port: number, client: RoutedClient | undefined): boolean {
  if (match.l4Port !== undefined && match.l4Port !== l4Port) return false;
  if (match.namespace !== undefined && match.namespace !== client?.namespace) return false;
  return match.labels.every(
    ([key, value]) => client !== undefined && Object.hasOwn(client.labels, key) && client.labels[key] === value,
  );
}

/** @param service that of the destination; undefined if there is none @param asked the port that the client asks for */
export function routedTo({ subset, l4Port }: RouteDestination, service: Service | undefined, asked: number): RoutedTo {
  if (!service) return { missing: 'does not exist' };
  if (subset !== undefined && !service.subsets.some(({ name }) => name === subset)) {
    return { missing: `has no subset ${subset}: no DestinationRule names it` };
  }
  const ports = service.ports.filter(({ protocol }) => protocol === IP_TCP);
  const wanted = l4Port ?? asked;
  const port = ports.find((one) => isPort(one, IP_TCP, wanted));
  if (port) return { service, port, offset: wanted - port.l4Port };
  const [only, ...others] = ports;
  const isOnly = l4Port === undefined && only && others.length === 0 && only.l4Port === only.lastL4Port;
  return isOnly ? { service, port: only, offset: 0 } : { missing: `has no TCP port ${wanted}` };
}

/** Which endpoint of this host has which labels, whether it is known or not. @param name by `idOf` */
export function clientObject(name: string): string {
  return `client/${name}`;
}
