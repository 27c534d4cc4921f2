/**
 * Forwarding: one datapath, the tables, and the controller between them.
 *
 *   frame → datapath → miss → controller → decide(tables) → flow → datapath
 *
 * This is the whole switch without its surroundings: it has no store and no namespaces, and gets clock
 * and randomness from its caller. `switch.ts` runs it on a host, `simulation.ts` runs several of them in
 * one process.
 *
 * When a method removes or replaces something in a table, all decisions that depend on it have been made
 * again before it returns. Additions may take some turns until every cached flow knows them. Owned by one
 * thread.
 */
import { Controller } from './control/controller.ts';
import {
  isTunnel,
  noConnections,
  openPort,
  type Datapath,
  type DatapathOptions,
  type PortOpened,
  type PortRates,
  type PortSpec,
  type Upcall,
} from './datapath/datapath.ts';
import type { TapOpened } from './flow/tap.ts';
import { WeftError } from './error.ts';
import { ANSWERS, DEFAULT_STORM, TO_SOCKETS, UPCALLS, type StormRates } from './forwarding/rates.ts';
import { Remote } from './forwarding/remote.ts';
import {
  ConnectionRecords,
  INTERNAL,
  isInternal,
  networkOf,
  OUTSIDE,
  type ConnectionTuples,
  type Place,
  type ProtocolTuple,
} from './flow/connection.ts';
import type { ConnectionStoreOptions } from './flow/connection-store.ts';
import { OutlierDetection, type EjectionChange } from './health/outlier-detection.ts';
import { linkLocalOf, sameBytes, type PortNo, type Vni } from './flow/types.ts';
import { announcement } from './pipeline/reply.ts';
import type { Tables } from './pipeline/stage.ts';
import { Changes } from './table/changes.ts';
import { ConnectionTable } from './table/connections.ts';
import { endpointOf, isEnteredToBackend, isFromInside, isFromOutside, isFromWeft } from './table/connection-ways.ts';
import { Fdb, type Location } from './table/fdb.ts';
import { Hooks } from './table/hooks.ts';
import { NeighborTable } from './table/neighbor.ts';
import type { FaultKind } from './table/health.ts';
import { Policies } from './table/policies.ts';
import type { PinnedConnection } from './table/ended-connections.ts';
import type { Service } from './table/service.ts';
import { Services, type BackendFault } from './table/services.ts';
import type { Prefix } from './table/routes.ts';
import {
  gatewayMac,
  hostMacOf,
  INTERNAL_MAC,
  INTERNAL_NAMESPACE_MAC,
  OUTSIDE_HOST_MAC,
  OUTSIDE_MAC,
  publishedId,
  Topology,
  type AccessPort,
  type InternalPort,
  type Listening,
  type VirtualNetworkOptions,
  type OutsidePort,
  type Published,
} from './table/topology.ts';
import type { RemoteEndpoint } from './table/workload.ts';
import { IP_UDP } from './wire/ipv4.ts';

export type { Published, RemoteEndpoint, TapOpened };

/** The part of an endpoint's connections that may be unanswered (`ConnectionOptions.unprovenQuota`). */
const UNPROVEN_SHARE = 1 / 4;
/** The part of all connections that one port may have as tracked ones. */
const TRACKED_SHARE = 1 / 4;
/** The part of all connections that one port takes of whoever has the most, as long as nobody answers them. */
const GUARANTEED_SHARE = 1 / 256;
/** The part of all connections that is for tracked ones alone. */
const RESERVED_SHARE = 1 / 16;
/** Slots beyond the maximum number of connections, as a part of it and at least: a freed slot is not reused at once. */
const SPARE_SHARE = 1 / 64;
const LEAST_SPARE = 64;

/** How many records are needed for this many connections. */
export function connectionSlots(cap: number): number {
  return cap + Math.max(Math.ceil(cap * SPARE_SHARE), LEAST_SPARE);
}

