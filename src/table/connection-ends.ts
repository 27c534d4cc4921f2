/** The ends of a connection that is to be opened: what its packets become, and whose place it takes. */
import { INTERNAL, OUTSIDE, turned, type Place, type Tuple } from '../flow/connection.ts';
import { isTaken } from '../flow/connection-state.ts';
import type { ConnectionStore, GivenUp } from '../flow/connection-store.ts';
import { isIp4 } from '../flow/types.ts';
import { IP_ICMP, IP_ICMPV6 } from '../wire/ipv4.ts';
import { CLIENT_ADDRESSES, clientAddress } from './clients.ts';
import type { NatPorts } from './nat-ports.ts';
import {
  choiceOf,
  clientOriginOf,
  placesOf,
  toBackend,
  type Opening,
  type OutwardOpening,
  type ServiceOpening,
} from './openings.ts';

export class ConnectionEnds {
  readonly #store: ConnectionStore;
  readonly #ports: NatPorts;
  readonly #isReserved: (protocol: number, port: number) => boolean;

  /** @param isReserved true if no connection from inside may have this port of the transit address */
  constructor(store: ConnectionStore, ports: NatPorts, isReserved: (protocol: number, port: number) => boolean) {
    this.#store = store;
    this.#ports = ports;
    this.#isReserved = isReserved;
  }

  /** Whose place it takes: of the same ends. Undefined if there is no such connection. */
  rivalOf(opening: Opening): GivenUp | undefined {
    const { vni, protocol, original } = opening;
    const { records } = this.#store;
    // What was only tracked until now, since it went another way, is translated from now on.
    const tracked = this.#store.lookup(placesOf(opening)[0], protocol, original);
    if (tracked && records.kind(tracked.slot) === 'tracked') return tracked;
    // To weft's own sockets, that is one of another client with the same addresses and ports: whoever speaks last has them.
    // To a service, it is one that is over, whose client begins anew, or what is left of one to the same backend.
    if ('socket' in opening || 'replies' in opening || choiceOf(opening)) {
      const known = this.#store.lookup(clientOriginOf(opening), protocol, original);
      if (known || !('replies' in opening) || !opening.choice) return known;
      const [first] = toBackend(opening);
      const left = this.#store.lookup(opening.replies, protocol, turned(first!));
      return left && records.kind(left.slot) === 'ended' ? left : undefined;
    }
    // By another host: one by a third host, or by this one.
    if ('via' in opening) {
      return this.#store.lookup(vni, protocol, original) ?? this.#store.lookup(vni, protocol, turned(original));
    }
    // The container may have a conversation of its own with the same ends. A port that is chosen is free.
    return 'translated' in opening ? this.#store.lookup(vni, protocol, turned(opening.translated)) : undefined;
  }

  /** The tuple with which its original packets go out; undefined if there is none left for it. */
  translated(opening: Opening, addresses: readonly Uint8Array[], rival: number): Tuple | undefined {
    if ('translated' in opening) return opening.translated;
    if ('via' in opening) return opening.original;
    if ('replies' in opening) return this.#ofService(opening, rival);
    return 'socket' in opening ? this.#ofClient(opening) : this.#ofPort(opening, addresses);
  }

  /** With a port of the transit address that is free towards its destination. */
  #ofPort(opening: OutwardOpening, addresses: readonly Uint8Array[]): Tuple | undefined {
    const { protocol, original, address, choice } = opening;
    const destination = choice?.backend.address ?? original.destination;
    const destinationPort = choice?.l4Port ?? original.destinationPort;
    const isEcho = isEchoProtocol(protocol);
    const port = this.#ports.choose(opening, addresses, (port) => {
      if (this.#isReserved(protocol, port)) return false;
      const peerPort = isEcho ? port : destinationPort;
      const reply = { source: destination, destination: address, sourcePort: peerPort, destinationPort: port };
      return this.#store.find(OUTSIDE, protocol, reply) < 0;
    });
    if (port === undefined) return undefined;
    return { source: address, destination, sourcePort: port, destinationPort: isEcho ? port : destinationPort };
  }

  /**
   * To its backend. The client may talk to the backend from the same port by way of another service, or straight to its
   * address, wherever the replies to that come in, so that it needs another port. @param rival the slot of a connection whose place it takes
   */
  #ofService(opening: ServiceOpening, rival: number): Tuple | undefined {
    const { protocol, replies } = opening;
    for (const tuple of toBackend(opening, rival >= 0 && isTaken(this.#store.records, rival))) {
      const taken = this.#store.find(replies, protocol, turned(tuple)) >> 1;
      const isFree = taken < 0 || taken === rival;
      if (isFree && !this.#isTracked(clientOriginOf(opening), protocol, tuple)) return tuple;
    }
    return undefined;
  }

  /** True if a tracked conversation has packets with this tuple, in its original direction. */
  #isTracked(place: Place, protocol: number, tuple: Tuple): boolean {
    const handle = this.#store.find(place, protocol, tuple);
    return handle >= 0 && (handle & 1) === 0 && this.#store.records.kind(handle >> 1) === 'tracked';
  }

  /** With the first address of the client that has no other conversation with the same ports. */
  #ofClient({ protocol, original, socket, client }: Extract<Opening, { socket: Uint8Array }>): Tuple | undefined {
    for (let turn = 0; turn < CLIENT_ADDRESSES; turn++) {
      const source = clientAddress(client, isIp4(original.source), turn);
      const tuple = { ...original, source, destination: socket };
      if (this.#store.find(INTERNAL, protocol, turned(tuple)) < 0) return tuple;
    }
    return undefined;
  }
}

function isEchoProtocol(protocol: number): boolean {
  return protocol === IP_ICMP || protocol === IP_ICMPV6;
}
