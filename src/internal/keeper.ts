/**
 * The life cycle of weft's own sockets. Without servers there is neither a namespace, nor a thread, nor a
 * port.
 *
 *   namespace ─► port, which leads nowhere yet ─► addresses ─► thread with its sockets ─► containers reach them
 *
 * Containers reach a port only when its socket is open, and the gateway refuses it in the meantime. Nothing
 * else needs the sockets: a failure is logged when it is new, shown by `report`, and retried by `mend`.
 *
 * Callers serialize the changing methods, and none of them throws.
 */
import { parseIp, type PortNo } from '../flow/types.ts';
import { protocolNumber } from '../flow/connection.ts';
import type { Forwarding } from '../forwarding.ts';
import type { StatusReport } from '../model/report.ts';
import {
  closeNamespace,
  configureNamespace,
  createNamespace,
  INTERNAL_IFNAME,
  INTERNAL_MTU,
  type InternalNamespace,
} from './namespace.ts';
import type { ServerPort, ServerSpec } from './server.ts';
import { SocketThread } from './thread.ts';

export interface InternalKeeperOptions {
  readonly forwarding: Forwarding;
  readonly portNo: PortNo;
  readonly servers: readonly ServerSpec[];
  /** They have stopped by themselves. */
  readonly onLost: (why: string) => void;
  /** Something is wrong with them that was not wrong before. */
  readonly onFailure: (why: string) => void;
}

export class InternalKeeper {
  readonly #options: InternalKeeperOptions;
  #namespace: InternalNamespace | undefined;
  #thread: SocketThread | undefined;
  #isOpen = false;
  /** Why they are not open. */
  #failure: string | undefined;

  constructor(options: InternalKeeperOptions) {
    this.#options = options;
  }

  /** For `status`; null if there are no servers. */
  report(): StatusReport['internal'] {
    const { servers } = this.#options;
    if (servers.length === 0) return null;
    const why = this.#failure;
    const listening = this.#ports().map(({ protocol, l4Port }) => `${protocol.toLowerCase()}/${l4Port}`);
    return { open: this.#isOpen, listening, ...(why !== undefined && { why }) };
  }

  /** Opens them, unless they are open. */
  async mend(): Promise<void> {
    if (this.#isOpen || this.#options.servers.length === 0) return;
    try {
      await this.#open();
      this.#failure = undefined;
    } catch (error) {
      await this.close();
      this.#fail((error as Error).message);
    }
  }

  /** Their thread or their port has stopped by itself, so the rest is closed. The next `mend` opens them again. */
  async lost(why: string): Promise<void> {
    await this.close();
    this.#fail(why);
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    this.#options.forwarding.removeInternal();
    await this.#thread?.close();
    this.#thread = undefined;
    if (this.#namespace) closeNamespace(this.#namespace);
    this.#namespace = undefined;
  }

  #ports(): ServerPort[] {
    return this.#options.servers.flatMap(({ listening }) => listening);
  }

  #fail(why: string): void {
    if (this.#failure !== why) this.#options.onFailure(why);
    this.#failure = why;
  }

  async #open(): Promise<void> {
    const { forwarding, portNo, servers, onLost, onFailure } = this.#options;
    const namespace = await createNamespace();
    this.#namespace = namespace;
    const link = {
      portNo,
      addresses: namespace.links.map(({ weft }) => parseIp(weft)),
      sockets: namespace.links.map(({ socket }) => parseIp(socket)),
      mtu: INTERNAL_MTU,
      listening: [],
    };
    const tap = {
      kind: 'tap',
      name: 'internal',
      netns: namespace.ref.path,
      ifname: INTERNAL_IFNAME,
      isTransient: true,
    } as const;
    forwarding.setInternal(link, tap);
    await configureNamespace(namespace);
    this.#thread = new SocketThread({
      descriptor: namespace.descriptor,
      addresses: namespace.links.map(({ socket }) => socket),
      servers,
      clients: forwarding.tables.topology.clients,
      onFailed: onFailure,
      onLost,
    });
    await this.#thread.listening();
    const listening = this.#ports().map(({ protocol, l4Port }) => ({ protocol: protocolNumber(protocol), l4Port }));
    forwarding.setInternal({ ...link, listening });
    this.#isOpen = true;
  }
}