export interface ForwardingOptions {
  /** 3 bytes that no other host of the overlay has. */
  readonly hostId: Uint8Array;
  /** How many learned MAC addresses one port or VTEP may have. */
  readonly fdbQuota: number;
  /** How many neighbors of other hosts one network may have. */
  readonly neighborQuota: number;
  readonly fdbAgeingMs: number;
  readonly flowCap: number;
  readonly flowIdleMs: number;
  /** Memory of `flow/connection.ts` with `connectionSlots` for the maximum number of connections; empty for none. */
  readonly connections: Uint8Array;
  /** How many connections to or from outside one endpoint may have. */
  readonly connectionQuota: number;
  /** By default 1000 for a port, 10,000 for the tunnel. */
  readonly storm?: StormRates;
  /** For `ConnectionTable`. */
  readonly natKey: Uint8Array;
  /** For `ConnectionTable`. */
  readonly onConnectionClosed?: (outside: ProtocolTuple) => void;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** Does something after some milliseconds. Without it, `lookAtConnections` is to be called from time to time. */
  readonly after?: (delayMs: number, work: () => void) => () => void;
  /** `setImmediate`, if the process has other work to do; see the controller. */
  readonly later?: (work: () => void) => void;
  readonly onPortLost: (port: PortNo, why: string) => void;
  /**
   * The state of one or more peers has changed: `peers` tells, and `setVtepsDown` puts it into force. By default, it is in force at
   * once.
   */
  readonly onPeersChanged?: (() => void) | undefined;
  readonly onError: (error: unknown, upcall: Upcall) => void;
}

export class Forwarding<D extends Datapath = Datapath> {
  readonly datapath: D;
  readonly tables: Tables;
  readonly controller: Controller;
  /** The other hosts. */
  readonly remote: Remote;
  readonly #changes = new Changes();
  readonly outliers: OutlierDetection;
  readonly #storm: StormRates;
  readonly #clock: () => number;
  /** Called when a backend is ejected because connections to it fail, or is back. */
  onEjection: (change: EjectionChange) => void = () => {};
  #stopLooking = (): void => {};

