/**
 * Topology: the ports of the switch and the networks that they are in, as the
 * pipeline sees them. Changed by the switch alone; methods return the names of
 * what changed, so that decisions that consulted it are made anew.
 */
import { bytesId } from '../flow/key.ts';
import { formatIp, formatMac, linkLocalOf, parseIp, sameBytes, type PortNo, type Vni } from '../flow/types.ts';
import { RouteTable, routesObject, type Prefix, type Route } from './routes.ts';
import { VXLAN_L4_PORT } from '../wire/vxlan.ts';

/** A port with a workload behind it. */
export interface AccessPort {
  readonly portNo: PortNo;
  readonly name: string;
  readonly vni: Vni;
  readonly mac: Uint8Array;
  /** 16 bytes each; what its neighbors may resolve. */
  readonly addresses: readonly Uint8Array[];
  /** Further addresses that it may send from. */
  readonly allowedAddresses: readonly Uint8Array[];
  /** What it may send besides IPv4, IPv6 and ARP. */
  readonly allowedEtherTypes: readonly number[];
  /** No anti-spoofing, and its MAC addresses are learned. */
  readonly trust: boolean;
}

/** The way out of all networks: a port to the host that weft runs on. */
export interface Outside {
  readonly portNo: PortNo;
  /** At weft's end of the link, and at the host's. */
  readonly mac: Uint8Array;
  readonly hostMac: Uint8Array;
  /** Weft's own addresses on it, one a family: what containers' addresses are translated to. */
  readonly transit: readonly Uint8Array[];
  /** In bytes. */
  readonly mtu: number;
  /** By `publishedId`. */
  readonly published: ReadonlyMap<string, Published>;
}

/** Where a port of the transit address leads. */
export interface Published {
  readonly endpoint: string;
  readonly vni: Vni;
  /** Of each family that it has. */
  readonly addresses: readonly Uint8Array[];
  readonly l4Port: number;
}

/** @param protocol of IP: TCP or UDP */
export function publishedId(protocol: number, l4Port: number): string {
  return `${protocol}/${l4Port}`;
}

export interface VirtualNetwork {
  readonly name: string;
  readonly vni: Vni;
  readonly ports: ReadonlySet<PortNo>;
  /** Of its containers' interfaces, in bytes; unknown where nobody said. */
  readonly mtu: number | undefined;
  readonly subnets: readonly Prefix[];
  /** Its gateway's addresses, one a subnet; the MAC is `gatewayMac`. None: it is not routed. */
  readonly gateways: readonly Uint8Array[];
  /** To its subnets, those that were declared, and the way outside. */
  readonly routes: RouteTable;
}

/** What a network is declared with. */
export interface VirtualNetworkOptions {
  readonly name: string;
  readonly vni: Vni;
  readonly mtu?: number;
  readonly subnets?: readonly Prefix[];
  readonly gateways?: readonly Uint8Array[];
  readonly routes?: readonly Route[];
  /** What no route leads to goes outside. */
  readonly outside?: boolean;
}

type KnownNetwork = VirtualNetwork & { ports: Set<PortNo> };

export class Topology {
  /** Of the underlay: where encapsulated frames come in; undefined without one. */
  tunnelPort: PortNo | undefined;
  /** The overlay's UDP port, on every host of it. */
  vxlanL4Port = VXLAN_L4_PORT;
  #outside: Outside | undefined;
  /** By which this host asks for neighbors: its own, where a gateway's is the same on every host. */
  readonly hostMac: Uint8Array;
  readonly #ports = new Map<PortNo, AccessPort>();
  readonly #vniBytes = new Map<Vni, Uint8Array>();
  readonly #sources = new Map<PortNo, readonly Uint8Array[]>();
  /** By network and address: whose it is, first of all who has it, else one that may send from it. */
  readonly #owners = new Map<string, PortNo>();
  readonly #networks = new Map<Vni, KnownNetwork>();
  readonly #vnis = new Map<string, Vni>();
  readonly #vteps = new Map<string, Uint8Array>();
  readonly #pathMtus = new Map<string, number>();

  constructor(hostMac: Uint8Array) {
    this.hostMac = hostMac.slice();
  }

  get outside(): Outside | undefined {
    return this.#outside;
  }

  setOutside(outside: Outside | undefined): readonly string[] {
    this.#outside = outside;
    return [outsideObject];
  }

  isPublished(protocol: number, port: number): boolean {
    return this.#outside?.published.has(publishedId(protocol, port)) ?? false;
  }

  port(portNo: PortNo): AccessPort | undefined {
    return this.#ports.get(portNo);
  }

