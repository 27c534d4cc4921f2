/**
 * Who has an address or a node port. Whoever applies a service claims them, and is refused if others have them; but two hosts may
 * declare at the same time what they do not see of each other, and other programs write records without claims. What several
 * say that they have is then that of one, which is the same on all hosts:
 *
 *   1. the service that the claim names
 *   2. of a node port, the endpoints that publish it on their hosts
 *   3. the service whose name comes first
 *
 * The addresses within the cluster are settled first. A service that has none of its own is not reached, so it takes no part in
 * what clients outside use: its node ports, and its addresses there, are those of the others who say that they have them.
 *
 * Whoever does not have something keeps everything else, and is named in the log and by `weft doctor`.
 */
import { WeftError } from '../../error.ts';
import { compareNames } from '../../model/name-order.ts';
import type { PortProtocol } from '../../model/publish.ts';
import type { ClashReport } from '../../model/report.ts';
import type { ServiceClaims } from './claims.ts';
import { Contenders } from './contenders.ts';
import { loadBalancerIpsOf } from '../../model/kinds/service.ts';
import { addressesOf, nodePortsOf, type DeclaredService } from './service.ts';
import { publishedPortsOf } from './service-value.ts';

export interface HoldersEnvironment {
  readonly vips: Pick<ServiceClaims, 'ownerOf'>;
  readonly nodePorts: Pick<ServiceClaims, 'ownerOf'>;
  readonly service: (name: string) => DeclaredService | undefined;
  /** The endpoints that publish what could be a node port, by port: `30080/TCP`. */
  readonly publishers: () => ReadonlyMap<string, ReadonlySet<string>>;
}

/** What a service says that it has, and has. */
export interface Held {
  hasAddress(service: string, address: string): boolean;
  hasNodePort(service: string, port: number, protocol: PortProtocol): boolean;
}

/** How many are named of those that do not have something. */
const MOST_NAMED = 3;

export class Holders implements Held {
  readonly #environment: HoldersEnvironment;
  /** The addresses within the cluster. */
  readonly #clusterIps: Contenders;
  /** The addresses for clients outside. No service has one of them within the cluster. */
  readonly #balancerIps: Contenders;
  readonly #nodePorts: Contenders;
  /** The services that take part in the last two. */
  readonly #entered = new Map<string, DeclaredService>();

  constructor(environment: HoldersEnvironment) {
    this.#environment = environment;
    this.#clusterIps = new Contenders(environment.vips);
    this.#balancerIps = new Contenders(environment.vips);
    this.#nodePorts = new Contenders(environment.nodePorts);
  }

  hasAddress(service: string, address: string): boolean {
    return this.serviceWith(address) === service;
  }

