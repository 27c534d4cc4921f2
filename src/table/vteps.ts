/**
 * The VTEPs of the other hosts: which there are, how large the path to each is, and whether it is down.
 * Every network reaches all of them.
 *
 * A VTEP that is down takes no frames: floods leave it out, and what is for a station behind it is refused.
 * Who says that it is down is not decided here (`forwarding.ts`).
 *
 * Some are hosts that share the store. All workloads behind these are known, so they are not believed beyond that, and
 * nothing is flooded to them without need. Behind the others, which are static peers or no hosts of weft at all, anything
 * can be.
 */
import { bytesId } from '../flow/key.ts';
import { formatIp, sameBytes } from '../flow/types.ts';
import type { Changes } from './changes.ts';

/** A VTEP of another host. */
interface Vtep {
  readonly address: Uint8Array;
  readonly object: string;
  /** Of a host that shares the store: the MAC with which it asks for neighbors. */
  readonly hostMac: Uint8Array | undefined;
}

interface Lists {
  readonly list: readonly Vtep[];
  readonly addresses: readonly Uint8Array[];
  readonly reachable: readonly Uint8Array[];
}

/** The path to a VTEP. */
export interface TunnelPath {
  /** The largest inner packet that it carries, in bytes; undefined if that is not known. */
  readonly mtu: number | undefined;
  readonly object: string;
}

export class Vteps {
  readonly #changes: Changes;
  readonly #vteps = new Map<string, Vtep>();
  /** Made when they are asked for: a start adds very many. */
  #lists: Lists | undefined;
  /** How many share the store. */
  #sharing = 0;
  readonly #down = new Set<string>();
  readonly #paths = new Map<string, TunnelPath>();

  constructor(changes: Changes) {
    this.#changes = changes;
  }

  all(): readonly Uint8Array[] {
    return this.#made.addresses;
  }

  /** One of them, by its position in that list. */
  at(index: number): Vtep {
    return this.#made.list[index]!;
  }

  /** The one with that address. A decision consults `vtepObject`. */
  get(address: Uint8Array): Vtep | undefined {
    return this.#vteps.get(bytesId(address));
  }

  has(address: Uint8Array): boolean {
    return this.#vteps.has(bytesId(address));
  }

  /** Those that are not down. */
  reachable(): readonly Uint8Array[] {
    return this.#made.reachable;
  }

  /** True if one of them shares the store. */
  get areSharing(): boolean {
    return this.#sharing > 0;
  }

  /** True for a host that shares the store. */
  isSharing(address: Uint8Array): boolean {
    return this.#vteps.get(bytesId(address))?.hostMac !== undefined;
  }

  isDown(address: Uint8Array): boolean {
    return this.#down.has(bytesId(address));
  }

  path(address: Uint8Array): TunnelPath {
    return this.#paths.get(bytesId(address)) ?? { mtu: undefined, object: pathObject(address) };
  }

  /** Adds one, or changes whether it is of a host that shares the store. @param hostMac the MAC of such a host */
  add(address: Uint8Array, hostMac?: Uint8Array): void {
    const id = bytesId(address);
    const known = this.#vteps.get(id);
    if (known && isSame(known.hostMac, hostMac)) return;
    const object = known?.object ?? vtepObject(address);
    this.#sharing += Number(hostMac !== undefined) - Number(known?.hostMac !== undefined);
    this.#vteps.set(id, { address: known?.address ?? address.slice(), object, hostMac: hostMac?.slice() });
    // An entry of its own, so that decisions find the name of the object there.
    if (!this.#paths.has(id)) this.#paths.set(id, this.path(address));
    this.#lists = undefined;
    if (known) this.#changes.changed(object, vtepsObject, reachableVtepsObject);
    else this.#changes.added(object, vtepsObject, reachableVtepsObject);
  }

  remove(address: Uint8Array): void {
    const id = bytesId(address);
    const { mtu, object } = this.path(address);
    if (mtu !== undefined) this.#changes.changed(object);
    this.#paths.delete(id);
    if (this.#down.delete(id)) this.#changes.changed(vtepStateObject(address));
    const known = this.#vteps.get(id);
    if (!known) return;
    this.#vteps.delete(id);
    this.#lists = undefined;
    this.#sharing -= Number(known.hostMac !== undefined);
    this.#changes.changed(vtepObject(address), vtepsObject, reachableVtepsObject);
  }

  /** Does nothing for an address that is not a VTEP. */
  setPathMtu(address: Uint8Array, bytes: number): void {
    const { mtu, object } = this.path(address);
    if (mtu === bytes || !this.has(address)) return;
    this.#paths.set(bytesId(address), { mtu: bytes, object });
    this.#changes.changed(object);
  }

  /** Does nothing for an address that is not a VTEP. */
  setDown(address: Uint8Array, isDown: boolean): void {
    const id = bytesId(address);
    if (this.#down.has(id) === isDown || !this.has(address)) return;
    if (isDown) this.#down.add(id);
    else this.#down.delete(id);
    this.#lists = undefined;
    this.#changes.changed(vtepStateObject(address), reachableVtepsObject);
  }

  get #made(): Lists {
    if (this.#lists) return this.#lists;
    const list = [...this.#vteps.values()];
    const addresses = list.map(({ address }) => address);
    const reachable = addresses.filter((address) => !this.isDown(address));
    return (this.#lists = { list, addresses, reachable });
  }
}

function isSame(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a && b ? sameBytes(a, b) : a === b;
}

/** The list of VTEPs, consulted when an address turned out not to be one. */
export const vtepsObject = 'vteps';

/** The list of VTEPs that are not down, consulted when all of them are used. */
export const reachableVtepsObject = 'vteps/reachable';

/** Whether that address is a VTEP, and of which host. */
export function vtepObject(address: Uint8Array): string {
  return `vtep/${formatIp(address)}`;
}

/** Whether that VTEP is down. */
export function vtepStateObject(address: Uint8Array): string {
  return `vtep/${formatIp(address)}/state`;
}

/** The limit of the path to a VTEP. */
function pathObject(address: Uint8Array): string {
  return `path/${formatIp(address)}`;
}
