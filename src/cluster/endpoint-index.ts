/**
 * All declared endpoints: by name, by network and MAC, those of this host, those that wait, and in order. Very many of them
 * may be other hosts', and most changes concern one, so nothing here takes longer the more there are, except for what asks
 * for all of them.
 */
import { compareNames } from '../model/name-order.ts';
import { isHere, isLocal, type Endpoint, type LocalEndpoint } from './endpoint.ts';

/** The ports below this one belong to the underlay and the outside. */
const FIRST_PORT = 3;

/** Called with each change of one. Undefined: there is none. */
type OnEndpointChange = (before: Endpoint | undefined, after: Endpoint | undefined) => void;

export class EndpointIndex {
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #byNetwork = new Map<string, Map<string, Endpoint>>();
  /** The names of those of this host, and of those that wait. */
  readonly #here = new Set<string>();
  readonly #waiting = new Set<string>();
  /** By port number: the endpoint that has it. If two have the same, the first. */
  readonly #ports = new Map<number, string>();
  /**
   * By network and MAC: the endpoint that has it. If another record claims it too, one of this host, or the first. With a
   * shared store, it is the first: records come in the same order to all hosts, so all agree, and of two hosts that attach
   * with one MAC at once, the second one sees the first one before its own.
   */
  readonly #macs = new Map<string, Map<string, string>>();
  /** All endpoints sorted by name; undefined after a change. */
  #sorted: readonly Endpoint[] | undefined;

  readonly #isShared: boolean;
  readonly #onEndpointChange: OnEndpointChange;

  constructor({
    isShared = false,
    onEndpointChange = () => {},
  }: { readonly isShared?: boolean; readonly onEndpointChange?: OnEndpointChange } = {}) {
    this.#isShared = isShared;
    this.#onEndpointChange = onEndpointChange;
  }

  get size(): number {
    return this.#endpoints.size;
  }

  /** The number of endpoints that have a port on this host. */
  get ports(): number {
    return this.#ports.size;
  }

  find(name: string): Endpoint | undefined {
    return this.#endpoints.get(name);
  }

  /** All endpoints, sorted by name. */
  all(): readonly Endpoint[] {
    return (this.#sorted ??= byName(this.#endpoints.values()));
  }

  /** All endpoints, unsorted. */
  values(): Iterable<Endpoint> {
    return this.#endpoints.values();
  }

  /** The endpoints of this host, sorted by name. */
  here(): Endpoint[] {
    return byName([...this.#here].map((name) => this.#endpoints.get(name)!));
  }

  /** The endpoints of this host whose place is known, sorted by name unless `names` says which. */
  local(names?: readonly string[]): LocalEndpoint[] {
    const endpoints = names?.flatMap((name) => this.find(name) ?? []) ?? this.here();
    return endpoints.filter(isLocal);
  }

  /** The names of those that wait. */
  waiting(): Iterable<string> {
    return this.#waiting;
  }

  /** The endpoints of a network, unsorted. */
  in(network: string): Iterable<Endpoint> {
    return this.#byNetwork.get(network)?.values() ?? [];
  }

  countIn(network: string): number {
    return this.#byNetwork.get(network)?.size ?? 0;
  }

  /** The name of the endpoint that has this MAC in the network. */
  withMac(network: string, mac: string): string | undefined {
    return this.#macs.get(network)?.get(mac);
  }

  set(endpoint: Endpoint): void {
    const { name, resource, local, state } = endpoint;
    const before = this.#endpoints.get(name);
    if (before) this.#remove(before);
    this.#endpoints.set(name, endpoint);
    const { network } = resource.spec;
    const others = this.#byNetwork.get(network);
    if (others) others.set(name, endpoint);
    else this.#byNetwork.set(network, new Map([[name, endpoint]]));
    if (isHere(endpoint)) this.#here.add(name);
    if (state === 'waiting') this.#waiting.add(name);
    if (local && !this.#ports.has(local.portNo)) this.#ports.set(local.portNo, name);
    let macs = this.#macs.get(network);
    if (!macs) this.#macs.set(network, (macs = new Map()));
    if (!macs.has(endpoint.mac) || (local && !this.#isShared)) macs.set(endpoint.mac, name);
    this.#sorted = undefined;
    this.#onEndpointChange(before, endpoint);
  }

  remove(name: string): void {
    const endpoint = this.#endpoints.get(name);
    if (!endpoint) return;
    this.#remove(endpoint);
    this.#onEndpointChange(endpoint, undefined);
  }

  #remove(endpoint: Endpoint): void {
    const { name, resource, local } = endpoint;
    this.#endpoints.delete(name);
    this.#here.delete(name);
    this.#waiting.delete(name);
    const others = this.#byNetwork.get(resource.spec.network);
    others?.delete(name);
    if (others?.size === 0) this.#byNetwork.delete(resource.spec.network);
    if (local && this.hasPort(endpoint)) this.#ports.delete(local.portNo);
    const macs = this.#macs.get(resource.spec.network);
    if (macs?.get(endpoint.mac) === name) macs.delete(endpoint.mac);
    if (macs?.size === 0) this.#macs.delete(resource.spec.network);
    this.#sorted = undefined;
  }

  /** False if it has no port number, or if another endpoint has the same. */
  hasPort({ name, local }: Endpoint): boolean {
    return local !== undefined && this.#ports.get(local.portNo) === name;
  }

  /** The first port number that neither an endpoint nor `others` use. */
  freePort(others: ReadonlySet<number>): number {
    let portNo = FIRST_PORT;
    while (this.#ports.has(portNo) || others.has(portNo)) portNo++;
    return portNo;
  }
}

export function byName(endpoints: Iterable<Endpoint>): Endpoint[] {
  return [...endpoints].sort((a, b) => compareNames(a.name, b.name));
}