  /** True if it has an address to be reached by, or needs none. */
  isReached({ name, allotted: { clusterIps } }: DeclaredService): boolean {
    return clusterIps.length === 0 || clusterIps.some((address) => this.#clusterIps.holder(address) === name);
  }

  /** Asked for a service that says so, only. */
  hasNodePort(service: string, port: number, protocol: PortProtocol): boolean {
    const what = String(port);
    if (this.#nodePorts.claimant(what) === service) return true;
    return this.#nodePorts.holder(what) === service && !this.#isPublished(port, protocol);
  }

  /** The service that has an address. */
  serviceWith(address: string): string | undefined {
    return this.#clusterIps.holder(address) ?? this.#balancerIps.holder(address);
  }

  /** The service that has a node port which endpoints publish as well, so that they do not have it. */
  serviceBefore(port: number, protocol: PortProtocol): string | undefined {
    const service = this.#nodePorts.claimant(String(port));
    return service !== undefined && this.#uses(service, port, protocol) ? service : undefined;
  }

  /** The services that say that they have a node port, and are reached. */
  withNodePort(port: string): Iterable<string> {
    return this.#nodePorts.all(port);
  }

  /** @returns the other services that have something now, or not any more */
  set(name: string, before: DeclaredService | undefined, after: DeclaredService | undefined): ReadonlySet<string> {
    const changed = new Set<string>();
    follow(this.#clusterIps, name, { before: clusterIpsOf(before), after: clusterIpsOf(after), changed });
    for (const one of [name, ...changed]) this.#enter(one, changed);
    changed.delete(name);
    return changed;
  }

  /** Somebody else claims an address. @returns the services that may have something now, or not any more */
  addressClaimed(address: string): ReadonlySet<string> {
    const changed = new Set(this.#clusterIps.all(address));
    for (const one of [...changed]) this.#enter(one, changed);
    for (const one of this.#balancerIps.all(address)) changed.add(one);
    return changed;
  }

  /**
   * Has a service take part in what clients outside use, if it is reached.
   * @param changed gets those that have something now, or not any more
   */
  #enter(name: string, changed: Set<string>): void {
    const service = this.#environment.service(name);
    const before = this.#entered.get(name);
    const after = service && this.isReached(service) ? service : undefined;
    if (before === after) return;
    if (after) this.#entered.set(name, after);
    else this.#entered.delete(name);
    follow(this.#balancerIps, name, { before: balancerIpsOf(before), after: balancerIpsOf(after), changed });
    follow(this.#nodePorts, name, { before: portsOf(before), after: portsOf(after), changed });
  }

  /** Why a service does not have all that it says. */
  failure(service: DeclaredService): WeftError | undefined {
    const { name } = service;
    const address = addressesOf(service).find((one) => !this.hasAddress(name, one));
    if (address !== undefined) {
      return new WeftError('conflict', `address ${address} is that of service "${this.serviceWith(address)}" already`);
    }
    for (const { nodePort, protocol } of publishedPortsOf(service)) {
      if (this.hasNodePort(name, nodePort, protocol)) continue;
      return new WeftError('conflict', `node port ${nodePort} is ${this.#ownerText(nodePort, protocol)} already`);
    }
    return undefined;
  }

  /** What several say that they have, who has it, and who does not. A range of ports is one line. */
  clashes(): ClashReport[] {
    const byLosers = new Map<string, string[]>();
    const note = (what: string, owner: string, kind: 'service' | 'endpoint', losers: readonly string[]): void => {
      if (losers.length === 0) return;
      const text = `is ${owner}, and ${namesText(kind, losers)} not have it`;
      const others = byLosers.get(text);
      if (others) others.push(what);
      else byLosers.set(text, [what]);
    };
    for (const all of [this.#clusterIps, this.#balancerIps]) {
      for (const address of all.contested) {
        const holder = all.holder(address);
        note(`address ${address}`, `that of service "${holder}"`, 'service', without(all.all(address), holder));
      }
    }
    for (const port of this.#nodePorts.contested) {
      const holder = this.#nodePorts.holder(port);
      note(`node port ${port}`, `that of service "${holder}"`, 'service', without(this.withNodePort(port), holder));
    }
    for (const [key, endpoints] of this.#environment.publishers()) {
      const [port = '', name] = key.split('/');
      const protocol = name as PortProtocol;
      const services = [...this.withNodePort(port)].filter((one) => this.#uses(one, Number(port), protocol));
      if (services.length === 0) continue;
      const holder = this.serviceBefore(Number(port), protocol);
      const what = `host port ${port}/${protocol.toLowerCase()}`;
      if (holder === undefined)
        note(what, this.#ownerText(Number(port), protocol), 'service', services.sort(compareNames));
      else note(what, `the node port of service "${holder}"`, 'endpoint', [...endpoints].sort(compareNames));
    }
    return [...byLosers].map(([text, [first, ...others]]) => ({
      detail: `${first}${others.length > 0 ? ` (and ${others.length} more)` : ''} ${text}`,
      hint: 'delete one of them, or apply it with another',
    }));
  }

  #isPublished(port: number, protocol: PortProtocol): boolean {
    return this.#environment.publishers().has(`${port}/${protocol}`);
  }

  #uses(name: string, port: number, protocol: PortProtocol): boolean {
    const service = this.#environment.service(name);
    if (!service) return false;
    for (const one of publishedPortsOf(service)) if (one.nodePort === port && one.protocol === protocol) return true;
    return false;
  }

  /** Who has a node port, as it is said to those who do not. */
  #ownerText(port: number, protocol: PortProtocol): string {
    const service = this.#nodePorts.claimant(String(port));
    const [endpoint] = [...(this.#environment.publishers().get(`${port}/${protocol}`) ?? [])].sort(compareNames);
    if (service !== undefined || endpoint === undefined) {
      return `that of service "${service ?? this.#nodePorts.holder(String(port))}"`;
    }
    return `published by endpoint "${endpoint}"`;
  }
}

const clusterIpsOf = (service: DeclaredService | undefined) => service?.allotted.clusterIps ?? [];
const balancerIpsOf = (service: DeclaredService | undefined) => (service ? loadBalancerIpsOf(service.resource) : []);
const portsOf = (service: DeclaredService | undefined) => (service ? nodePortsOf(service) : []);

interface Followed {
  readonly before: readonly string[];
  readonly after: readonly string[];
  /** Gets the services that have something now, or not any more. */
  readonly changed: Set<string>;
}

/** Follows what a service says that it has. */
function follow(all: Contenders, name: string, { before, after, changed }: Followed): void {
  const [were, are] = [new Set(before), new Set(after)];
  for (const what of new Set([...were, ...are])) {
    if (were.has(what) === are.has(what)) continue;
    const holder = all.holder(what);
    if (are.has(what)) all.add(what, name);
    else all.delete(what, name);
    const heir = all.holder(what);
    if (heir !== holder) for (const one of [holder, heir]) if (one !== undefined) changed.add(one);
  }
}

function without(all: Iterable<string>, one: string | undefined): string[] {
  return [...all].filter((other) => other !== one).sort(compareNames);
}

/** `services "a", "b" and 7 others do` */
function namesText(kind: 'service' | 'endpoint', names: readonly string[]): string {
  const named = names.slice(0, MOST_NAMED).map((name) => `"${name}"`);
  const others = names.length - named.length;
  const all = others > 0 ? [...named, others === 1 ? '1 other' : `${others} others`] : named;
  const text = all.length === 1 ? all[0] : `${all.slice(0, -1).join(', ')} and ${all.at(-1)}`;
  return names.length === 1 ? `${kind} ${text} does` : `${kind}s ${text} do`;
}
