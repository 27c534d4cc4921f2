/**
 * Topology: the ports of the switch and the networks that they are in, as the pipeline sees them. Only
 * the switch changes it.
 *
 * Its objects, which decisions consult (`changes.ts`), are as fine as what can change by itself. Of a list,
 * such as that of all VTEPs, a decision consults one member if it found that one, and the list if it found
 * none or uses them all.
 */
import { protocolName } from '../flow/connection.ts';
import { formatMac, linkLocalOf, parseIp, sameBytes, type PortNo, type Vni } from '../flow/types.ts';
import { ValueSet } from '../flow/value-set.ts';
import { AddressOwners } from './address-owners.ts';
import type { Changes } from './changes.ts';
import { Clients } from './clients.ts';
import { isInPrefix, RouteTable, type Prefix, type Route } from './routes.ts';
import { Vteps } from './vteps.ts';
import { Workloads } from './workloads.ts';
import { VXLAN_L4_PORT } from '../wire/vxlan.ts';

/** A port with a workload behind it. */
export interface AccessPort {
  readonly portNo: PortNo;
  readonly name: string;
  readonly vni: Vni;
  readonly mac: Uint8Array;
  /** 16 bytes each; its neighbors may resolve these. */
  readonly addresses: readonly Uint8Array[];
  /** Further addresses that it may send from. */
  readonly allowedAddresses: readonly Uint8Array[];
  /** EtherTypes that it may send besides IPv4, IPv6 and ARP. */
  readonly allowedEtherTypes: readonly number[];
  /** True if there is no anti-spoofing, and its MAC addresses are learned. */
  readonly trust: boolean;
}

/**
 * Something that a frame is sent within, and whose limit its packets must fit into: a network, or the link to the
 * outside.
 */
export interface Segment {
  /** In bytes; undefined if nobody has set one. */
  readonly mtu: number | undefined;
  /** The object that a decision consults for it. */
  readonly mtuObject: string;
}

/** The way out of all networks: a port to the host that weft runs on. */
export interface OutsidePort {
  readonly portNo: PortNo;
  /** The MACs of weft's end of the link, and of the host's. */
  readonly mac: Uint8Array;
  readonly hostMac: Uint8Array;
  /** Weft's own addresses on the link, one for each family: addresses of containers are translated to these. */
  readonly transit: readonly Uint8Array[];
  /** In bytes. */
  readonly mtu: number;
  /** By `publishedId`. */
  readonly published: ReadonlyMap<string, Published>;
}

export type Outside = OutsidePort & Segment;

/** Where a port of the transit address leads. */
export interface Published {
  readonly endpoint: string;
  readonly vni: Vni;
  /** One for each family that it has. */
  readonly addresses: readonly Uint8Array[];
  readonly l4Port: number;
}

/** `tcp/8080`. @param protocol the IP protocol, TCP or UDP */
export function publishedId(protocol: number, l4Port: number): string {
  return `${protocolName(protocol)}/${l4Port}`;
}

/**
 * The link to weft's own sockets, which are in a network namespace of weft's own: containers reach them at the addresses
 * of their gateways. Only `listening` is ever reached there.
 */
export interface InternalPort {
  readonly portNo: PortNo;
  /** The MACs of weft's end of the link, and of the namespace's. */
  readonly mac: Uint8Array;
  readonly namespaceMac: Uint8Array;
  /** Weft's own addresses on the link, and those of the sockets; one for each family. */
  readonly addresses: readonly Uint8Array[];
  readonly sockets: readonly Uint8Array[];
  /** What the namespace sends, in bytes. It takes larger packets. */
  readonly mtu: number;
  readonly listening: readonly Listening[];
}

/** A port on which a socket of weft listens. */
export interface Listening {
  /** The IP protocol, TCP or UDP. */
  readonly protocol: number;
  readonly l4Port: number;
}

export type Internal = InternalPort & Segment;

