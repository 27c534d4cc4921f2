/**
 * A workload of another host: its MAC and its addresses, and the VTEP that it is behind. There may be very many of them,
 * so the bytes of an address are kept as characters, at a tenth of the memory that an array of so few bytes takes, and
 * arrays are made when a decision reads them.
 */
import { bytesId, bytesOf } from '../flow/key.ts';
import { linkLocalOf, sameBytes, type Vni } from '../flow/types.ts';

/** An endpoint of another host, whose MAC and addresses are declared to be there. */
export interface RemoteEndpoint {
  readonly vni: Vni;
  readonly mac: Uint8Array;
  readonly addresses: readonly Uint8Array[];
  /** Further addresses that it may send from. */
  readonly allowedAddresses?: readonly Uint8Array[];
  /** Best one array for all workloads behind it. */
  readonly vtep: Uint8Array;
  /** True if it may be a router or a DHCP server, whose messages are believed, with other workloads behind it. */
  readonly trust: boolean;
}

const ADDRESS_BYTES = 16;

export class Workload {
  readonly vni: Vni;
  readonly vtep: Uint8Array;
  readonly trust: boolean;
  /** `bytesId` of the MAC. */
  readonly macId: string;
  readonly #addresses: string;
  readonly #allowed: string;

  constructor({ vni, mac, addresses, allowedAddresses = [], vtep, trust }: RemoteEndpoint) {
    this.vni = vni;
    this.vtep = vtep;
    this.trust = trust;
    this.macId = bytesId(mac);
    this.#addresses = addresses.map(bytesId).join('');
    this.#allowed = allowedAddresses.map(bytesId).join('');
  }

  get mac(): Uint8Array {
    return bytesOf(this.macId);
  }

  /** Its own addresses; as `bytesId` has them. */
  get addressIds(): string[] {
    return split(this.#addresses);
  }

  /** The further addresses that it may send from. */
  get allowedIds(): string[] {
    return split(this.#allowed);
  }

  /** Everything that it may send from in its network, its link-local address too. */
  get sources(): Uint8Array[] {
    return [...[...this.addressIds, ...this.allowedIds].map(bytesOf), linkLocalOf(this.mac)];
  }

  isSame(other: Workload): boolean {
    return (
      this.vni === other.vni &&
      this.trust === other.trust &&
      this.macId === other.macId &&
      this.#addresses === other.#addresses &&
      this.#allowed === other.#allowed &&
      sameBytes(this.vtep, other.vtep)
    );
  }
}

function split(ids: string): string[] {
  return Array.from({ length: ids.length / ADDRESS_BYTES }, (_, n) =>
    ids.slice(n * ADDRESS_BYTES, (n + 1) * ADDRESS_BYTES),
  );
}
