/**
 * Source ports (for pings, identifiers) that connections from inside get at the transit address.
 *
 * They are in a range that the host's own translation leaves as they are (outside/rules.ts), so the outside sees
 * exactly these. They are never the container's own: with the port of a program of the host, the container would get
 * what is meant for that program (CVE-2021-3773). A keyed hash chooses them, so no container can aim for a
 * particular one.
 *
 * One source (address and port of a container) has one port towards all destinations: endpoint-independent mapping,
 * RFC 4787 REQ-1. Such a port is reserved for the source, and an endpoint can reserve at most a quarter of all ports.
 * Beyond that, and if no port is free, a port is chosen for each destination: many sources use the same one towards
 * different destinations.
 *
 * Each family and protocol has its own ports. Everything that is stored here follows from the connections.
 */
import { NAT_PORTS, type Tuple } from '../flow/connection.ts';
import { bytesId } from '../flow/key.ts';
import { keyedHash } from '../flow/keyed-hash.ts';
import { isIp4, type Vni } from '../flow/types.ts';
import { ReservedPorts, SOURCE_BYTES } from './reserved-ports.ts';

/** How many ports one endpoint may reserve. */
const OWN_PORTS = NAT_PORTS.count / 4;
/**
 * How many ports are tried: to reserve one, to find one that nobody has reserved, to find any that is free for the
 * destination.
 */
const TRIED = { own: 64, untaken: 8, any: 256 };
const INPUT_BYTES = 41;
const noAddress = new Uint8Array(16);

/** Where a connection from inside begins. */
export interface Origin {
  readonly vni: Vni;
  readonly protocol: number;
  readonly original: Tuple;
}

/** The same with the result of the translation. */
type Mapped = Origin & { readonly translated: Tuple };

export class NatPorts {
  readonly #key: Uint8Array;
  /** By family and protocol. */
  readonly #reserved = new Map<number, ReservedPorts>();
  /** How many a container's address has reserved for a protocol. */
  readonly #counts = new Map<string, number>();
  readonly #input = new Uint8Array(INPUT_BYTES);
  readonly #view = new DataView(this.#input.buffer);
  /** The source that is looked for. */
  readonly #source = new Uint8Array(SOURCE_BYTES);
  readonly #sourceView = new DataView(this.#source.buffer);

  /** @param key 8 random bytes */
  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /**
   * Chooses a port, without changing anything (`add` does). @param addresses all of the endpoint @param isFree true if
   * this connection may have that port
   * @returns undefined if none is left
   */
  choose(origin: Origin, addresses: readonly Uint8Array[], isFree: (port: number) => boolean): number | undefined {
    const reserved = this.#reservedOf(origin);
    const own = reserved.portOf(this.#source, this.#setSource(origin));
    if (own !== undefined && isFree(own)) return own;
    const hasUntaken = !reserved.isFull;
    const isUntaken = (port: number): boolean => !reserved.isReserved(port) && isFree(port);
    if (hasUntaken && own === undefined && this.#countOf(origin, addresses) < OWN_PORTS) {
      const port = find(this.#hash(origin, false), TRIED.own, isUntaken);
      if (port !== undefined) return port;
    }
    const hash = this.#hash(origin, true);
    const untaken = hasUntaken ? find(hash, TRIED.untaken, isUntaken) : undefined;
    return untaken ?? find(hash, TRIED.any, isFree);
  }

  /** Notes a connection from inside that was opened or taken over. @param addresses all of the endpoint */
  add(connection: Mapped, addresses: readonly Uint8Array[]): void {
    const port = connection.translated.sourcePort;
    const reserved = this.#reservedOf(connection);
    const hash = this.#setSource(connection);
    const own = reserved.portOf(this.#source, hash);
    if (own !== undefined) {
      if (own === port) reserved.use(port);
      return;
    }
    if (!isOfRange(port) || reserved.isReserved(port) || this.#countOf(connection, addresses) >= OWN_PORTS) return;
    reserved.reserve(this.#source, hash, port);
    this.#count(connection, 1);
  }

  /** Notes that it has ended. */
  delete(connection: Mapped): void {
    const port = connection.translated.sourcePort;
    const reserved = this.#reservedOf(connection);
    const own = reserved.portOf(this.#source, this.#setSource(connection));
    if (own === port && reserved.release(port)) this.#count(connection, -1);
  }

  #countOf({ vni, protocol, original }: Origin, addresses: readonly Uint8Array[]): number {
    return addresses
      .filter((ip) => isIp4(ip) === isIp4(original.source))
      .reduce((sum, ip) => sum + (this.#counts.get(holderId(vni, protocol, ip)) ?? 0), 0);
  }

  #count({ vni, protocol, original }: Origin, change: 1 | -1): void {
    const holder = holderId(vni, protocol, original.source);
    const count = (this.#counts.get(holder) ?? 0) + change;
    if (count === 0) this.#counts.delete(holder);
    else this.#counts.set(holder, count);
  }

  #reservedOf({ protocol, original }: Origin): ReservedPorts {
    const id = ((isIp4(original.source) ? 4 : 6) << 8) | protocol;
    let reserved = this.#reserved.get(id);
    if (!reserved) this.#reserved.set(id, (reserved = new ReservedPorts()));
    return reserved;
  }

  /** Sets `#source`. @returns its hash */
  #setSource({ vni, original }: Origin): number {
    this.#sourceView.setUint32(0, vni);
    copy(original.source, this.#source, 4);
    this.#sourceView.setUint16(20, original.sourcePort);
    return keyedHash(this.#key, this.#source);
  }

  #hash({ vni, protocol, original }: Origin, ofDestination: boolean): number {
    this.#view.setUint32(0, vni);
    this.#view.setUint8(4, protocol);
    copy(original.source, this.#input, 5);
    this.#view.setUint16(21, original.sourcePort);
    copy(ofDestination ? original.destination : noAddress, this.#input, 23);
    this.#view.setUint16(39, ofDestination ? original.destinationPort : 0);
    return keyedHash(this.#key, this.#input);
  }
}

/** Quicker than `set` for so few bytes. */
function copy(from: Uint8Array, to: Uint8Array, at: number): void {
  for (let i = 0; i < from.length; i++) to[at + i] = from[i]!;
}

function isOfRange(port: number): boolean {
  return port >= NAT_PORTS.first && port < NAT_PORTS.first + NAT_PORTS.count;
}

function holderId(vni: Vni, protocol: number, ip: Uint8Array): string {
  return `${vni}/${protocol}/${bytesId(ip)}`;
}

function find(hash: number, tries: number, isAccepted: (port: number) => boolean): number | undefined {
  let state = hash;
  for (let n = 0; n < tries; n++) {
    const port = NAT_PORTS.first + (state % NAT_PORTS.count);
    if (isAccepted(port)) return port;
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 1) >>> 0;
  }
  return undefined;
}