  constructor(open: (options: DatapathOptions) => D, options: ForwardingOptions) {
    this.#storm = options.storm ?? DEFAULT_STORM;
    this.#clock = options.clock;
    const changes = this.#changes;
    this.datapath = open({
      flowCap: options.flowCap,
      connections: connectionsIn(options.connections),
      clock: options.clock,
      onUpcall: (batch) => this.controller.handle(batch),
      onPortLost: options.onPortLost,
      onPeersChanged: () => (options.onPeersChanged ?? (() => this.remote.followPeers()))(),
    });
    const topology = new Topology(hostMacOf(options.hostId), changes);
    const services = new Services(topology, changes);
    this.outliers = new OutlierDetection({
      addressesWith: (vni, ip) => topology.addressesWith(vni, ip),
      ...{ records: this.datapath.connections.records, services, clock: options.clock, wallClock: options.wallClock },
      onWork: (delayMs) => (this.#stopLooking = options.after?.(delayMs, () => this.lookAtConnections()) ?? (() => {})),
      onChange: (change) => this.onEjection(change),
    });
    const quota = options.connectionQuota;
    const quotas = { quota, unprovenQuota: Math.ceil(quota * UNPROVEN_SHARE) };
    const hooks = new Hooks(changes);
    this.tables = {
      topology,
      services,
      hooks,
      policies: new Policies(changes, hooks),
      fdb: new Fdb({ quota: options.fdbQuota, ageingMs: options.fdbAgeingMs }, changes),
      neighbors: new NeighborTable({ quota: options.neighborQuota }, changes),
      connections: new ConnectionTable({
        store: this.datapath.connections,
        ...quotas,
        natKey: options.natKey,
        services: this.outliers,
        onClosed: options.onConnectionClosed,
        addressesWith: (vni, ip) => topology.addressesWith(vni, ip),
        isAttached: (vni, ip) => topology.isAttached(vni, ip),
        isReserved: (protocol, port) =>
          topology.isPublished(protocol, port) || services.findPublished(protocol, port) !== undefined,
      }),
    };
    services.watch(this.tables.connections);
    services.balanceWith({ store: this.datapath.connections, ...quotas }, this.tables.connections);
    this.tables.connections.recover(options.clock());
    this.controller = new Controller(this.datapath, {
      ...{ ...options, tables: this.tables, changes },
      onUnreachable: (slot) => this.outliers.unreachable(slot),
    });
    this.remote = new Remote(this.datapath, this.tables, this.controller);
  }

  /** Adds a network, or changes its routes, its MTU or whether it has an outside. */
  setNetwork(network: VirtualNetworkOptions): void {
    const { topology, neighbors } = this.tables;
    const { vni, gateways = [], outside = false } = network;
    const before = topology.network(vni);
    topology.setNetwork(network);
    for (const ip of gateways) neighbors.set(vni, ip, gatewayMac(vni));
    // Also for a new network, because connections survive a restart.
    if (!outside && (before?.outside ?? true)) {
      this.#end((connection) => {
        const { places } = connection;
        return places.includes(vni) && (places.includes(OUTSIDE) || isFromOutside(connection));
      });
    }
    this.controller.enforce();
  }

  /** Removes a network that has no ports any more. */
  removeNetwork(vni: Vni): void {
    const { topology, neighbors } = this.tables;
    const gateways = topology.network(vni)?.gateways ?? [];
    topology.removeNetwork(vni);
    this.#end(({ places }) => places.includes(vni));
    for (const ip of gateways) neighbors.remove(vni, ip);
    this.controller.enforce();
    this.controller.endings.endTracked(vni, undefined);
  }

  /** Opens the port and adds it to its network. @throws WeftError, leaving nothing behind. */
  addPort(port: AccessPort, spec: PortSpec): TapOpened | undefined {
    const opened = openPort(this.datapath, port.portNo, this.#specOf(port, spec));
    this.#join(port);
    return opened;
  }

  /** The same for many at once. Returns for each, in order, what was opened or why not. */
  addPorts(ports: readonly { readonly port: AccessPort; readonly spec: PortSpec }[]): PortOpened[] {
    const opened = this.datapath.portsAdd(
      ports.map(({ port, spec }) => ({ port: port.portNo, spec: this.#specOf(port, spec) })),
    );
    for (const [at, { port }] of ports.entries()) if (!(opened[at] instanceof WeftError)) this.#join(port);
    return opened;
  }

  #join(port: AccessPort): void {
    const { topology, fdb, neighbors } = this.tables;
    topology.setPort(port);
    fdb.setStatic(port.vni, port.mac, portLocation(port.portNo));
    this.#retryAllowed(port);
    for (const ip of [...port.addresses, linkLocalOf(port.mac)]) neighbors.set(port.vni, ip, port.mac);
    this.controller.enforce();
  }

  /**
   * Tells the network where the port's addresses are, as the workload itself could do, because neighbors may remember
   * another holder (RFC 5227 §3, RFC 4861 §7.2.6).
   */
  announce(portNo: PortNo): void {
    const port = this.tables.topology.port(portNo);
    for (const ip of port?.addresses ?? []) this.controller.originate(announcement(port!.mac, ip), { port: portNo });
  }

  /**
   * Changes how much may pass the port each second. In force when this returns.
   * @returns what was restored on its TAP, as `Datapath.portSet` does
   */
  limitPort(portNo: PortNo, rates: PortRates): string[] {
    return this.datapath.portSet(portNo, this.#ratesOf(rates, 'port'));
  }

  /** Changes what the port may send. Its MAC, network and addresses stay. */
  changePort(port: AccessPort): void {
    const { topology, fdb } = this.tables;
    const before = topology.port(port.portNo);
    topology.setPort(port);
    const uncarried = this.#forgetUncarried(port.vni, before?.allowedAddresses ?? []);
    // It may not have the MACs of others any more.
    if (before?.trust && !port.trust) fdb.forget(portLocation(port.portNo));
    this.#retryAllowed(port);
    this.controller.enforce();
    this.controller.endings.endTracked(port.vni, uncarried);
  }

  /** Closes the port, then forgets it. With `keep`, its TAP stays in the container. */
  removePort(portNo: PortNo, options?: { readonly keep?: boolean }): void {
    this.datapath.portDel(portNo, options);
    const { topology, fdb, neighbors } = this.tables;
    const port = topology.port(portNo);
    if (!port) return;
    topology.removePort(portNo);
    fdb.removeStatic(port.vni, port.mac);
    fdb.forget(portLocation(portNo));
    neighbors.forgetMac(port.vni, port.mac);
    for (const ip of [...port.addresses, linkLocalOf(port.mac)]) neighbors.remove(port.vni, ip);
    const gone = options?.keep ? [] : [...port.addresses, linkLocalOf(port.mac)];
    if (!options?.keep) {
      this.#forget(port.vni, port.addresses);
      gone.push(...this.#forgetUncarried(port.vni, port.allowedAddresses));
    }
    // Weft's own sockets know it by a number that the next port does not get.
    this.#forget(port.vni, [...port.addresses, ...port.allowedAddresses], isInternal);
    this.controller.enforce();
    this.controller.endings.endTracked(port.vni, gone);
    if (!options?.keep) this.controller.endings.endOfPort(portNo);
    this.controller.forgetPort(portNo);
  }

  /** Nobody has answered for these addresses, but this port may. */
  #retryAllowed({ vni, allowedAddresses }: AccessPort): void {
    for (const ip of allowedAddresses) this.tables.neighbors.retry(vni, ip);
  }

  /**
   * Ends the translated connections of those addresses that no port may send from any more, and returns these. Several ports
   * may carry a virtual IP.
   */
  #forgetUncarried(vni: Vni, addresses: readonly Uint8Array[]): readonly Uint8Array[] {
    const { topology } = this.tables;
    const uncarried = addresses.filter((ip) => !topology.isCarried(vni, ip));
    this.#forget(vni, uncarried);
    return uncarried;
  }

  /**
   * Ends the connections of an endpoint's addresses, or those for which `isOver` is true. Those of clients outside to a backend end
   * with its service, which tells them.
   */
  #forget(
    vni: Vni,
    addresses: readonly Uint8Array[],
    isOver: (connection: ConnectionTuples) => boolean = (one) => !isEnteredToBackend(one),
  ): void {
    const { connections } = this.tables;
    for (const ip of addresses) this.#changes.changedAll(connections.forget(vni, ip, isOver, this.#onEnd));
  }

  /** Ends the connections for which `isOver` is true. */
  #end(isOver: (connection: ConnectionTuples & { readonly vni: Vni }) => boolean): void {
    this.#changes.changedAll(this.tables.connections.end(isOver, this.#onEnd));
  }

  readonly #onEnd = (connection: PinnedConnection): void => this.controller.endings.tellOutside(connection);

  /** Opens the underlay. Frames from it come in by `portNo`. */
  openUnderlay(portNo: PortNo, spec: PortSpec): void {
    openPort(this.datapath, portNo, this.#withRates(spec));
    const local = 'local' in spec ? spec.local : undefined;
    this.tables.topology.openTunnel(portNo, spec.kind === 'vxlan' ? spec.l4Port : undefined, local);
    this.controller.enforce();
  }

  /** Nothing behind the tunnel can be reached from now on. What was learned there is forgotten by its age. */
  closeUnderlay(portNo: PortNo): void {
    this.datapath.portDel(portNo);
    this.tables.topology.closeTunnel();
    this.controller.enforce();
    this.controller.forgetPort(portNo);
  }

  /** Opens the way outside, or changes what is published there. `spec` is given only to open it. */
  setOutside(link: Omit<OutsidePort, 'mac' | 'hostMac'>, spec?: PortSpec): TapOpened | undefined {
    const outside = { ...link, mac: OUTSIDE_MAC, hostMac: OUTSIDE_HOST_MAC };
    const opened =
      spec &&
      openPort(this.datapath, outside.portNo, {
        ...inPlace(spec, OUTSIDE),
        rates: { ...spec.rates, upcalls: UPCALLS.outside, answers: ANSWERS.outside },
      });
    const isNews = this.tables.topology.setOutside(outside);
    if (isNews) this.#end((connection) => isAstray(connection, outside));
    this.controller.enforce();
    return opened;
  }

  /** Closes it. */
  removeOutside(): void {
    const { topology } = this.tables;
    const { outside } = topology;
    if (!outside) return;
    this.datapath.portDel(outside.portNo);
    topology.setOutside(undefined);
    this.controller.enforce();
    this.controller.forgetPort(outside.portNo);
  }

  /** Opens the link to weft's own sockets, or changes what they listen on. `spec` is given only to open it. */
  setInternal(link: Omit<InternalPort, 'mac' | 'namespaceMac'>, spec?: PortSpec): void {
    const internal = { ...link, mac: INTERNAL_MAC, namespaceMac: INTERNAL_NAMESPACE_MAC };
    if (spec) {
      const rates = { ...spec.rates, upcalls: UPCALLS.outside, answers: ANSWERS.outside };
      openPort(this.datapath, internal.portNo, { ...inPlace(spec, INTERNAL), rates });
    }
    this.tables.topology.setInternal(internal);
    this.#endInternal(internal.listening);
    this.controller.enforce();
  }

  /** Closes it. */
  removeInternal(): void {
    const { topology } = this.tables;
    const { internal } = topology;
    if (!internal) return;
    this.datapath.portDel(internal.portNo);
    topology.setInternal(undefined);
    this.#end(isInternal);
    this.controller.enforce();
    this.controller.forgetPort(internal.portNo);
  }

  /** Ends the connections to sockets of weft that are not among these. */
  #endInternal(listening: readonly Listening[]): void {
    this.#end((connection) => {
      const { protocol, original } = connection;
      const isListening = listening.some((one) => one.protocol === protocol && one.l4Port === original.destinationPort);
      return isInternal(connection) && !isFromWeft(connection) && !isListening;
    });
  }

  /**
   * Ends the connections of the endpoints of this host for which `isGone` is true, by network and address. Backends to which
   * somebody outside has come may be on other hosts: their service knows which ones are gone.
   */
  endConnections(isGone: (vni: Vni, ip: Uint8Array) => boolean): void {
    this.#end((one) => !isEnteredToBackend(one) && isGone(one.vni, endpointOf(one)));
    this.controller.enforce();
  }

  /** Says on which host this is, and in which zone: services may prefer their backends there, or have no others. */
  setHost(name: string | undefined, zone: string | undefined): void {
    this.tables.services.setHost(name, zone);
    this.controller.enforce();
  }

  /** Sets the addresses that VIPs are taken from: whatever no service has there is refused. */
  setServiceRanges(ranges: readonly Prefix[]): void {
    this.tables.services.setRanges(ranges);
    this.controller.enforce();
  }

  /** Adds a service, or changes it. Connections to backends that it does not have any more end. */
  setService(service: Service): void {
    this.tables.services.set(service, this.#clock());
    this.outliers.follow(service.id);
    this.controller.endings.endPinned();
  }

  /** Does nothing if there is none. */
  removeService(id: string): void {
    this.tables.services.remove(id);
    this.outliers.follow(id);
    this.controller.endings.endPinned();
  }

  /** Says what is wrong with backends of a service (`Services.setHealth`). */
  setHealth(id: string, kind: FaultKind, faults: readonly BackendFault[]): void {
    this.tables.services.setHealth(id, kind, faults);
    this.outliers.follow(id);
    this.controller.endings.endPinned();
  }

  /** Looks how connections to backends have come about, and which ones are ejected no more. */
  lookAtConnections(): void {
    this.outliers.look();
    this.controller.enforce();
  }

  /** All services that there are have been set: connections from before a restart that belong to none of them end. */
  servicesLoaded(): void {
    this.tables.services.loaded(this.#clock());
    this.controller.endings.tellUntold();
    this.controller.endings.endPinned();
  }

  close(): void {
    this.#stopLooking();
    this.controller.close();
    this.datapath.close();
  }

  #specOf({ vni }: AccessPort, spec: PortSpec): PortSpec {
    return inPlace(this.#withRates(spec), vni);
  }

  #withRates(spec: PortSpec): PortSpec {
    return { ...spec, rates: this.#ratesOf(spec.rates ?? {}, isTunnel(spec) ? 'tunnel' : 'port') };
  }

  /** Adds the rates that every port has. */
  #ratesOf(rates: PortRates, kind: 'port' | 'tunnel'): PortRates {
    const frames = this.#storm[kind];
    const storm = frames > 0 && { storm: { perSecond: frames, burst: frames } };
    const toSockets = kind === 'port' && TO_SOCKETS;
    return { ...rates, ...storm, ...toSockets, upcalls: UPCALLS[kind], answers: ANSWERS[kind] };
  }

  /** Gives this host another MAC to ask for neighbors with. @param hostId as in `ForwardingOptions` */
  setHostId(hostId: Uint8Array): void {
    this.tables.topology.setHostMac(hostMacOf(hostId));
    this.controller.enforce();
  }
}