  /** What the port may send from: its addresses, the allowed ones, its EUI-64 link-local one. */
  sourcesOf(portNo: PortNo): readonly Uint8Array[] {
    return this.#sources.get(portNo) ?? [];
  }

  /** May the port send from `ip`? */
  maySendFrom(portNo: PortNo, ip: Uint8Array): boolean {
    return this.sourcesOf(portNo).some((source) => sameBytes(source, ip));
  }

  /** May a port of the network send from `ip`? */
  isCarried(vni: Vni, ip: Uint8Array): boolean {
    return [...(this.#networks.get(vni)?.ports ?? [])].some((portNo) => this.maySendFrom(portNo, ip));
  }

  /** All addresses of whose `ip` is in this network; `ip` alone where it is nobody's. */
  addressesWith(vni: Vni, ip: Uint8Array): readonly Uint8Array[] {
    const owner = this.#owners.get(addressId(vni, ip));
    const port = owner === undefined ? undefined : this.#ports.get(owner);
    if (!port) return [ip];
    const byId = new Map([...port.addresses, ...port.allowedAddresses].map((each) => [addressId(vni, each), each]));
    return [...byId].flatMap(([id, each]) => (this.#owners.get(id) === owner ? [each] : []));
  }

  /** The VNIs of all networks, as a field of the flow key has them. */
  vnis(): Iterable<Uint8Array> {
    return this.#vniBytes.values();
  }

  network(vni: Vni): VirtualNetwork | undefined {
    return this.#networks.get(vni);
  }

  networkNamed(name: string): VirtualNetwork | undefined {
    const vni = this.#vnis.get(name);
    return vni === undefined ? undefined : this.#networks.get(vni);
  }

  /** The VTEPs of the other hosts: every network reaches to all of them. */
  vteps(): Iterable<Uint8Array> {
    return this.#vteps.values();
  }

  isVtep(address: Uint8Array): boolean {
    return this.#vteps.has(bytesId(address));
  }

  /** Adds a network, or changes one in place: its ports stay. */
  setNetwork({
    name,
    vni,
    mtu,
    subnets = [],
    gateways = [],
    routes = [],
    outside = false,
  }: VirtualNetworkOptions): readonly string[] {
    const connected = subnets.map((prefix): Route => ({ prefix, kind: 'network', network: name }));
    const ports = this.#networks.get(vni)?.ports ?? new Set();
    this.#networks.set(vni, {
      name,
      vni,
      mtu,
      ports,
      subnets,
      gateways,
      routes: new RouteTable([...connected, ...routes, ...(outside ? waysOutside : [])]),
    });
    this.#vnis.set(name, vni);
    const isNew = !this.#vniBytes.has(vni);
    this.#vniBytes.set(vni, Uint8Array.of(vni >>> 24, vni >>> 16, vni >>> 8, vni));
    return [networkObject(vni), networkNameObject(name), routesObject(vni), ...(isNew ? [networksObject] : [])];
  }

  removeNetwork(vni: Vni): readonly string[] {
    const network = this.#networks.get(vni);
    this.#networks.delete(vni);
    this.#vniBytes.delete(vni);
    if (network) this.#vnis.delete(network.name);
    return network ? [networkObject(vni), networkNameObject(network.name), routesObject(vni), networksObject] : [];
  }

  /** Adds a port, or changes one in place. Its network must exist. */
  setPort(port: AccessPort): readonly string[] {
    const sources = [...port.addresses, ...port.allowedAddresses, linkLocalOf(port.mac)];
    const before = this.#disown(port.portNo);
    for (const ip of port.addresses) this.#owners.set(addressId(port.vni, ip), port.portNo);
    for (const ip of port.allowedAddresses) {
      const id = addressId(port.vni, ip);
      if (!this.#owners.has(id)) this.#owners.set(id, port.portNo);
    }
    this.#ports.set(port.portNo, port);
    this.#sources.set(port.portNo, sources);
    this.#networks.get(port.vni)!.ports.add(port.portNo);
    this.#handOver(port.vni, before);
    return [portObject(port.portNo), networkObject(port.vni)];
  }

  removePort(portNo: PortNo): readonly string[] {
    const port = this.#ports.get(portNo);
    if (!port) return [];
    const owned = this.#disown(portNo);
    this.#ports.delete(portNo);
    this.#sources.delete(portNo);
    this.#networks.get(port.vni)?.ports.delete(portNo);
    this.#handOver(port.vni, owned);
    return [portObject(portNo), networkObject(port.vni)];
  }

  /** @returns the addresses that nobody owns now */
  #disown(portNo: PortNo): readonly Uint8Array[] {
    const port = this.#ports.get(portNo);
    if (!port) return [];
    const owned = [...port.addresses, ...port.allowedAddresses].filter(
      (ip) => this.#owners.get(addressId(port.vni, ip)) === portNo,
    );
    for (const ip of owned) this.#owners.delete(addressId(port.vni, ip));
    return owned;
  }

  /** Those of `addresses` that nobody owns become another port's that may send from them. */
  #handOver(vni: Vni, addresses: readonly Uint8Array[]): void {
    const ports = [...(this.#networks.get(vni)?.ports ?? [])];
    for (const ip of addresses) {
      const id = addressId(vni, ip);
      if (this.#owners.has(id)) continue;
      const heir = ports.find((portNo) => this.maySendFrom(portNo, ip));
      if (heir !== undefined) this.#owners.set(id, heir);
    }
  }

  /** The largest inner packet that the way to a VTEP takes, in bytes; undefined where it is not known. */
  pathMtu(vtep: Uint8Array): number | undefined {
    return this.#pathMtus.get(bytesId(vtep));
  }

  setPathMtu(vtep: Uint8Array, bytes: number): readonly string[] {
    const id = bytesId(vtep);
    if (this.#pathMtus.get(id) === bytes) return [];
    this.#pathMtus.set(id, bytes);
    return [pathObject(vtep)];
  }

  addVtep(address: Uint8Array): readonly string[] {
    this.#vteps.set(bytesId(address), address.slice());
    return [vtepsObject];
  }

  removeVtep(address: Uint8Array): readonly string[] {
    this.#pathMtus.delete(bytesId(address));
    return this.#vteps.delete(bytesId(address)) ? [vtepsObject] : [];
  }
}

function addressId(vni: Vni, ip: Uint8Array): string {
  return `${vni}/${bytesId(ip)}`;
}

const waysOutside: readonly Route[] = ['0.0.0.0', '::'].map((ip) => ({
  prefix: { ip: parseIp(ip), length: 0 },
  kind: 'outside',
}));

/** The way outside and the ports that are published there, as a decision consults them. */
export const outsideObject = 'outside';

/** The list of networks, as a decision consults it that found none. */
export const networksObject = 'networks';

/** The list of VTEPs, as a decision consults it. */
export const vtepsObject = 'vteps';
/** Is there a tunnel? */
export const tunnelObject = 'tunnel';

/** What the way to a VTEP takes. */
export function pathObject(vtep: Uint8Array): string {
  return `path/${formatIp(vtep)}`;
}

export function portObject(portNo: PortNo): string {
  return `port/${portNo}`;
}

/** The existence of a network and the ports in it. */
export function networkObject(vni: Vni): string {
  return `network/${vni}`;
}

/** Which network a name leads to. */
export function networkNameObject(name: string): string {
  return `network-name/${name}`;
}

/** The first bytes of MAC addresses that are weft's own: locally administered, and never given to an endpoint. */
const GATEWAY_MAC = [0x02, 0x77, 0x66] as const;
const HOST_MAC = [0x02, 0x77, 0x65] as const;
const OUTSIDE_MACS = [0x02, 0x77, 0x64] as const;
const RESERVED_MACS = [OUTSIDE_MACS, HOST_MAC, GATEWAY_MAC] as const;

/** The MAC of a network's gateway: the same on every host, so that a container may move. */
export function gatewayMac(vni: Vni): Uint8Array {
  return Uint8Array.of(...GATEWAY_MAC, vni >>> 16, vni >>> 8, vni);
}

/** A host's own MAC, from 3 bytes that tell hosts apart. */
export function hostMacOf(id: Uint8Array): Uint8Array {
  return Uint8Array.of(...HOST_MAC, ...id.subarray(0, 3));
}

/** Is it one by which some host asks? */
export function isHostMac(mac: Uint8Array): boolean {
  return HOST_MAC.every((byte, i) => mac[i] === byte);
}

/** Of the link to the host: weft's end, and the host's. */
export const OUTSIDE_MAC = Uint8Array.of(...OUTSIDE_MACS, 0, 0, 2);
export const OUTSIDE_HOST_MAC = Uint8Array.of(...OUTSIDE_MACS, 0, 0, 1);

/** How those begin: `02:77:64:…, 02:77:65:…`. */
export const reservedMacsText = RESERVED_MACS.map(
  (prefix) => `${formatMac(Uint8Array.of(...prefix, 0, 0, 0)).slice(0, 8)}:…`,
).join(', ');

/** Is it one that only weft itself may have? */
export function isReservedMac(mac: Uint8Array): boolean {
  return RESERVED_MACS.some((prefix) => prefix.every((byte, i) => mac[i] === byte));
}
