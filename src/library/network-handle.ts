/** A network as programs have it. It holds nothing but the name: what it says is asked each time. */
import type { Client } from '../api/client.ts';
import type { AttachRequest } from '../api/target.ts';
import { WeftError } from '../error.ts';
import type { EndpointReport, NetworkReport } from '../model/report.ts';
import { dispose } from './disposal.ts';
import { EndpointHandle } from './endpoint-handle.ts';

/** Where a container is, and what its endpoint is to have: as for `weft attach`, and `ip` may be one address. */
export interface AttachToNetwork extends Omit<AttachRequest, 'network' | 'hold' | 'ip'> {
  readonly ip?: string | readonly string[];
}

export class NetworkHandle {
  readonly name: string;
  readonly #client: Client;
  /** What `allocateIp` has given, and nobody has used or released: later, somebody else may hold it. */
  readonly #allocated = new Set<string>();
  /** Another one may have its name then. */
  #isRemoved = false;

  /** Use `createNetwork` or `network` of a switch or a client. */
  constructor(client: Client, name: string) {
    this.#client = client;
    this.name = name;
  }

  /** VNI, subnets, gateways, MTU, free addresses. @throws WeftError('not_found') */
  async report(): Promise<NetworkReport> {
    const found = (await this.#client.networks()).find(({ name }) => name === this.name);
    if (!found) throw new WeftError('not_found', `network "${this.name}" does not exist`);
    return found;
  }

  /**
   * Holds an address of the first subnet, which nobody else gets, also after a restart: until an endpoint is attached with it, or
   * `releaseIp`. Meanwhile an endpoint without a namespace has it, `held-1-HOST` or the next number.
   */
  async allocateIp(): Promise<string> {
    const { addresses } = await this.#client.attach({ network: this.name, hold: true });
    this.#allocated.add(addresses[0]!);
    return addresses[0]!;
  }

  /** Gives back an address that `allocateIp` has held. Does nothing if it is held no more. */
  async releaseIp(ip: string): Promise<void> {
    this.#allocated.delete(ip);
    const held = (await this.endpoints()).find((one) => one.held === true && one.addresses.includes(ip));
    if (held) await this.#client.detach(held.name, { namespace: held.namespace });
  }

  /**
   * Attaches a container: creates its interface, with addresses of the network. Its name is that of its namespace unless `name` says
   * otherwise. Attaching it again changes what `options` name, and nothing else.
   */
  async attach({ ip, ...options }: AttachToNetwork): Promise<EndpointHandle> {
    const addresses = typeof ip === 'string' ? [ip] : ip;
    const request = { ...options, network: this.name, ...(addresses && { ip: addresses }) };
    const report = await this.#client.attach(request);
    for (const address of report.addresses) this.#allocated.delete(address);
    return new EndpointHandle(this.#client, report);
  }

  /** Those of all hosts that share the store. */
  async endpoints(): Promise<EndpointReport[]> {
    return (await this.#client.endpoints()).filter(({ network }) => network === this.name);
  }

  /** @throws WeftError('conflict') while it has endpoints */
  async remove(): Promise<void> {
    await this.#client.removeNetwork(this.name);
    this.#isRemoved = true;
  }

  /**
   * Removes it, at the end of `await using`, with the addresses that are still held of those that `allocateIp` of this handle has given.
   * Endpoints that are declared after it with `await using` are gone by then.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isRemoved) return;
    await dispose(this.#client, async () => {
      for (const ip of this.#allocated) await this.releaseIp(ip);
      await this.remove();
    });
  }
}
