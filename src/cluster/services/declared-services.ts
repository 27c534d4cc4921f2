/**
 * Services: planned (`service-plan.ts`), and followed as the store has them. What is put into force of them is made together with
 * their backends (`service-enforcement.ts`).
 */
import { WeftError } from '../../error.ts';
import { addressValue, type Subnet } from '../../model/address.ts';
import {
  isPublished,
  loadBalancerIpsOf,
  NODE_PORTS,
  serviceAllotted,
  type ServiceAllotted,
  type ServiceResource,
} from '../../model/kinds/service.ts';
import type { Entries } from '../../model/publish.ts';
import { compareNames } from '../../model/name-order.ts';
import { idOf, type Resource } from '../../model/resource.ts';
import { readAnnotations } from '../../model/service-annotations.ts';
import { validate } from '../../model/validate.ts';
import type { Transaction } from '../../store/store.ts';
import type { Declared, Draft, Planned, Reconciler, Stored } from '../reconciler.ts';
import { eachInTurns } from '../../turns.ts';
import { Holders } from './holders.ts';
import { ServiceEntries } from './service-entries.ts';
import { ServicePlan, type ServicePlanEnvironment } from './service-plan.ts';
import { addressesOf, countOf, nodePortsOf, shownService, uncheckedText, type DeclaredService } from './service.ts';

/** How many services are taken in one turn of the event loop, or let go. */
const PUT_PER_TURN = 256;

export interface ServicesEnvironment extends ServicePlanEnvironment {
  /** Called with what has changed. Undefined: there is none. */
  readonly onChange: (name: string, before: DeclaredService | undefined, after: DeclaredService | undefined) => void;
  /** Called with a service that has an address or a node port now that it did not have, or the other way round. */
  readonly onHeld: (name: string) => void;
  /** True if it asks for checks, and has backends of which none can be checked. */
  readonly isUnchecked: (name: string) => boolean;
  /** The endpoints that publish what could be a node port, by port: `30080/TCP`. */
  readonly publishers: () => ReadonlyMap<string, ReadonlySet<string>>;
  /** @throws WeftError if others need it */
  readonly refuseRemoval: (name: string) => void;
  /** Puts into force what has changed. */
  readonly settle: () => Promise<void>;
}

export class DeclaredServices implements Reconciler {
  readonly #environment: ServicesEnvironment;
  readonly #services = new Map<string, DeclaredService>();
  /** Sorted by name; made when it is asked for. */
  #sorted: readonly DeclaredService[] | undefined;
  readonly #entries = new ServiceEntries();
  /** What each has of what it says. */
  readonly held: Holders;

  constructor(environment: ServicesEnvironment) {
    this.#environment = environment;
    const { vips, nodePorts, publishers } = environment;
    this.held = new Holders({ vips, nodePorts, publishers, service: (name) => this.find(name) });
  }

  find(name: string): DeclaredService | undefined {
    return this.#services.get(name);
  }

  get(name: string): DeclaredService {
    const service = this.#services.get(name);
    if (service) return service;
    throw new WeftError(
      'not_found',
      `service "${name}" does not exist: \`weft get services -A\` shows those that do, and a Service with this name can be applied`,
    );
  }

