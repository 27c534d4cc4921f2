/**
 * Forwarding: one datapath, the tables, and the controller between them.
 *
 *   frame → datapath → miss → controller → decide(tables) → flow → datapath
 *
 * This is the whole switch without its surroundings: no store, no namespaces,
 * no clock or randomness of its own. `switch.ts` runs it on a host,
 * `simulation.ts` runs several of them in one process.
 *
 * Every method that takes something out of a table or replaces it has the
 * decisions that depend on it made anew before it returns; what is new may take
 * some turns until every cached flow knows it. Owned by one thread.
 */
import { Controller } from './control/controller.ts';
import {
  noConnections,
  openPort,
  type Datapath,
  type DatapathOptions,
  type PortOpened,
  type PortRates,
  type PortSpec,
  type Rate,
  type Upcall,
} from './datapath/datapath.ts';
import type { TapOpened } from './flow/tap.ts';
import { WeftError } from './error.ts';
import { LEAST_MTU } from './flow/action.ts';
import {
  ConnectionRecords,
  networkOf,
  OUTSIDE,
  type ConnectionTuples,
  type Place,
  type ProtocolTuple,
} from './flow/connection.ts';
import type { ConnectionStoreOptions } from './flow/connection-store.ts';
import { linkLocalOf, sameBytes, type PortNo, type Vni } from './flow/types.ts';
import { announcement } from './pipeline/reply.ts';
import type { Tables } from './pipeline/stage.ts';
import { Changes } from './table/changes.ts';
import { ConnectionTable, endpointOf, isFromInside } from './table/connections.ts';
import { Fdb, type Location } from './table/fdb.ts';
import { NeighborTable } from './table/neighbor.ts';
import {
  gatewayMac,
  hostMacOf,
  OUTSIDE_HOST_MAC,
  OUTSIDE_MAC,
  publishedId,
  Topology,
  type AccessPort,
  type VirtualNetworkOptions,
  type OutsidePort,
  type Published,
} from './table/topology.ts';
import { IP_UDP } from './wire/ipv4.ts';

export type { Published, TapOpened };

/**
 * Storm control: flooded frames that come in by one port, a second and at once. Switches have
 * some hundreds to some thousands a second; what answers for the containers (ARP and ND) is
 * not flooded, so little else needs it. The tunnel brings what all other hosts flood.
 */
const DEFAULT_STORM: StormRates = { port: 1000, tunnel: 10_000 };

/** Flooded frames a second, and at once; 0: no limit. */
export interface StormRates {
  /** That come in by one port of a container. */
  readonly port: number;
  readonly tunnel: number;
}

/**
 * Frames of one port that are decided anew, a second and at once; half of them for each
 * sender behind it (`datapath.ts`). A decision takes some tens of microseconds, so a
 * port that sends nothing but new flows leaves most of the time to the others, and ten
 * thousand flows that begin at once lose no frame. The
 * tunnel brings the new flows of all other hosts, and the outside the answers to all
 * that the ports here have opened.
 */
const UPCALLS = {
  port: { perSecond: 2000, burst: 20_000 },
  tunnel: { perSecond: 4000, burst: 40_000 },
  outside: { perSecond: 20_000, burst: 80_000 },
} as const satisfies Record<string, Rate>;

/** What part of its connections an endpoint may have that nobody has taken (`ConnectionOptions.unprovenQuota`). */
const UNPROVEN_SHARE = 1 / 4;
/** What part of all connections one port may have of those that are only tracked. */
const TRACKED_SHARE = 1 / 4;
/** Slots beyond the connections that there may be, so that one that was just freed is not taken at once. */
const SPARE_SLOTS = 64;

/** Records that are needed for so many connections. */
export function connectionSlots(cap: number): number {
  return cap + SPARE_SLOTS;
}

