/**
 * Services: which addresses and ports are those of services, and which backend a new connection gets.
 *
 *   set(service)            notes what has changed, in `Changes`
 *   find(address, …)        the port of a service at a VIP
 *   findPublished(…)        the port of a service that is published at a port of all hosts (`node-ports.ts`)
 *   choose(found, …)        a backend for a new connection, or why there is none; changes nothing (`service-choices.ts`)
 *   opened, closed          the connection is open, or over
 *   ended, moved            whose connections must end: their backend has gone, or had enough time to drain; or it is on
 *                           another host now, so that its replies come in elsewhere
 *
 * There may be very many services, few of which are asked for by the containers of one host. So a service is only a value
 * with its addresses until a client comes; then its port is put to work (`BalancedPort`), with numbers for its backends
 * (`backends.ts`) and what is made for each scope of clients (`balancer.ts`).
 *
 * VIPs are taken from ranges (`setRanges`), of which no address that no service has is ever anybody else's.
 *
 * Objects: `service/NAMESPACE/NAME` is everything about a service, whether it is present or absent. `vip/ADDRESS` is which
 * services have an address; it is consulted for addresses and ports at which no service is found,
 * as are `services/ranges`.
 */
import type { AddressSet } from '../flow/address-set.ts';
import { OUTSIDE, type ConnectionTuples, type ProtocolTuple } from '../flow/connection.ts';
import { bytesId } from '../flow/key.ts';
import { isIp4, type Vni } from '../flow/types.ts';
import { Affinity } from './affinity.ts';
import { balancedAt, BalancedPorts, type KnownService } from './balanced-port.ts';
import { Backends, type PinnedBackend, type RepliesIn } from './backends.ts';
import { BalancingTables, type Balancing } from './balancing-tables.ts';
import type { BackendIndex, Surroundings } from './candidates.ts';
import type { Changes } from './changes.ts';
import { ConnectionLimits, type LimitedConnections } from './connection-limits.ts';
import { isFromInside } from './connection-ways.ts';
import { Health, type Fault, type FaultKind } from './health.ts';
import { KeptChoices, type KeptChoice } from './kept-choices.ts';
import { nodePortOffset, NodePorts } from './node-ports.ts';
import { PublishedBackends } from './published-backends.ts';
import type { PortRanges } from './port-ranges.ts';
import { sameService } from './same-service.ts';
import { ServiceChoices, type Choice, type NoChoice, type RoutedEligibility } from './service-choices.ts';
import { backendId, clientId, serviceObject, type AskingClients, type ClientOrigin } from './service-keys.ts';
import { routedServices, ServiceRoutes, type RoutedClient } from './service-routes.ts';
import { addressesOf, ServiceAddresses, type FoundPort } from './service-addresses.ts';
import { frontOf, frontsOf } from './service-fronts.ts';
import { ServiceScopes } from './service-scopes.ts';
import type { Backend, RouteDestination, Service, ServicePort } from './service.ts';
import { formatPrefix, isInPrefix, type Prefix } from './routes.ts';
import type { Topology } from './topology.ts';
import { IP_UDP } from '../wire/ipv4.ts';

/** The address of a backend, and what is wrong with it; undefined: nothing. */
export type BackendFault = readonly [address: Uint8Array, detail: string | undefined];

/** The records of connections. */
export interface BalancedConnections {
  /** The table that chose the backend with that number; undefined if none did. */
  balancedAt(slot: number): { readonly table: number; readonly pin: number } | undefined;
}