  all(): readonly DeclaredService[] {
    return (this.#sorted ??= [...this.#services.values()].sort((a, b) => compareNames(a.name, b.name)));
  }

  /** Where they are reached from outside; the same object as long as that does not change. */
  get entries(): Entries {
    return this.#entries.all;
  }

  /** What of a new network is an address of theirs outside. @param texts of `subnets` */
  clash(subnets: readonly Subnet[], texts: readonly string[]): string | undefined {
    for (const { address } of this.entries.addresses) {
      const value = addressValue(address);
      const at = subnets.findIndex(({ first, last }) => first <= value && value <= last);
      if (at < 0) continue;
      return `subnet ${texts[at]} contains ${address}, where clients outside reach service "${this.held.serviceWith(address)}": choose another`;
    }
    return undefined;
  }

  shown(declared: Declared): Resource {
    return shownService(declared as DeclaredService);
  }

  plan(resource: ServiceResource, draft: Draft): Planned {
    return new ServicePlan(this.#environment, resource, draft, this.find(idOf(resource.metadata))).make();
  }

  refuseRemoval(name: string): void {
    this.#environment.refuseRemoval(name);
  }

  planRemoval(name: string): Transaction {
    const service = this.#services.get(name);
    if (!service) return {};
    const { vips, nodePorts } = this.#environment;
    const claims = [...vips.release(name, addressesOf(service)), ...nodePorts.release(name, nodePortsOf(service))];
    return { expect: claims, delete: claims.map(({ key }) => key) };
  }

  /** A node port is opened on the host, and an address taken from whoever had it otherwise. */
  check({ resource, record }: Stored<ServiceResource>): void {
    const { clusterIps, nodePorts } = validate(serviceAllotted, record);
    const wrong = nodePortsBeyond(resource, nodePorts);
    if (wrong !== undefined)
      throw new WeftError('invalid', `node port ${wrong} is none: accepted are ${nodePortRange}`);
    const published = isPublished(resource.spec) ? undefined : nodePorts.find((port) => port !== 0);
    if (published !== undefined) {
      throw new WeftError('invalid', `node port ${published}: a service of type ${resource.spec.type} has none`);
    }
    const { range } = this.#environment;
    const beyond = clusterIps.find((address) => !range.containing(addressValue(address)));
    if (beyond !== undefined) {
      const ranges = range.cidrs.join(' and ');
      throw new WeftError('conflict', `clusterIP ${beyond} is not in ${ranges}, where services get their addresses`);
    }
    const within = loadBalancerIpsOf(resource).find((address) => range.containing(addressValue(address)));
    if (within !== undefined) {
      throw new WeftError('conflict', `${within} is one of the addresses that services have within the cluster`);
    }
  }

  /** Why it does not have all that it says. */
  failure(name: string): WeftError | undefined {
    const service = this.find(name);
    if (!service) return undefined;
    const unchecked = (): WeftError | undefined =>
      this.#environment.isUnchecked(name) ? new WeftError('not_found', uncheckedText(service.resource)) : undefined;
    return this.held.failure(service) ?? unchecked();
  }

  /** Somebody else claims an address. */
  addressClaimed(address: string): void {
    for (const name of this.held.addressClaimed(address)) this.#heldOtherwise(name);
  }

  /** Somebody else claims or publishes a node port. */
  nodePortTaken(port: string): void {
    for (const name of this.held.withNodePort(port)) this.#heldOtherwise(name);
  }

  put(stored: readonly Stored<ServiceResource>[]): Promise<void> {
    return eachInTurns(stored, PUT_PER_TURN, ({ name, resource, revision, record }) => {
      const { clusterIps, ipFamilies, nodePorts } = record as ServiceAllotted;
      this.#set(name, { name, resource, revision, allotted: { clusterIps, ipFamilies, nodePorts } });
    });
  }

  remove(names: readonly string[]): Promise<void> {
    return eachInTurns(names, PUT_PER_TURN, (name) => this.#set(name, undefined));
  }

  settle(): Promise<void> {
    return this.#environment.settle();
  }

  #set(name: string, after: DeclaredService | undefined): void {
    this.#sorted = undefined;
    const before = this.#services.get(name);
    if (after) this.#services.set(name, after);
    else this.#services.delete(name);
    const others = this.held.set(name, before, after);
    this.#open(name);
    if (before || after) this.#environment.onChange(name, before, after);
    for (const other of others) this.#heldOtherwise(other);
  }

  #heldOtherwise(name: string): void {
    this.#open(name);
    this.#environment.onHeld(name);
  }

  /** On the host, which would send clients to a service that is not there. */
  #open(name: string): void {
    const service = this.find(name);
    this.#entries.set(name, service && this.held.isReached(service) ? service : undefined, this.held);
  }
}

const nodePortRange = `${NODE_PORTS.first} to ${NODE_PORTS.last}`;

/** The first of its node ports that is none. A range of ports has as many. */
function nodePortsBeyond({ metadata, spec }: ServiceResource, nodePorts: readonly number[]): number | undefined {
  const { ranges } = readAnnotations(metadata.annotations);
  const lasts = nodePorts.map((port, at) => port + countOf(ranges[at - spec.ports.length]) - 1);
  const at = nodePorts.findIndex((port, n) => port !== 0 && (port < NODE_PORTS.first || lasts[n]! > NODE_PORTS.last));
  return at < 0 ? undefined : nodePorts[at]! < NODE_PORTS.first ? nodePorts[at] : lasts[at];
}