export interface ForwardingOptions {
  /** 3 bytes that no other host of the overlay has. */
  readonly hostId: Uint8Array;
  /** Learned MAC addresses that one port or VTEP may hold. */
  readonly fdbQuota: number;
  /** Neighbors of other hosts that one network may hold. */
  readonly neighborQuota: number;
  readonly fdbAgeingMs: number;
  readonly flowCap: number;
  readonly flowIdleMs: number;
  /** Memory of `flow/connection.ts` with `connectionSlots` for as many as there may be; empty: for none. */
  readonly connections: Uint8Array;
  /** Connections to or from outside that one endpoint may have. */
  readonly connectionQuota: number;
  /** By default 1000 of a port, 10,000 of the tunnel. */
  readonly storm?: StormRates;
  /** Of `ConnectionTable`. */
  readonly natKey: Uint8Array;
  /** Of `ConnectionTable`. */
  readonly onConnectionClosed?: (outside: ProtocolTuple) => void;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** `setImmediate`, where the process has more to do than this; see the controller. */
  readonly later?: (work: () => void) => void;
  readonly onPortLost: (port: PortNo, why: string) => void;
  readonly onError: (error: unknown, upcall: Upcall) => void;
}

/** An endpoint of another host: where its MAC and addresses are known to be. */
export interface RemoteEndpoint {
  readonly vni: Vni;
  readonly mac: Uint8Array;
  readonly addresses: readonly Uint8Array[];
  readonly vtep: Uint8Array;
  /** It may be a router or a DHCP server: what it says is believed. */
  readonly trust: boolean;
}

export class Forwarding<D extends Datapath = Datapath> {
  readonly datapath: D;
  readonly tables: Tables;
  readonly controller: Controller;
  readonly #changes = new Changes();
  readonly #storm: StormRates;

  constructor(open: (options: DatapathOptions) => D, options: ForwardingOptions) {
    this.#storm = options.storm ?? DEFAULT_STORM;
    const changes = this.#changes;
    this.datapath = open({
      flowCap: options.flowCap,
      connections: connectionsIn(options.connections),
      clock: options.clock,
      onUpcall: (batch) => this.controller.handle(batch),
      onPortLost: options.onPortLost,
    });
    this.tables = {
      topology: new Topology(hostMacOf(options.hostId), changes),
      fdb: new Fdb({ quota: options.fdbQuota, ageingMs: options.fdbAgeingMs }, changes),
      neighbors: new NeighborTable({ quota: options.neighborQuota }, changes),
      connections: new ConnectionTable({
        store: this.datapath.connections,
        quota: options.connectionQuota,
        unprovenQuota: Math.ceil(options.connectionQuota * UNPROVEN_SHARE),
        natKey: options.natKey,
        onClosed: options.onConnectionClosed,
        addressesWith: (vni, ip) => this.tables.topology.addressesWith(vni, ip),
        isReserved: (protocol, port) => this.tables.topology.isPublished(protocol, port),
      }),
    };
    this.tables.connections.recover(options.clock());
    this.controller = new Controller(this.datapath, { ...options, tables: this.tables, changes });
  }

  /** Adds a network, or changes its routes, its MTU or whether it has an outside. */
  setNetwork(network: VirtualNetworkOptions): void {
    const { topology, neighbors } = this.tables;
    const { vni, gateways = [], outside = false } = network;
    const before = topology.network(vni);
    topology.setNetwork(network);
    for (const ip of gateways) neighbors.set(vni, ip, gatewayMac(vni));
    // A new one, too: connections outlive a restart.
    if (!outside && (before?.outside ?? true)) this.#end((connection) => connection.vni === vni);
    this.controller.enforce();
  }

  /** The network has no ports any more. */
  removeNetwork(vni: Vni): void {
    const { topology, neighbors } = this.tables;
    const gateways = topology.network(vni)?.gateways ?? [];
    topology.removeNetwork(vni);
    this.#end((connection) => connection.vni === vni);
    this.tables.connections.endTracked(vni);
    for (const ip of gateways) neighbors.remove(vni, ip);
    this.controller.enforce();
  }

