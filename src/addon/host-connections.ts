/**
 * Connections of the host that the switch runs on (nf_conntrack). The kernel looks for a translation only for the first
 * packet of a connection, and a UDP connection lasts as long as it does not pause. So a flow that began before its port
 * was published would never get through, and one whose port is no longer published would continue for ever.
 *
 * Connections that weft gives up are deleted there, too, so a container's share of the host's table is bounded by its
 * quota.
 */
import { WeftError } from '../error.ts';
import type { ProtocolTuple } from '../flow/connection.ts';
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';

export interface Publishing {
  /** Addresses of this host, 16 bytes each. */
  readonly own: readonly Uint8Array[];
  /** Addresses that published ports are translated to. */
  readonly targets: readonly Uint8Array[];
  /** Published UDP ports. */
  readonly ports: readonly number[];
  /** UDP ports of addresses that need not be this host's, and that lead to another port of a target. */
  readonly fronts: readonly {
    readonly address: Uint8Array;
    readonly l4Port: number;
    readonly targetPort: number;
  }[];
}

/** `ServiceFront` of native/io/conntrack.h. */
const FRONT_BYTES = 20;

/**
 * Deletes UDP connections to a published port of the host, or to a front, that are not translated to where it leads, and
 * those that are translated to a target but come to a port that is not published: then their next packet begins another
 * connection. Works in the network namespace of this process. @throws WeftError('system')
 */
export async function forgetStaleUdp({ own, targets, ports, fronts }: Publishing): Promise<void> {
  const records = new Uint8Array(fronts.length * FRONT_BYTES);
  fronts.forEach(({ address, l4Port, targetPort }, n) => {
    records.set(address, n * FRONT_BYTES);
    // In this machine's byte order.
    records.set(new Uint8Array(Uint16Array.of(l4Port, targetPort).buffer), n * FRONT_BYTES + 16);
  });
  const result = await loadAddon().forgetStaleUdp(
    Buffer.concat(own),
    Buffer.concat(targets),
    Uint16Array.from(ports),
    records,
  );
  if (result >= 0) return;
  throw new WeftError('system', `connections of the host could not be forgotten (${errnoName(-result)})`);
}

/** `kHostConnectionBytes` of native/io/conntrack.h. */
const HOST_CONNECTION_BYTES = 40;

export interface HostConnectionsOptions {
  /** True if another one with the same ends has begun meanwhile: whoever uses a port again would lose it. */
  readonly isOpen: (connection: ProtocolTuple) => boolean;
  /** Called once if the kernel refuses; connections then end by their timeouts. */
  readonly onFailure: (error: WeftError) => void;
}

/**
 * Deletes connections in the network namespace of this process, together with all others that are given up meanwhile.
 */
export class HostConnections {
  readonly #options: HostConnectionsOptions;
  #waiting: ProtocolTuple[] = [];
  #isBusy = false;
  #hasFailed = false;

  constructor(options: HostConnectionsOptions) {
    this.#options = options;
  }

  /** Soon. @param connection as weft's end of it sends, whoever opened it */
  forget(connection: ProtocolTuple): void {
    this.#waiting.push(connection);
    if (!this.#isBusy) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isBusy = true;
    // Connections that are given up in this turn are deleted together.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const given = this.#waiting.splice(0).filter((connection) => !this.#options.isOpen(connection));
      if (given.length === 0) continue;
      const result = await loadAddon().forgetConnections(encoded(given));
      if (result >= 0 || this.#hasFailed) continue;
      this.#hasFailed = true;
      this.#options.onFailure(
        new WeftError('system', `connections of the host could not be forgotten (${errnoName(-result)})`),
      );
    }
    this.#isBusy = false;
  }
}

function encoded(connections: readonly ProtocolTuple[]): Uint8Array {
  const records = new Uint8Array(connections.length * HOST_CONNECTION_BYTES);
  const view = new DataView(records.buffer);
  connections.forEach(({ protocol, source, destination, sourcePort, destinationPort }, n) => {
    const at = n * HOST_CONNECTION_BYTES;
    records.set(source, at);
    records.set(destination, at + 16);
    view.setUint16(at + 32, sourcePort);
    view.setUint16(at + 34, destinationPort);
    view.setUint8(at + 36, protocol);
  });
  return records;
}
