/**
 * Topology: the ports of the switch and the networks that they are in, as the
 * pipeline sees them. Changed by the switch alone; methods return the names of
 * what changed, so that decisions that consulted it are made anew.
 */
import { bytesId } from '../flow/key.ts';
import { linkLocalOf, type PortNo, type Vni } from '../flow/types.ts';

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
  /** No anti-spoofing, and its MAC addresses are learned. */
  readonly trust: boolean;
}

export interface Network {
  readonly name: string;
  readonly vni: Vni;
  readonly ports: ReadonlySet<PortNo>;
}

export class Topology {
  /** Of the underlay: where encapsulated frames come in; undefined without one. */
  tunnelPort: PortNo | undefined;
  readonly #ports = new Map<PortNo, AccessPort>();
  readonly #sources = new Map<PortNo, ReadonlySet<string>>();
  readonly #networks = new Map<Vni, { name: string; vni: Vni; ports: Set<PortNo> }>();
  readonly #vteps = new Map<string, Uint8Array>();

  port(portNo: PortNo): AccessPort | undefined {
    return this.#ports.get(portNo);
  }

  /** May the port send from `ip` (its addresses, the allowed ones, its EUI-64 link-local one)? */
  maySendFrom(portNo: PortNo, ip: Uint8Array): boolean {
    return this.#sources.get(portNo)?.has(bytesId(ip)) ?? false;
  }

  network(vni: Vni): Network | undefined {
    return this.#networks.get(vni);
  }

  /** The VTEPs of the other hosts: every network reaches to all of them. */
  vteps(): Iterable<Uint8Array> {
    return this.#vteps.values();
  }

  isVtep(address: Uint8Array): boolean {
    return this.#vteps.has(bytesId(address));
  }

  addNetwork(name: string, vni: Vni): readonly string[] {
    this.#networks.set(vni, { name, vni, ports: new Set() });
    return [networkObject(vni)];
  }

  removeNetwork(vni: Vni): readonly string[] {
    return this.#networks.delete(vni) ? [networkObject(vni)] : [];
  }

  /** Adds a port, or changes one in place. Its network must exist. */
  setPort(port: AccessPort): readonly string[] {
    const sources = [...port.addresses, ...port.allowedAddresses, linkLocalOf(port.mac)];
    this.#ports.set(port.portNo, port);
    this.#sources.set(port.portNo, new Set(sources.map(bytesId)));
    this.#networks.get(port.vni)!.ports.add(port.portNo);
    return [portObject(port.portNo), networkObject(port.vni)];
  }

  removePort(portNo: PortNo): readonly string[] {
    const port = this.#ports.get(portNo);
    if (!port) return [];
    this.#ports.delete(portNo);
    this.#sources.delete(portNo);
    this.#networks.get(port.vni)?.ports.delete(portNo);
    return [portObject(portNo), networkObject(port.vni)];
  }

  addVtep(address: Uint8Array): readonly string[] {
    this.#vteps.set(bytesId(address), address.slice());
    return [vtepsObject];
  }

  removeVtep(address: Uint8Array): readonly string[] {
    return this.#vteps.delete(bytesId(address)) ? [vtepsObject] : [];
  }
}

/** The list of VTEPs, as a decision consults it. */
export const vtepsObject = 'vteps';

export function portObject(portNo: PortNo): string {
  return `port/${portNo}`;
}

/** The existence of a network and the ports in it. */
export function networkObject(vni: Vni): string {
  return `network/${vni}`;
}
