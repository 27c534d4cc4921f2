/**
 * Choices: which backend a new connection gets, or why it gets none.
 *
 *   1. the route that the connection takes, if the service has any, and one of its destinations by weight
 *   2. the scope of the client: who may be chosen for it (`service-scopes.ts`)
 *   3. the backend that the client had last, or one by the method of the service (`balancer.ts`)
 *   4. another one if that has as many connections as it may have (`connection-limits.ts`)
 *
 * Choosing changes nothing: what was opened is noted by `Services`.
 */
import type { ProtocolTuple } from '../flow/connection.ts';
import { isIp4, type Vni } from '../flow/types.ts';
import type { Affinity } from './affinity.ts';
import type { BalancedPort } from './balanced-port.ts';
import type { BackendSelection, Eligibility } from './balancer.ts';
import { isBalancedByTable, nobodyIn, pick, routeHash, weighted, withoutFull } from './balancer.ts';
import type { BalancingTables } from './balancing-tables.ts';
import type { ConnectionLimits } from './connection-limits.ts';
import type { KeptChoice } from './kept-choices.ts';
import type { FoundPort } from './service-addresses.ts';
import { clientId, serviceObject, type ClientOrigin } from './service-keys.ts';
import type { ServiceRoutes, TakenRoute } from './service-routes.ts';
import type { PortScope, ServiceScopes } from './service-scopes.ts';
import { spreadOf, type Backend, type RouteDestination, type ServiceRoute } from './service.ts';

/** The backend of a new connection, to be opened with it. */
export interface Choice extends KeptChoice {
  readonly kind: 'backend';
  readonly backend: Backend;
  /** Its port, for the port that the client asked for. */
  readonly l4Port: number;
  /** The scope that it was chosen in. */
  readonly scope: string;
}

/** None: only other hosts have one (`local`), nobody has, all are full, or a route leads to what is not there. */
export interface NoChoice {
  readonly kind: 'none';
  readonly why: NonNullable<BackendSelection['refusal']> | 'full';
  /** Of a route that leads to what is not there. */
  readonly detail?: string;
  readonly selection: BackendSelection;
  /** The route that leads to a service which has none. */
  readonly route?: KeptChoice['route'];
}

/** With the route, if it leads to one place alone. */
export type RoutedEligibility = Eligibility & Pick<NoChoice, 'route'>;

export interface ServiceChoicesEnvironment {
  readonly routes: ServiceRoutes;
  readonly scopes: ServiceScopes;
  readonly tables: BalancingTables;
  readonly limits: ConnectionLimits;
  readonly affinity: Affinity;
  /** Puts a port to work. */
  readonly portOf: (found: Pick<FoundPort, 'service' | 'port'>) => BalancedPort;
}

export class ServiceChoices {
  readonly #environment: ServiceChoicesEnvironment;

  constructor(environment: ServiceChoicesEnvironment) {
    this.#environment = environment;
  }

  /**
   * Who may be chosen for clients in a place; none if it has a refusal. A decision consults its objects.
   * @param isV4 the family of the address that they ask for @param client the endpoint, by `idOf`
   */
  selection(found: FoundPort, from: ClientOrigin, isV4: boolean, client?: string): RoutedEligibility {
    const { routes } = this.#environment;
    const { route, consulted } = routes.of(found, client);
    if (!route) {
      const { selection } = this.#scopeOf(found, { from, isV4 });
      return consulted.length === 1 ? selection : { ...selection, consulted: [...consulted, ...selection.consulted] };
    }
    const ways = route.destinations.map((destination) => {
      const to = routes.to(destination, found);
      const scope = 'missing' in to ? undefined : this.#scopeOf(to, { from, isV4, subset: destination.subset });
      return { objects: [serviceObject(destination.service), ...(scope?.selection.consulted ?? [])], scope };
    });
    const [first, ...others] = ways.map(({ scope }) => (scope ? scope.selection.refusal : 'no_route'));
    const refusal = others.every((other) => other === first) ? first : undefined;
    const excluded = refusal ? ways.flatMap(({ scope }) => scope?.selection.excluded ?? []) : [];
    const [only, ...more] = route.destinations;
    return {
      consulted: [...new Set([...consulted, ...ways.flatMap(({ objects }) => objects)])],
      ...{ refusal, excluded },
      route: more.length === 0 && first !== 'no_route' ? takenRoute(found, route, only!) : undefined,
    };
  }