export interface VirtualNetwork extends Segment {
  readonly name: string;
  readonly vni: Vni;
  /** The network itself: that it exists, its name, subnets and gateways, and whether it leads outside. */
  readonly object: string;
  readonly ports: ReadonlySet<PortNo>;
  /** Which ports are in it. */
  readonly portsObject: string;
  /** The MACs of its ports, its gateway's, and that of this host. */
  readonly macs: ValueSet;
  /** The ports behind which any MAC can be. */
  readonly trustedPorts: ReadonlySet<PortNo>;
  readonly subnets: readonly Prefix[];
  /** The addresses of its gateway, one for each subnet. If there are none, the network is not routed. */
  readonly gateways: readonly Uint8Array[];
  readonly gatewayMac: Uint8Array;
  /** Routes to its subnets, the declared routes, and the way outside. */
  readonly routes: RouteTable;
  /** True if packets that no other route matches go outside. */
  readonly outside: boolean;
}

/** The options of a network. */
export interface VirtualNetworkOptions {
  readonly name: string;
  readonly vni: Vni;
  readonly mtu?: number;
  readonly subnets?: readonly Prefix[];
  readonly gateways?: readonly Uint8Array[];
  readonly routes?: readonly Route[];
  /** True if packets that no route matches go outside. */
  readonly outside?: boolean;
}

type KnownNetwork = VirtualNetwork & { ports: Set<PortNo>; trustedPorts: Set<PortNo> };

export class Topology {
  /**
   * The MAC with which this host asks for neighbors. It is the host's own, since a gateway's is the same on every host.
   */
  #hostMac: Uint8Array;
  /** The VNIs of all networks, in the form of the field in the flow key. */
  readonly vnis = new ValueSet(4);
  /** The VTEPs of the other hosts. */
  readonly vteps: Vteps;
  /** What is behind them, as far as it is known. */
  readonly workloads: Workloads;
  readonly #changes: Changes;
  #tunnelPort: PortNo | undefined;
  #vxlanL4Port = VXLAN_L4_PORT;
  #vtep: Uint8Array | undefined;
  #outside: Outside | undefined;
  #internal: Internal | undefined;
  /** Whom weft's own sockets know. */
  readonly clients = new Clients();
  readonly #ports = new Map<PortNo, AccessPort>();
  readonly #sources = new Map<PortNo, readonly Uint8Array[]>();
  readonly #owners = new AddressOwners<AccessPort>();
  readonly #networks = new Map<Vni, KnownNetwork>();
  #networksVersion = 0;
  readonly #vnis = new Map<string, Vni>();

  constructor(hostMac: Uint8Array, changes: Changes) {
    this.#hostMac = hostMac.slice();
    this.#changes = changes;
    this.vteps = new Vteps(changes);
    this.workloads = new Workloads(changes);
  }

  get hostMac(): Uint8Array {
    return this.#hostMac;
  }