  /** Opens the port and lets it into its network. @throws WeftError; nothing is left behind then. */
  addPort(port: AccessPort, spec: PortSpec): TapOpened | undefined {
    const opened = openPort(this.datapath, port.portNo, this.#specOf(port, spec));
    this.#join(port);
    return opened;
  }

  /** The same for many, at once. What was opened, or why not, of each in order. */
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
   * Tells the network where the port's addresses are, as the workload itself
   * could: its neighbors may remember another holder (RFC 5227 §3, RFC 4861 §7.2.6).
   */
  announce(portNo: PortNo): void {
    const port = this.tables.topology.port(portNo);
    for (const ip of port?.addresses ?? []) this.controller.originate(announcement(port!.mac, ip), { port: portNo });
  }

  /**
   * What may pass the port each second changes; in force when this returns.
   * @returns what was put back of its TAP, as `Datapath.portSet`
   */
  limitPort(portNo: PortNo, rates: PortRates): string[] {
    return this.datapath.portSet(portNo, this.#ratesOf(rates, 'port'));
  }

  /** What the port may send changes; its MAC, network and addresses stay. */
  changePort(port: AccessPort): void {
    const { topology } = this.tables;
    const before = topology.port(port.portNo)?.allowedAddresses ?? [];
    topology.setPort(port);
    this.#forgetUncarried(port.vni, before);
    this.#retryAllowed(port);
    this.controller.enforce();
  }

  /** Stops the port first, then forgets it. `keep` leaves its TAP in the container. */
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
    if (!options?.keep) {
      this.#forget(port.vni, port.addresses);
      this.#forgetUncarried(port.vni, port.allowedAddresses);
    }
    this.controller.enforce();
    this.controller.forgetPort(portNo);
  }

  /** Nobody has answered for them before, but this port may. */
  #retryAllowed({ vni, allowedAddresses }: AccessPort): void {
    for (const ip of allowedAddresses) this.tables.neighbors.retry(vni, ip);
  }