  /**
   * Chooses a backend for a new connection. A decision consults the objects of `selection`.
   * @param from where the client is, which has sent `tuple` @param client its endpoint, by `idOf`
   */
  choose(found: FoundPort, from: ClientOrigin, tuple: ProtocolTuple, client?: string): Choice | NoChoice {
    const { routes } = this.#environment;
    const { service, port } = found;
    const { route } = routes.of(found, client);
    const isV4 = isIp4(tuple.destination);
    const last = this.#lastOf(found, from, tuple);
    if (!route) {
      const scope = this.#scopeOf(found, { from, isV4 });
      return this.#chooseIn(scope, tuple, last, { offset: found.offset, affinityMs: service.affinityMs, route });
    }
    const isByClient = service.affinityMs !== undefined || spreadOf(service, port).balancing === 'source-hash';
    const isOfLast = (destination: RouteDestination): boolean => {
      const to = routes.to(destination, found);
      if (last === undefined || 'missing' in to) return false;
      const { selection } = this.#scopeOf(to, { from, isV4, subset: destination.subset });
      return selection.candidates.some(({ pinned }) => pinned.pin === last);
    };
    const destination = route.destinations.find(isOfLast) ?? weighted(route.destinations, routeHash(tuple, isByClient));
    const to = routes.to(destination, found);
    if ('missing' in to) {
      const why = `${service.routing!.rule} leads to service ${destination.service}, which ${to.missing}`;
      return { kind: 'none', why: 'no_route', detail: why, selection: nobodyIn(found) };
    }
    const scope = this.#scopeOf(to, { from, isV4, subset: destination.subset });
    const taken = takenRoute(found, route, destination);
    return this.#chooseIn(scope, tuple, last, { offset: to.offset, affinityMs: service.affinityMs, route: taken });
  }

  #chooseIn(
    scope: PortScope,
    tuple: ProtocolTuple,
    last: number | undefined,
    { offset, affinityMs, route }: Pick<KeptChoice, 'route'> & { offset: number; affinityMs: number | undefined },
  ): Choice | NoChoice {
    const { scopes, limits } = this.#environment;
    const { selection } = scope;
    const { candidates, spread, refusal } = selection;
    if (refusal) return { kind: 'none', why: refusal, selection, route };
    const { balancing } = spread;
    const kept = last === undefined ? undefined : candidates.find(({ pinned }) => pinned.pin === last);
    // Chosen by its address, a client mostly has the same one again, even if it has been forgotten.
    const method = affinityMs !== undefined && balancing === 'maglev' ? 'source-hash' : balancing;
    const first = kept ?? pick(scope, tuple, method);
    // It may have got a table.
    scopes.use(scope);
    const found = limits.choose(first, scope, tuple, method);
    if (!found)
      return { kind: 'none', why: 'full', selection: withoutFull(selection, [], spread.maxConnections!), route };
    const { backend, target, pinned } = found.candidate;
    const by = found.candidate === kept ? 'affinity' : balancing;
    return {
      kind: 'backend',
      backend,
      l4Port: target + offset,
      pin: pinned.pin,
      by,
      selection: found.selection,
      route,
      scope: scope.id,
    };
  }

  /**
   * The id of the table by which the datapath chooses what `choose` has chosen; undefined if there is none.
   * @param from the network of the client
   */
  tableFor(choice: Choice, from: Vni): number | undefined {
    const { scopes, tables } = this.#environment;
    const scope = scopes.get(choice.scope);
    if (scope?.selection !== choice.selection || !isBalancedByTable(choice)) return undefined;
    // The service has changed in the meantime, or has gone.
    if (scope.balanced.version !== scope.version) return undefined;
    if (scope.balancing === undefined) {
      scope.balancing = tables.add(scope, from);
      if (scope.balancing !== undefined) scope.balanced.tables.add(scope.balancing);
      scopes.use(scope);
    }
    return scope.balancing;
  }

  #scopeOf(
    found: Pick<FoundPort, 'service' | 'port'>,
    { from, isV4, subset }: { from: ClientOrigin; isV4: boolean; subset?: string | undefined },
  ): PortScope {
    const { portOf, scopes } = this.#environment;
    return scopes.of(portOf(found), { from, isV4, subset });
  }

  /** The number of the backend that the client had last. */
  #lastOf(found: FoundPort, from: ClientOrigin, { source }: ProtocolTuple): number | undefined {
    if (found.service.affinityMs === undefined) return undefined;
    const { affinity, portOf } = this.#environment;
    return affinity.of(clientId(portOf(found), from, source));
  }
}

function takenRoute({ service, port }: FoundPort, route: ServiceRoute, destination: RouteDestination): TakenRoute {
  const { id, affinityMs, routing } = service;
  const { protocol, l4Port } = port;
  return { service: id, protocol, l4Port, affinityMs, rule: routing!.rule, route, destination };
}