  /** Another host has it, so this one gets another. */
  setHostMac(mac: Uint8Array): void {
    for (const { macs, object } of this.#networks.values()) {
      macs.delete(this.#hostMac);
      macs.add(mac);
      // All decisions about frames in the network have consulted that.
      this.#changes.changed(object);
    }
    this.#hostMac = mac.slice();
  }

  /** The port of the underlay, where encapsulated frames come in; undefined without one. */
  get tunnelPort(): PortNo | undefined {
    return this.#tunnelPort;
  }

  /** The UDP port of the overlay, the same on every host. */
  get vxlanL4Port(): number {
    return this.#vxlanL4Port;
  }

  /** This host's own address in the underlay; undefined if there is no tunnel. */
  get vtep(): Uint8Array | undefined {
    return this.#vtep;
  }

  openTunnel(portNo: PortNo, l4Port = this.#vxlanL4Port, vtep?: Uint8Array): void {
    this.closeTunnel();
    this.#tunnelPort = portNo;
    this.#vxlanL4Port = l4Port;
    this.#vtep = vtep;
    this.#changes.changed(tunnelObject, portObject(portNo));
  }

  closeTunnel(): void {
    if (this.#tunnelPort === undefined) return;
    this.#changes.changed(tunnelObject, portObject(this.#tunnelPort));
    this.#tunnelPort = undefined;
    this.#vtep = undefined;
  }

  get outside(): Outside | undefined {
    return this.#outside;
  }

  /** Opens the way outside, changes it or closes it. Returns true if other ports may be published now. */
  setOutside(outside: OutsidePort | undefined): boolean {
    const before = this.#outside;
    this.#outside = outside && { ...outside, mtuObject: outsideObject };
    if (!before || !outside || !sameLink(before, outside)) {
      this.#changes.changed(outsideObject);
      for (const link of [before, outside]) if (link) this.#changes.changed(portObject(link.portNo));
    }
    const ids = new Set([...(before?.published.keys() ?? []), ...(outside?.published.keys() ?? [])]);
    const changed = [...ids].filter((id) => !samePublished(before?.published.get(id), outside?.published.get(id)));
    this.#changes.changedAll(changed.map(publishedObject));
    return !before || changed.length > 0;
  }

  get internal(): Internal | undefined {
    return this.#internal;
  }

  /** Opens the link to weft's own sockets, changes it or closes it. */
  setInternal(internal: InternalPort | undefined): void {
    if (!this.#internal && !internal) return;
    for (const link of [this.#internal, internal]) if (link) this.#changes.changed(portObject(link.portNo));
    this.#changes.changed(internalObject);
    this.#internal = internal && { ...internal, mtuObject: internalObject };
  }

  isPublished(protocol: number, port: number): boolean {
    return this.#outside?.published.has(publishedId(protocol, port)) ?? false;
  }

  port(portNo: PortNo): AccessPort | undefined {
    return this.#ports.get(portNo);
  }

  /** For people. */
  portName(portNo: PortNo): string {
    if (portNo === this.#outside?.portNo) return 'outside';
    if (portNo === this.#internal?.portNo) return 'internal';
    return this.#ports.get(portNo)?.name ?? String(portNo);
  }

  /** The addresses that the port may send from: its own, the allowed ones, and its EUI-64 link-local one. */
  sourcesOf(portNo: PortNo): readonly Uint8Array[] {
    return this.#sources.get(portNo) ?? [];
  }

  /** True if the port may send from `ip`. */
  maySendFrom(portNo: PortNo, ip: Uint8Array): boolean {
    return this.sourcesOf(portNo).some((source) => sameBytes(source, ip));
  }

  /** True if a port of the network may send from `ip`. */
  isCarried(vni: Vni, ip: Uint8Array): boolean {
    return this.#carrierOf(vni, ip) !== undefined;
  }

  #carrierOf(vni: Vni, ip: Uint8Array): AccessPort | undefined {
    const carrier = [...(this.#networks.get(vni)?.ports ?? [])].find((portNo) => this.maySendFrom(portNo, ip));
    return carrier === undefined ? undefined : this.#ports.get(carrier);
  }

  /** True if a port has the address in this network, or may send from it. */
  isAttached(vni: Vni, ip: Uint8Array): boolean {
    return this.#owners.at(vni, ip) !== undefined;
  }

  /** The port that has the address in this network, else one that may send from it. */
  ownerOf(vni: Vni, ip: Uint8Array): AccessPort | undefined {
    return this.#owners.at(vni, ip);
  }

  /** All addresses of the owner of `ip` in this network; only `ip` if nobody owns it. */
  addressesWith(vni: Vni, ip: Uint8Array): readonly Uint8Array[] {
    return this.#owners.addressesWith(vni, ip);
  }

  /** Goes up with each change of a network: what was found out about networks and their routes before may differ now. */
  get networksVersion(): number {
    return this.#networksVersion;
  }

  network(vni: Vni): VirtualNetwork | undefined {
    return this.#networks.get(vni);
  }

  /** The network that has the address in one of its subnets. A decision consults the object of the one that is found. */
  networkWith(ip: Uint8Array): VirtualNetwork | undefined {
    for (const network of this.#networks.values()) {
      if (network.subnets.some((subnet) => isInPrefix(subnet, ip))) return network;
    }
    return undefined;
  }

  networkNamed(name: string): VirtualNetwork | undefined {
    const vni = this.#vnis.get(name);
    return vni === undefined ? undefined : this.#networks.get(vni);
  }

  /** Adds a network, or changes one in place, keeping its ports. */
  setNetwork(options: VirtualNetworkOptions): void {
    const { name, vni, mtu, subnets = [], gateways = [], routes = [], outside = false } = options;
    const before = this.#networks.get(vni);
    this.#networksVersion++;
    const connected = subnets.map((prefix): Route => ({ prefix, kind: 'network', network: name }));
    const network: KnownNetwork = {
      name,
      vni,
      object: networkObject(vni),
      ports: before?.ports ?? new Set(),
      portsObject: `network/${vni}/ports`,
      macs: before?.macs ?? new ValueSet(6, [gatewayMac(vni), this.hostMac]),
      trustedPorts: before?.trustedPorts ?? new Set(),
      mtu,
      mtuObject: `network/${vni}/mtu`,
      subnets,
      gateways,
      gatewayMac: gatewayMac(vni),
      outside,
      routes: new RouteTable(vni, [...connected, ...routes, ...(outside ? waysOutside : [])]),
    };
    if (before) this.#vnis.delete(before.name);
    this.#networks.set(vni, network);
    this.#vnis.set(name, vni);
    if (!before) this.vnis.add(vniBytes(vni));
    if (!before) return this.#changes.added(network.object, networkNameObject(name), networksObject);
    if (!sameNetwork(before, network)) {
      this.#changes.changed(network.object, networkNameObject(before.name), networkNameObject(name));
    }
    if (before.mtu !== mtu) this.#changes.changed(network.mtuObject);
    this.#changes.changedAll(before.routes.changesTo(network.routes));
  }

  removeNetwork(vni: Vni): void {
    const network = this.#networks.get(vni);
    if (!network) return;
    this.#networksVersion++;
    this.#networks.delete(vni);
    this.vnis.delete(vniBytes(vni));
    this.#vnis.delete(network.name);
    // Decisions that consulted anything else of the network have also consulted one of these.
    this.#changes.changed(network.object, networkNameObject(network.name), networksObject);
  }

  /** Adds a port, or changes one in place. Its network must exist. */
  setPort(port: AccessPort): void {
    const { portNo, vni } = port;
    const known = this.#ports.get(portNo);
    if (known && samePort(known, port)) return;
    this.#ports.set(portNo, port);
    this.#sources.set(portNo, [...port.addresses, ...port.allowedAddresses, linkLocalOf(port.mac)]);
    const network = this.#networks.get(vni)!;
    network.ports.add(portNo);
    if (known) takeFrom(network, known);
    giveTo(network, port);
    this.#owners.replace(known, port, (ip) => this.#carrierOf(vni, ip));
    if (known) {
      this.#changes.changed(portObject(portNo));
      // A MAC that no port has may be behind a trusted one.
      if (known.trust !== port.trust) this.#changes.changed(network.portsObject);
      return;
    }
    this.clients.add(portNo, { network: network.name, endpoint: port.name });
    this.#changes.added(portObject(portNo), network.portsObject);
  }

  removePort(portNo: PortNo): void {
    const port = this.#ports.get(portNo);
    if (!port) return;
    this.clients.remove(portNo);
    this.#ports.delete(portNo);
    this.#sources.delete(portNo);
    const network = this.#networks.get(port.vni);
    if (network?.ports.delete(portNo)) takeFrom(network, port);
    this.#owners.remove(port, (ip) => this.#carrierOf(port.vni, ip));
    this.#changes.changed(portObject(portNo), ...(network ? [network.portsObject] : []));
  }
}

/** True if they are the same except for their ports, MTU and routes. */
function sameNetwork(a: VirtualNetwork, b: VirtualNetwork): boolean {
  return (
    a.name === b.name &&
    a.outside === b.outside &&
    same(a.gateways, b.gateways, sameBytes) &&
    same(a.subnets, b.subnets, (c, d) => c.length === d.length && sameBytes(c.ip, d.ip))
  );
}

/** Notes which MACs can be behind the port. */
function giveTo({ macs, trustedPorts }: KnownNetwork, { portNo, mac, trust }: AccessPort): void {
  macs.add(mac);
  if (trust) trustedPorts.add(portNo);
}

function takeFrom({ macs, trustedPorts }: KnownNetwork, { portNo, mac }: AccessPort): void {
  macs.delete(mac);
  trustedPorts.delete(portNo);
}

function vniBytes(vni: Vni): Uint8Array {
  return Uint8Array.of(vni >>> 24, vni >>> 16, vni >>> 8, vni);
}

function samePort(a: AccessPort, b: AccessPort): boolean {
  return (
    a.name === b.name &&
    a.vni === b.vni &&
    a.trust === b.trust &&
    sameBytes(a.mac, b.mac) &&
    same(a.addresses, b.addresses, sameBytes) &&
    same(a.allowedAddresses, b.allowedAddresses, sameBytes) &&
    same(a.allowedEtherTypes, b.allowedEtherTypes, Object.is)
  );
}

/** True if they are the same except for the published ports. */
function sameLink(a: OutsidePort, b: OutsidePort): boolean {
  return (
    a.portNo === b.portNo &&
    a.mtu === b.mtu &&
    sameBytes(a.mac, b.mac) &&
    sameBytes(a.hostMac, b.hostMac) &&
    same(a.transit, b.transit, sameBytes)
  );
}

function samePublished(a: Published | undefined, b: Published | undefined): boolean {
  if (!a || !b) return a === b;
  const isSamePlace = a.endpoint === b.endpoint && a.vni === b.vni && a.l4Port === b.l4Port;
  return isSamePlace && same(a.addresses, b.addresses, sameBytes);
}

function same<T>(a: readonly T[], b: readonly T[], isSame: (a: T, b: T) => boolean): boolean {
  return a.length === b.length && a.every((one, i) => isSame(one, b[i]!));
}

const waysOutside: readonly Route[] = ['0.0.0.0', '::'].map((ip) => ({
  prefix: { ip: parseIp(ip), length: 0 },
  kind: 'outside',
}));

/** The link to the outside: that it is open, its port, MACs, transit addresses and MTU. */
export const outsideObject = 'outside';

/** A port of the transit address, published or not. @param id `publishedId` */
export function publishedObject(id: string): string {
  return `published/${id}`;
}

/** The list of networks, consulted when no network has a VNI. */
export const networksObject = 'networks';

/** The link to weft's own sockets: whether there is one, and everything known about it. */
export const internalObject = 'internal';

/** Whether there is a tunnel. */
export const tunnelObject = 'tunnel';

/** What is behind a port number: a workload and everything known about it, the tunnel, the outside, or nothing. */
export function portObject(portNo: PortNo): string {
  return `port/${portNo}`;
}

/** The network itself, whether or not it exists. */
export function networkObject(vni: Vni): string {
  return `network/${vni}`;
}

/** Which network a name leads to, and that network itself. */
export function networkNameObject(name: string): string {
  return `network-name/${name}`;
}

/** Replaces the port number in the key of a frame that weft itself sends; `tun_vni` then names its network. */
export const OWN_PORT = 0 as PortNo;

/** The first bytes of weft's own MAC addresses: locally administered, and never given to an endpoint. */
const GATEWAY_MAC = [0x02, 0x77, 0x66] as const;
const HOST_MAC = [0x02, 0x77, 0x65] as const;
const LINK_MACS = [0x02, 0x77, 0x64] as const;
const RESERVED_MACS = [LINK_MACS, HOST_MAC, GATEWAY_MAC] as const;

/** The MAC of a network's gateway, the same on every host, so that a container may move. */
export function gatewayMac(vni: Vni): Uint8Array {
  return Uint8Array.of(...GATEWAY_MAC, vni >>> 16, vni >>> 8, vni);
}

/** A host's own MAC, from 3 bytes that distinguish hosts. */
export function hostMacOf(id: Uint8Array): Uint8Array {
  return Uint8Array.of(...HOST_MAC, ...id.subarray(0, 3));
}

/** True if it is the MAC with which some host asks. */
export function isHostMac(mac: Uint8Array): boolean {
  return HOST_MAC.every((byte, i) => mac[i] === byte);
}

/** The MACs on the link to the host: weft's end, and the host's. */
export const OUTSIDE_MAC = Uint8Array.of(...LINK_MACS, 0, 0, 2);
export const OUTSIDE_HOST_MAC = Uint8Array.of(...LINK_MACS, 0, 0, 1);

/** The MACs on the link to weft's own sockets: weft's end, and their namespace's. */
export const INTERNAL_MAC = Uint8Array.of(...LINK_MACS, 0, 1, 2);
export const INTERNAL_NAMESPACE_MAC = Uint8Array.of(...LINK_MACS, 0, 1, 1);

/** How those begin: `02:77:64:…, 02:77:65:…`. */
export const reservedMacsText = RESERVED_MACS.map(
  (prefix) => `${formatMac(Uint8Array.of(...prefix, 0, 0, 0)).slice(0, 8)}:…`,
).join(', ');

/** True if it is one that only weft itself may have. */
export function isReservedMac(mac: Uint8Array): boolean {
  return RESERVED_MACS.some((prefix) => prefix.every((byte, i) => mac[i] === byte));
}
