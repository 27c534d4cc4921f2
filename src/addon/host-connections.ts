/**
 * Connections of the host that the switch runs on (nf_conntrack). The kernel asks for a translation with the first
 * packet of a connection, and one of UDP lasts as long as it makes no pause: what was sent before its port was
 * published would never get through, and what was published once would be for ever.
 *
 * What weft gives up is forgotten there, too: what a container leaves in the host's table is bounded by its quota.
 */
import { WeftError } from '../error.ts';
import type { ProtocolTuple } from '../flow/connection.ts';
import { loadAddon } from './addon.ts';
import { errnoName } from './io-error.ts';

export interface Publishing {
  /** Addresses of this host, 16 bytes each. */
  readonly own: readonly Uint8Array[];
  /** What published ports are translated to. */
  readonly targets: readonly Uint8Array[];
  /** Published ports of UDP. */
  readonly ports: readonly number[];
}

/**
 * Forgets those of UDP that are to a published port of the host and not translated, and those that are translated to
 * a target and come to a port that is not published: their next packet is the first of another. In the network
 * namespace of this process. @throws WeftError('system')
 */
export async function forgetStaleUdp({ own, targets, ports }: Publishing): Promise<void> {
  const result = await loadAddon().forgetStaleUdp(Buffer.concat(own), Buffer.concat(targets), Uint16Array.from(ports));
  if (result >= 0) return;
  throw new WeftError('system', `connections of the host could not be forgotten (${errnoName(-result)})`);
}

/** As `native/io/conntrack.h` has it. */
const HOST_CONNECTION_BYTES = 40;

/** Forgets connections, of the network namespace of this process, as many at a time as have come together. */
export class HostConnections {
  readonly #onFailure: (error: WeftError) => void;
  #waiting: ProtocolTuple[] = [];
  #isBusy = false;
  #hasFailed = false;

  /** @param onFailure called once, where the kernel refuses: they end there by their time-outs then */
  constructor(onFailure: (error: WeftError) => void) {
    this.#onFailure = onFailure;
  }

  /** Soon. @param connection as weft's end of it sends, whoever began it */
  forget(connection: ProtocolTuple): void {
    this.#waiting.push(connection);
    if (!this.#isBusy) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isBusy = true;
    // What this turn gives up goes together.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const records = encoded(this.#waiting.splice(0));
      const result = await loadAddon().forgetConnections(records);
      if (result >= 0 || this.#hasFailed) continue;
      this.#hasFailed = true;
      this.#onFailure(
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