export class Services {
  /** To whom packets from outside may come by other hosts. */
  readonly published: PublishedBackends;
  /**
   * By `frontOf`: what services have lost, and what addresses they have got. UDP connections through it must end if it leads
   * elsewhere now. Who has ended them clears it.
   */
  readonly redirected = new Set<string>();
  readonly #changes: Changes;
  readonly #services = new Map<string, KnownService>();
  readonly #addresses: ServiceAddresses;
  readonly #routes: ServiceRoutes;
  readonly #nodePorts: NodePorts;
  readonly #tables = new BalancingTables();
  readonly #backends = new Backends((pin) => this.#tables.connectionsTo(pin));
  readonly #health = new Health();
  readonly #ports = new BalancedPorts(this.#backends, this.#tables, this.#health, () => this.#host.name);
  readonly #affinity = new Affinity();
  readonly #kept = new KeptChoices();
  readonly #limits = new ConnectionLimits();
  #ranges: readonly Prefix[] = [];
  readonly #scopes: ServiceScopes;
  readonly #choices: ServiceChoices;
  #host: { readonly name: string | undefined; readonly zone: string | undefined } = {
    name: undefined,
    zone: undefined,
  };
  #connections: BalancedConnections | undefined;
  #isLoaded = false;

  /** @param scopesBytes the limit for Maglev tables and the like; see `scopes.ts` */
  constructor(topology: Topology, changes: Changes, scopesBytes?: number) {
    this.#changes = changes;
    this.#addresses = new ServiceAddresses(changes);
    this.#routes = new ServiceRoutes(changes, (id) => this.get(id));
    this.#nodePorts = new NodePorts(changes);
    this.published = new PublishedBackends(changes, (id) => this.get(id));
    const environment = { topology, ports: this.#ports, tables: this.#tables, health: this.#health };
    this.#scopes = new ServiceScopes(
      { ...environment, host: () => this.#host, isInRange: (address) => this.isInRange(address) },
      scopesBytes,
    );
    this.#choices = new ServiceChoices({
      routes: this.#routes,
      scopes: this.#scopes,
      tables: this.#tables,
      limits: this.#limits,
      affinity: this.#affinity,
      portOf: ({ service, port }) => this.#ports.of(this.#services.get(service.id)!, port),
    });
  }

  /** @param connections those that are reported with `opened` and `closed` */
  watch(connections: LimitedConnections): void {
    this.#limits.watch(connections);
  }

  /** Lets the datapath choose by itself, where it may. @param connections finds the choice of a connection */
  balanceWith(balancing: Balancing, connections: BalancedConnections): void {
    this.#tables.use(balancing);
    this.#connections = connections;
  }

  get size(): number {
    return this.#services.size;
  }

  /** About how much memory takes what was made for clients. */
  get scopesBytes(): number {
    return this.#scopes.lengthBytes;
  }

  *all(): Generator<Service> {
    for (const { service } of this.#services.values()) yield service;
  }

  get(id: string): Service | undefined {
    return this.#services.get(id)?.service;
  }

  // 1. What is declared

  /** Where this host is, for `local` and for backends that are near. */
  setHost(name: string | undefined, zone: string | undefined): void {
    if (this.#host.name === name && this.#host.zone === zone) return;
    this.#host = { name, zone };
    for (const known of this.#services.values()) this.#ports.renew(known);
    this.#changes.changedAll([...this.#services.keys()].map(serviceObject));
  }

  /** Says by what routes tell an endpoint of this host from others; undefined: there is none. */
  setClient(name: string, client: RoutedClient | undefined): void {
    this.#routes.setClient(name, client);
  }

  /** The addresses that VIPs are taken from. */
  setRanges(ranges: readonly Prefix[]): void {
    if (ranges.map(formatPrefix).join() === this.#ranges.map(formatPrefix).join()) return;
    this.#ranges = ranges;
    for (const known of this.#services.values()) this.#ports.renew(known);
    this.#changes.changedAll([rangesObject, ...[...this.#services.keys()].map(serviceObject)]);
  }

  /** Adds a service, or puts it in the place of the one with its id. @param nowMs begins the time to drain */
  set(service: Service, nowMs: number): void {
    const known = this.#services.get(service.id);
    if (known && sameService(known.service, service)) return;
    const added: KnownService = known ?? { service, object: serviceObject(service.id), balanced: [] };
    const before = known?.service;
    added.service = service;
    this.#services.set(service.id, added);
    this.#nodePorts.replace(before, service);
    this.published.follow(service.id, before);
    if (known) this.#changes.changed(serviceObject(service.id));
    else this.#changes.added(serviceObject(service.id));
    this.#health.keepOnly(service);
    this.#addresses.replace(before, service, added);
    this.#ports.follow(added, nowMs);
    this.#ports.claimAll(added, nowMs);
    this.#redirect(before, service);
    for (const address of addressesOf(service)) {
      // Its ports may take the place of those of another service, or leave it.
      this.#changes.changedAll(this.servicesAt(address).filter((object) => object !== serviceObject(service.id)));
    }
    this.#ports.renew(added);
  }

  /** Does nothing if there is none. */
  remove(id: string): void {
    const known = this.#services.get(id);
    if (!known) return;
    this.#services.delete(id);
    this.#addresses.replace(known.service, undefined, known);
    this.#nodePorts.replace(known.service, undefined);
    this.published.follow(id, known.service);
    this.#ports.remove(known);
    this.#health.forget(id);
    this.#changes.changed(serviceObject(id));
  }

  /** UDP has no end, and follows at once where its packets lead now. TCP stays. */
  #redirect(before: Service | undefined, after: Service): void {
    if (![before, after].some((one) => one?.ports.some(({ protocol }) => protocol === IP_UDP))) return;
    const kept = new Set(frontsOf(after));
    for (const front of before ? frontsOf(before) : []) if (!kept.has(front)) this.redirected.add(front);
    // At a start, all of them are new to this table.
    if (!this.#isLoaded) return;
    const old = new Set(before?.externalAddresses.map(bytesId));
    for (const id of after.externalAddresses.map(bytesId)) if (!old.has(id)) this.redirected.add(id);
  }

  /**
   * All services that there are have been set: connections from before a restart that belong to none of them end.
   * @param nowMs begins the time to drain
   */
  loaded(nowMs: number): void {
    this.#isLoaded = true;
    if (!this.#backends.hasUnclaimed) return;
    // Those that routes have led to other services are claimed last, when these are known.
    for (const known of this.#services.values()) {
      for (const id of routedServices(known.service)) {
        const to = this.#services.get(id);
        if (to) this.#ports.claimAll(known, nowMs, to);
      }
    }
    this.#backends.endUnclaimed();
  }

  // 2. What is known of their health

  /**
   * Says what is wrong with backends, for people, or with undefined that this is over. They get no new connections
   * meanwhile. Does nothing for those that the service does not have.
   */
  setHealth(id: string, kind: FaultKind, faults: readonly BackendFault[]): void {
    const known = this.#services.get(id);
    if (!known || faults.length === 0) return;
    const details = new Map(faults.map(([address, detail]) => [bytesId(address), detail]));
    const news = new Set<string>();
    const changed: BackendIndex[] = [];
    for (const [at, { address }] of known.service.backends.entries()) {
      const key = bytesId(address);
      if (details.has(key) && this.#health.set(id, address, kind, details.get(key))) news.add(key);
      if (news.has(key)) changed.push(at);
    }
    if (changed.length === 0) return;
    this.#ports.renew(known);
    if (kind === 'check_failed') this.#ports.followChecks(known, changed);
    this.#changes.changed(known.object);
  }

  /** True if this is wrong with it, whatever else is. */
  hasFault(id: string, backend: Backend, kind: FaultKind): boolean {
    return this.#health.has(id, backend, kind);
  }

  /** What is wrong with a backend; undefined if nothing is. */
  healthOf(id: string, backend: Backend): Fault | undefined {
    return this.#health.of(id, backend);
  }

  /** Ends affinities whose time is over. */
  expire(nowMs: number): void {
    this.#affinity.expire(nowMs);
    this.#tables.expire();
  }

  // 3. Decisions

  /** True if VIPs are taken from there. A decision consults `rangesObject`. */
  isInRange(address: Uint8Array): boolean {
    return this.#ranges.some((range) => isInPrefix(range, address));
  }

  /** All VIPs, and addresses of type LoadBalancer. */
  get vips(): AddressSet {
    return this.#addresses.all;
  }

  /** The ports that services have at an address. A decision consults `vipObject`, and `servicesAt`. */
  portsAt(address: Uint8Array, protocol: number): readonly ServicePort[] {
    return this.#addresses.portsAt(address, protocol);
  }

  /** True if a service has that address. */
  isVip(address: Uint8Array): boolean {
    return this.#addresses.has(address);
  }

  /** The port of a service there. If there is none, a decision consults `vipObject`, and `servicesAt`. */
  find(address: Uint8Array, protocol: number, l4Port: number): FoundPort | undefined {
    return this.#addresses.find(address, protocol, l4Port);
  }

  /** The port of a service that is published there on all hosts. A decision consults `nodePortObject`, whether there is one. */
  findPublished(protocol: number, l4Port: number): FoundPort | undefined {
    const owner = this.#nodePorts.ownerOf(protocol, l4Port);
    const known = owner === undefined ? undefined : this.#services.get(owner);
    for (const port of known?.service.ports ?? []) {
      const offset = nodePortOffset(port, protocol, l4Port);
      if (known && offset !== undefined) return { service: known.service, port, offset, object: known.object };
    }
    return undefined;
  }

  /** The objects of the services that have an address: they may have other ports next time. */
  servicesAt(address: Uint8Array): readonly string[] {
    return this.#addresses.objectsAt(address);
  }

  /**
   * Who may be chosen for clients in a place; none if it has a refusal. A decision consults its objects.
   * @param isV4 the family of the address that they ask for @param client the endpoint, by `idOf`
   */
  selection(found: FoundPort, from: ClientOrigin, isV4: boolean, client?: string): RoutedEligibility {
    return this.#choices.selection(found, from, isV4, client);
  }

  /**
   * Chooses a backend for a new connection. A decision consults the objects of `selection`.
   * @param from where the client is, which has sent `tuple` @param client its endpoint, by `idOf`
   */
  choose(found: FoundPort, from: ClientOrigin, tuple: ProtocolTuple, client?: string): Choice | NoChoice {
    return this.#choices.choose(found, from, tuple, client);
  }

  /**
   * The id of the table by which the datapath chooses what `choose` has chosen; undefined if there is none.
   * @param from the network of the client
   */
  tableFor(choice: Choice, from: Vni): number | undefined {
    return this.#choices.tableFor(choice, from);
  }

  // 4. Connections

  /** Notes that a connection was opened in that slot. @param from where the client is, which has sent `tuple` */
  opened(slot: number, choice: Choice, from: ClientOrigin, tuple: ProtocolTuple, nowMs: number): void {
    const { pin, by, selection, route, scope: id } = choice;
    this.#backends.opened(pin);
    this.#limits.opened(pin, slot);
    this.#kept.set(slot, { selection, pin, by, route });
    if (by !== 'affinity') {
      const scope = this.#scopes.get(id);
      if (scope) scope.position++;
    }
    const { affinityMs } = route ?? selection.service;
    if (affinityMs === undefined) return;
    const known = this.#services.get(route?.service ?? selection.service.id);
    const balanced = known && balancedAt(known, route ?? selection.port);
    if (balanced) this.#affinity.set(clientId(balanced, from, tuple.source), pin, nowMs + affinityMs);
  }

  /** Notes that it has been closed. @param pin from its record */
  closed(slot: number, pin: number): void {
    this.#kept.delete(slot);
    this.#limits.closed(pin, slot);
    this.#backends.closed(pin);
  }

  /** Notes that the end of a connection that this table has chosen will be told from now on. @param pin from its record */
  claimed(slot: number, pin: number, table: number): void {
    this.#backends.opened(pin);
    this.#limits.opened(pin, slot);
    const choice = this.#tables.choiceOf(table, pin);
    if (choice) this.#kept.set(slot, choice);
  }

  /** Notes that the record of a connection is in another slot now. @param pin from its record */
  reopened(slot: number, pin: number): void {
    this.#backends.opened(pin);
    this.#limits.opened(pin, slot);
  }

  /** Takes over a connection from before a restart, before any service is set. @param pin from its record */
  recovered({ places, protocol, original, translated }: ConnectionTuples, pin: number): void {
    const { destinationPort: l4Port } = original;
    const front = frontOf({ places, protocol, original });
    const back = { address: translated.destination, l4Port: translated.destinationPort };
    this.#backends.recover(pin, { from: places[0] as ClientOrigin, front, protocol, l4Port }, back);
  }

  /**
   * The numbers of the backends whose connections must end now. One that terminates is not among them while clients need it, and
   * one that is out while there is no other.
   */
  ended(nowMs: number): ReadonlySet<number> {
    return this.#isLoaded ? this.#backends.ended(nowMs, (pinned) => this.#isNeeded(pinned)) : none;
  }

  /** Gives no new backend this number. Call before any service is set. */
  passOver(pin: number): void {
    this.#backends.passOver(pin);
  }

  /**
   * By number: the backends that have moved to this host or away, and where their replies come in now. Connections of which
   * they come in elsewhere must end. Who has ended them clears it.
   */
  get moved(): Map<number, RepliesIn> {
    return this.#backends.moved;
  }

  /** By number: backends whose connections must end unless they go to these ports. Who has ended them clears it. */
  get strayed(): Map<number, { readonly ports: PortRanges }> {
    return this.#backends.strayed;
  }

  /** True if what its client sends would go elsewhere if it began now: to another service, to one or not to one any more. */
  leadsElsewhere(connection: ConnectionTuples): boolean {
    const { places, protocol, original, pin } = connection;
    const { destination, destinationPort } = original;
    const found =
      places[0] === OUTSIDE
        ? this.findPublished(protocol, destinationPort)
        : this.find(destination, protocol, destinationPort);
    if (pin !== undefined) return found?.service.id !== this.pinned(pin)?.service;
    return found !== undefined && isFromInside(connection);
  }

  /** When connections to further backends must end; undefined if there are none. */
  nextEndMs(nowMs: number): number | undefined {
    return this.#isLoaded ? this.#backends.nextEndMs(nowMs) : undefined;
  }

  /** Which backend has that number, with how many connections of this host. */
  pinned(pin: number): Readonly<PinnedBackend> | undefined {
    return this.#backends.of(pin);
  }

  /**
   * How many connections this host has to each backend of a service, in their order.
   * @param count how many one of its numbers stands for
   */
  connectionsOf(id: string, count: (backend: PinnedBackend) => number): readonly number[] {
    const { service, balanced = [] } = this.#services.get(id) ?? {};
    const countOf = (backend: Backend, at: BackendIndex): number =>
      balanced
        .flatMap(({ port, pinned }) => pinned.get(backendId(port, backend, at)) ?? [])
        .reduce((sum, one) => sum + count(one), 0);
    return service?.backends.map(countOf) ?? [];
  }

  /** How the backend of the connection in that slot was chosen; undefined if that is not known any more. */
  kept(slot: number): KeptChoice | undefined {
    const balanced = this.#connections?.balancedAt(slot);
    return balanced ? this.#tables.choiceOf(balanced.table, balanced.pin) : this.#kept.of(slot);
  }

  /** Whom the datapath may choose by itself for clients of a network, by a table of this number; undefined if it has none. */
  chosenBy(table: number, client: Vni): ReturnType<BalancingTables['chosenBy']> {
    return this.#tables.chosenBy(table, client);
  }

  // Scopes

  /** What the candidates of a service depend on besides it, for clients from there. */
  surroundings(id: string, from: ClientOrigin): Surroundings {
    return this.#scopes.surroundings(id, from);
  }

  /**
   * True if there is a client for whom nobody else is ready than this backend, which terminates; of one that is out, if nobody is for those
   * who ask for the port that its connections have come by.
   */
  #isNeeded({ service: id, portId, address, isOut }: PinnedBackend): boolean {
    const known = id === undefined ? undefined : this.#services.get(id);
    if (!known) return false;
    if (isOut) {
      const balanced = known.balanced.find((one) => one.id === portId);
      return !balanced || !this.#scopes.isServed(balanced, isIp4(address));
    }
    const isLedTo = (subset: string): boolean => this.isLedTo(known.service.id, subset);
    return known.balanced.some((balanced) => this.#scopes.isNeeded(balanced, address, isLedTo));
  }

  /** Which clients have asked for a service, and for which of its ports. */
  askedBy(id: string): readonly (readonly [ServicePort, AskingClients])[] {
    const { balanced = [] } = this.#services.get(id) ?? {};
    return balanced.flatMap(({ port, askedBy }) => [...askedBy.values()].map((clients) => [port, clients] as const));
  }

  /** True if routes lead to a subset. @param proposed a service with routes as it is to be; if not given, it is as it is */
  isLedTo(id: string, subset: string, proposed = (service: Service): Service | undefined => service): boolean {
    const isOne = (destination: RouteDestination): boolean =>
      destination.service === id && destination.subset === subset;
    return [...this.#services.values()].some(
      ({ service }) =>
        service.routing && proposed(service)?.routing?.routes.some(({ destinations }) => destinations.some(isOne)),
    );
  }
}

const none: ReadonlySet<number> = new Set();

/** From which addresses VIPs are taken. */
export const rangesObject = 'services/ranges';
