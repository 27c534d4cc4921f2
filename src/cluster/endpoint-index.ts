/** The endpoints that are declared: by name, by network, in order. */
import { compareNames } from '../model/name-order.ts';
import type { Endpoint } from './endpoint.ts';

/** Below are the underlay's and the outside's. */
const FIRST_PORT = 3;

export class EndpointIndex {
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #byNetwork = new Map<string, Map<string, Endpoint>>();
  readonly #ports = new Set<number>();
  /** All of them by name; undefined since one changed. */
  #sorted: readonly Endpoint[] | undefined;

  get size(): number {
    return this.#endpoints.size;
  }

  /** Those that have a port here. */
  get ports(): number {
    return this.#ports.size;
  }

  find(name: string): Endpoint | undefined {
    return this.#endpoints.get(name);
  }

  /** Ordered by name. */
  all(): readonly Endpoint[] {
    return (this.#sorted ??= byName(this.#endpoints.values()));
  }

  /** In no order. */
  values(): Iterable<Endpoint> {
    return this.#endpoints.values();
  }

  /** Of a network, in no order. */
  in(network: string): Iterable<Endpoint> {
    return this.#byNetwork.get(network)?.values() ?? [];
  }

  countIn(network: string): number {
    return this.#byNetwork.get(network)?.size ?? 0;
  }

  set(endpoint: Endpoint): void {
    const { name, resource, local } = endpoint;
    this.remove(name);
    this.#endpoints.set(name, endpoint);
    const { network } = resource.spec;
    const others = this.#byNetwork.get(network);
    if (others) others.set(name, endpoint);
    else this.#byNetwork.set(network, new Map([[name, endpoint]]));
    if (local) this.#ports.add(local.portNo);
    this.#sorted = undefined;
  }

  remove(name: string): void {
    const endpoint = this.#endpoints.get(name);
    if (!endpoint) return;
    const { resource, local } = endpoint;
    this.#endpoints.delete(name);
    const others = this.#byNetwork.get(resource.spec.network);
    others?.delete(name);
    if (others?.size === 0) this.#byNetwork.delete(resource.spec.network);
    if (local) this.#ports.delete(local.portNo);
    this.#sorted = undefined;
  }

  /** The first port number that no endpoint has, nor any of `others`. */
  freePort(others: ReadonlySet<number>): number {
    let portNo = FIRST_PORT;
    while (this.#ports.has(portNo) || others.has(portNo)) portNo++;
    return portNo;
  }
}

export function byName(endpoints: Iterable<Endpoint>): Endpoint[] {
  return [...endpoints].sort((a, b) => compareNames(a.name, b.name));
}