/** As many connections as have room in this memory, by `connectionSlots`. */
function connectionsIn(memory: Uint8Array): ConnectionStoreOptions {
  const { count } = new ConnectionRecords(memory);
  const limit = count - Math.max(Math.ceil((count * SPARE_SHARE) / (1 + SPARE_SHARE)), LEAST_SPARE);
  if (limit <= 0) return noConnections();
  const quota = Math.ceil(limit * TRACKED_SHARE);
  const unprovenQuota = Math.ceil(quota * UNPROVEN_SHARE);
  const [guaranteed, reserved] = [GUARANTEED_SHARE, RESERVED_SHARE].map((share) => Math.floor(limit * share));
  return { memory, limit, quota, unprovenQuota, guaranteed, reserved };
}

/** Sets the place in which tuples of packets from the port are meaningful. */
function inPlace<S extends PortSpec>(spec: S, place: Place): S {
  return spec.kind === 'tap' || spec.kind === 'memory' ? { ...spec, place } : spec;
}

function portLocation(port: PortNo): Location {
  return { kind: 'port', port };
}

/**
 * True if its port is now published for somebody else. TCP connections through a port that was withdrawn continue until
 * they end, as behind any load balancer. UDP has no end, and follows at once.
 */
function isAstray(connection: ConnectionTuples, { published }: OutsidePort): boolean {
  const { places, protocol, original, translated, pin } = connection;
  if (!places.includes(OUTSIDE)) return false;
  if (isFromInside(connection)) return published.has(publishedId(protocol, translated.sourcePort));
  // Those of services end with their backends.
  if (protocol !== IP_UDP || pin !== undefined) return false;
  const now = published.get(publishedId(protocol, original.destinationPort));
  const isSame = now && now.vni === networkOf(connection) && now.l4Port === translated.destinationPort;
  return !isSame || !now.addresses.some((address) => sameBytes(address, translated.destination));
}