  /** Ends the connections of those addresses that no port may send from any more: several may carry a virtual IP. */
  #forgetUncarried(vni: Vni, addresses: readonly Uint8Array[]): void {
    const { topology } = this.tables;
    this.#forget(
      vni,
      addresses.filter((ip) => !topology.isCarried(vni, ip)),
    );
  }

  /** Ends the connections of an endpoint's addresses. */
  #forget(vni: Vni, addresses: readonly Uint8Array[]): void {
    for (const ip of addresses) this.#changes.changed(...this.tables.connections.forget(vni, ip));
  }

  /** Ends the connections that `isOver` picks. */
  #end(isOver: (connection: ConnectionTuples & { readonly vni: Vni }) => boolean): void {
    for (const object of this.tables.connections.end(isOver)) this.#changes.changed(object);
  }

  /** Opens the underlay; frames from it come in by `portNo`. */
  openUnderlay(portNo: PortNo, spec: PortSpec): void {
    openPort(this.datapath, portNo, this.#withRates(spec));
    this.tables.topology.openTunnel(portNo, spec.kind === 'vxlan' ? spec.l4Port : undefined);
    this.controller.enforce();
  }

  /** What is behind the tunnel cannot be reached from now on; what was learned there is forgotten by its age. */
  closeUnderlay(portNo: PortNo): void {
    this.datapath.portDel(portNo);
    this.tables.topology.closeTunnel();
    this.controller.enforce();
    this.controller.forgetPort(portNo);
  }

  /** Opens the way outside, or changes what is published there; `spec` only where it was not open. */
  setOutside(link: Omit<OutsidePort, 'mac' | 'hostMac'>, spec?: PortSpec): TapOpened | undefined {
    const outside = { ...link, mac: OUTSIDE_MAC, hostMac: OUTSIDE_HOST_MAC };
    const opened =
      spec &&
      openPort(this.datapath, outside.portNo, {
        ...inPlace(spec, OUTSIDE),
        rates: { ...spec.rates, upcalls: UPCALLS.outside },
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

  /** Ends the connections of the endpoints that `isGone` picks, by their network and address. */
  endConnections(isGone: (vni: Vni, ip: Uint8Array) => boolean): void {
    this.#end((connection) => isGone(connection.vni, endpointOf(connection)));
    this.controller.enforce();
  }

  #specOf({ vni }: AccessPort, spec: PortSpec): PortSpec {
    return inPlace(this.#withRates(spec), vni);
  }

  #withRates(spec: PortSpec): PortSpec {
    const isTunnel = spec.kind === 'vxlan' || spec.kind === 'memory-vxlan';
    return { ...spec, rates: this.#ratesOf(spec.rates ?? {}, isTunnel ? 'tunnel' : 'port') };
  }

  /** With those rates that every port has. */
  #ratesOf(rates: PortRates, kind: 'port' | 'tunnel'): PortRates {
    const frames = this.#storm[kind];
    return { ...rates, ...(frames > 0 && { storm: { perSecond: frames, burst: frames } }), upcalls: UPCALLS[kind] };
  }

  addVtep(vtep: Uint8Array): void {
    this.tables.topology.addVtep(vtep);
    this.controller.enforce();
  }

  removeVtep(vtep: Uint8Array): void {
    this.tables.topology.removeVtep(vtep);
    this.tables.fdb.forget({ kind: 'vtep', vtep });
    this.controller.enforce();
  }

  /** The way to a VTEP takes inner packets of `bytes` at most. True if that is news. */
  setPathMtu(vtep: Uint8Array, bytes: number): boolean {
    this.tables.topology.setPathMtu(vtep, Math.max(bytes, LEAST_MTU));
    return this.controller.enforce();
  }

  /** Adds one, or changes whether it is trusted. */
  addRemote({ vni, mac, addresses, vtep, trust }: RemoteEndpoint): void {
    const { fdb, neighbors } = this.tables;
    fdb.setStatic(vni, mac, { kind: 'vtep', vtep }, trust);
    for (const ip of [...addresses, linkLocalOf(mac)]) neighbors.set(vni, ip, mac);
    this.controller.enforce();
  }

  removeRemote({ vni, mac, addresses }: RemoteEndpoint): void {
    const { fdb, neighbors } = this.tables;
    fdb.removeStatic(vni, mac);
    for (const ip of [...addresses, linkLocalOf(mac)]) neighbors.remove(vni, ip);
    this.controller.enforce();
  }
}

function connectionsIn(memory: Uint8Array): ConnectionStoreOptions {
  const limit = new ConnectionRecords(memory).count - SPARE_SLOTS;
  if (limit <= 0) return noConnections();
  const quota = Math.ceil(limit * TRACKED_SHARE);
  return { memory, limit, quota, unprovenQuota: Math.ceil(quota * UNPROVEN_SHARE) };
}

/** Tuples of what comes in by the port mean something there. */
function inPlace<S extends PortSpec>(spec: S, place: Place): S {
  return spec.kind === 'tap' || spec.kind === 'memory' ? { ...spec, place } : spec;
}

function portLocation(port: PortNo): Location {
  return { kind: 'port', port };
}

/**
 * Is its port published for somebody else now? What TCP came in by a port that was withdrawn goes on until it
 * is over, as behind any other balancer; UDP knows no end, and follows at once.
 */
function isAstray(connection: ConnectionTuples, { published }: OutsidePort): boolean {
  const { protocol, original, translated } = connection;
  if (isFromInside(connection)) return published.has(publishedId(protocol, translated.sourcePort));
  if (protocol !== IP_UDP) return false;
  const now = published.get(publishedId(protocol, original.destinationPort));
  const isSame = now && now.vni === networkOf(connection) && now.l4Port === translated.destinationPort;
  return !isSame || !now.addresses.some((address) => sameBytes(address, translated.destination));
}
