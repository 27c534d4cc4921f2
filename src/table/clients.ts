/**
 * Clients: who the ports of containers are to weft's own sockets.
 *
 *   10.0.0.2:5000 ─► gateway:53     becomes     16.0.0.7:5000 ─► 169.254.77.6:53
 *
 * Networks may have the same addresses, and a trusted container may write any source. So a socket of
 * weft does not see what a container wrote: each port is a client with a number, and the switch
 * replaces the source by an address that contains this number. The namespace is weft's own, so these
 * addresses can be any. No two ports have had the same number since the switch started (until after
 * 16 million of them), so a packet that waits while its sender is detached is never taken for
 * another's.
 *
 * A client has several addresses, because two of its addresses may use one source port. When a socket of weft opens a
 * connection to a client, they stand for the addresses of the port, in their order within each family.
 *
 * `watch` tells who keeps a copy of the list, such as the thread of the sockets, which then knows
 * each client without asking.
 */
import { isIp4, type PortNo } from '../flow/types.ts';

export interface SocketClient {
  readonly id: number;
  readonly network: string;
  readonly endpoint: string;
}

/** Told of each client that comes, and of the number of each that goes. */
export interface ClientWatcher {
  added(client: SocketClient): void;
  removed(id: number): void;
}

/** Numbers have 24 bits; 0 is nobody's. */
const MOST_CLIENTS = 0xff_ffff;
/** How many addresses of each family a client has. */
export const CLIENT_ADDRESSES = 64;
/** IPv4: 16.0.0.0 to 79.255.255.255. */
const FIRST_BYTE = 16;
/** IPv6: fd77:6566:7432::/48. */
const PREFIX = [0xfd, 0x77, 0x65, 0x66, 0x74, 0x32] as const;

/** One of a client's addresses, 16 bytes. @param turn which, below `CLIENT_ADDRESSES` */
export function clientAddress(id: number, isV4: boolean, turn: number): Uint8Array {
  const ip = new Uint8Array(16);
  ip.set([id >>> 16, id >>> 8, id], 13);
  if (isV4) ip.set([0xff, 0xff, FIRST_BYTE + turn], 10);
  else {
    ip.set(PREFIX);
    ip[7] = turn;
  }
  return ip;
}

/** The number of the client that has this address; 0 if none can have it. */
export function clientOfAddress(ip: Uint8Array): number {
  const isClients = isIp4(ip)
    ? ip[12]! >= FIRST_BYTE && ip[12]! < FIRST_BYTE + CLIENT_ADDRESSES
    : PREFIX.every((byte, i) => ip[i] === byte);
  return isClients ? (ip[13]! << 16) | (ip[14]! << 8) | ip[15]! : 0;
}

/** Which of its client's addresses this is: the `turn` of `clientAddress`. */
export function turnOfAddress(ip: Uint8Array): number {
  return isIp4(ip) ? ip[12]! - FIRST_BYTE : ip[7]!;
}

export class Clients {
  readonly #byPort = new Map<PortNo, SocketClient>();
  readonly #ports = new Map<number, PortNo>();
  readonly #watchers = new Set<ClientWatcher>();
  #last = 0;

  all(): SocketClient[] {
    return [...this.#byPort.values()];
  }

  /** The number of the client behind a port; 0 if there is none. */
  of(port: PortNo): number {
    return this.#byPort.get(port)?.id ?? 0;
  }

  /** The port behind which the client with this number is. */
  portOf(id: number): PortNo | undefined {
    return this.#ports.get(id);
  }

  add(port: PortNo, who: Omit<SocketClient, 'id'>): void {
    const client = { id: this.#free(), ...who };
    this.#byPort.set(port, client);
    this.#ports.set(client.id, port);
    for (const watcher of this.#watchers) watcher.added(client);
  }

  remove(port: PortNo): void {
    const client = this.#byPort.get(port);
    if (!client) return;
    this.#byPort.delete(port);
    this.#ports.delete(client.id);
    for (const watcher of this.#watchers) watcher.removed(client.id);
  }

  /** Tells of all changes from now on. Returns a function that stops it. */
  watch(watcher: ClientWatcher): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** There are fewer ports than numbers. */
  #free(): number {
    do this.#last = this.#last === MOST_CLIENTS ? 1 : this.#last + 1;
    while (this.#ports.has(this.#last));
    return this.#last;
  }
}
