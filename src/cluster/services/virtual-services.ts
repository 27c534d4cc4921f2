/**
 * VirtualServices: rules whose routes lead to services, their subsets and ports. All of these have to be there when the rule is
 * applied. As long as it leads to a service, or to a subset that a DestinationRule names, that one is not deleted, and the rule keeps
 * the subset. What goes all the same is told (`failure`), and its share of the connections is refused.
 */
import { WeftError } from '../../error.ts';
import type { DestinationRuleResource } from '../../model/kinds/destination-rule.ts';
import type { ServiceResource } from '../../model/kinds/service.ts';
import type { VirtualServiceResource } from '../../model/kinds/virtual-service.ts';
import { idOf } from '../../model/resource.ts';
import { readAnnotations } from '../../model/service-annotations.ts';
import { serviceOf } from '../../model/service-host.ts';
import type { ProposedChange } from '../proposed-change.ts';
import type { Declared, Draft, Planned, Stored } from '../reconciler.ts';
import { Rules, type RulesEnvironment } from './rules.ts';

export interface VirtualServicesEnvironment extends RulesEnvironment {
  readonly service: (name: string) => ServiceResource | undefined;
  /** A DestinationRule by its name. */
  readonly rule: (name: string) => DestinationRuleResource | undefined;
  /** The DestinationRule for a service. */
  readonly ruleFor: (service: string, draft?: Draft) => DestinationRuleResource | undefined;
  /** The one that would be, if a change came into force. */
  readonly proposedRuleFor: (service: string, change: ProposedChange) => DestinationRuleResource | undefined;
}

/** How many names a message lists. */
const MOST_NAMED = 5;

export class VirtualServices extends Rules<VirtualServiceResource> {
  readonly #own: VirtualServicesEnvironment;
  /** By service that one names, as host or destination: the names of the rules. */
  readonly #users = new Map<string, Set<string>>();

  constructor(environment: VirtualServicesEnvironment) {
    super('VirtualService', hostsOf, environment);
    this.#own = environment;
  }

  override plan(resource: VirtualServiceResource, draft: Draft): Planned {
    const planned = super.plan(resource, draft);
    const dangling = this.#danglingOf(resource, {
      service: (name) => draft.find<Declared<ServiceResource>>('Service', name)?.resource,
      ruleFor: (name) => this.#own.ruleFor(name, draft),
    });
    if (dangling) throw new WeftError('invalid', `virtualservice "${idOf(resource.metadata)}": ${dangling}`);
    return planned;
  }

  override put(stored: readonly Stored<VirtualServiceResource>[]): void {
    for (const { name, resource } of stored) {
      this.#forget(name);
      for (const service of servicesOf(resource)) {
        const users = this.#users.get(service);
        if (users) users.add(name);
        else this.#users.set(service, new Set([name]));
      }
    }
    super.put(stored);
  }

  override remove(names: readonly string[]): void {
    for (const name of names) this.#forget(name);
    super.remove(names);
  }

  override failure(name: string): WeftError | undefined {
    const known = super.failure(name);
    const rule = this.find(name)?.resource;
    const dangling = rule && this.#danglingOf(rule, this.#own);
    return known ?? (dangling === undefined ? undefined : new WeftError('not_found', dangling));
  }

  /**
   * What a change does not declare leads to the same subsets as before, so these stay.
   * @throws WeftError('conflict') if a DestinationRule would lose one
   */
  refuseLostSubsets(change: ProposedChange): void {
    const changed = change.planned('VirtualService');
    const rules = change.planned<Declared<DestinationRuleResource>>('DestinationRule');
    for (const [rule, { resource }] of rules) {
      for (const service of servicesOfRules(this.#own.rule(rule), resource)) {
        const now = subsetsOf(this.#own.ruleFor(service));
        const after = subsetsOf(this.#own.proposedRuleFor(service, change));
        const users = [...(this.#users.get(service) ?? [])].filter((name) => !changed.has(name));
        for (const lost of [...now].filter((subset) => !after.has(subset))) {
          const isUser = (name: string): boolean =>
            destinationsOf(this.find(name)!.resource).some((one) => one.service === service && one.subset === lost);
          const what = `destinationrule "${rule}": spec.subsets: without "${lost}"`;
          this.#refuse(what, users.filter(isUser), 'lead there', 'change them in the same apply, or before');
        }
      }
    }
  }

  /** @throws WeftError('conflict') if a rule is for a service, or leads to it */
  refuseServiceRemoval(service: string): void {
    this.#refuse(`service "${service}"`, [...(this.#users.get(service) ?? [])], 'name it');
  }

  /** @throws WeftError('conflict') if a rule leads to a subset of it @param rule the name of a DestinationRule */
  refuseRuleRemoval(rule: string, service: string): void {
    const isUser = (name: string): boolean =>
      destinationsOf(this.find(name)!.resource).some((one) => one.service === service && one.subset !== undefined);
    const users = [...(this.#users.get(service) ?? [])].filter(isUser);
    this.#refuse(`destinationrule "${rule}"`, users, `lead to its subsets`);
  }

  #refuse(what: string, users: readonly string[], why: string, hint = 'delete them first'): void {
    if (users.length === 0) return;
    const named = [...users].sort().slice(0, MOST_NAMED).join(', ');
    const more = users.length > MOST_NAMED ? ` and ${users.length - MOST_NAMED} more` : '';
    throw new WeftError('conflict', `${what}: virtualservices (${named}${more}) ${why}: ${hint}`);
  }

  /** The first thing that it names and is not there. */
  #danglingOf(
    resource: VirtualServiceResource,
    { service, ruleFor }: Pick<VirtualServicesEnvironment, 'service' | 'ruleFor'>,
  ): string | undefined {
    const hosts = hostsOf(resource);
    for (const [n, name] of hosts.entries()) {
      if (isWithoutAddress(service(name)))
        return `spec.hosts[${n}]: service "${name}" has no address, so clients choose where they connect to, and a route has no effect`;
    }
    for (const [at, { match, route }] of resource.spec.tcp.entries()) {
      for (const [n, { port }] of match.entries()) {
        const hasPort = (name: string): boolean => hasTcpPort(service(name), port!);
        if (port !== undefined && !hosts.some(hasPort)) {
          return `spec.tcp[${at}].match[${n}].port: ${port} is no TCP port of service "${hosts.join('", "')}"`;
        }
      }
      for (const [n, { destination }] of route.entries()) {
        const field = `spec.tcp[${at}].route[${n}].destination`;
        const name = idOf(serviceOf(destination.host, resource.metadata.namespace));
        const { subset, port } = destination;
        if (service(name)?.spec.type === 'ExternalName')
          return `${field}.host: service "${name}" is another name (type ExternalName), and has no backends`;
        if (subset !== undefined && !subsetsOf(ruleFor(name)).has(subset)) {
          return `${field}.subset: "${subset}" is no subset of service "${name}": a DestinationRule for it has to name that first`;
        }
        if (port && !hasTcpPort(service(name), port.number)) {
          return `${field}.port: ${port.number} is no TCP port of service "${name}"`;
        }
      }
    }
    return undefined;
  }

  #forget(name: string): void {
    const rule = this.find(name)?.resource;
    for (const service of rule ? servicesOf(rule) : []) {
      const users = this.#users.get(service);
      users?.delete(name);
      if (users?.size === 0) this.#users.delete(service);
    }
  }
}

function hostsOf({ metadata, spec }: VirtualServiceResource): string[] {
  return spec.hosts.map((host) => idOf(serviceOf(host, metadata.namespace)));
}

function servicesOfRules(...rules: (DestinationRuleResource | undefined)[]): ReadonlySet<string> {
  return new Set(rules.flatMap((rule) => (rule ? idOf(serviceOf(rule.spec.host, rule.metadata.namespace)) : [])));
}

function subsetsOf(rule: DestinationRuleResource | undefined): ReadonlySet<string> {
  return new Set(rule?.spec.subsets?.map(({ name }) => name));
}

function destinationsOf({ metadata, spec }: VirtualServiceResource) {
  return spec.tcp.flatMap(({ route }) =>
    route.map(({ destination: { host, subset } }) => ({ service: idOf(serviceOf(host, metadata.namespace)), subset })),
  );
}

function servicesOf(resource: VirtualServiceResource): ReadonlySet<string> {
  return new Set([...hostsOf(resource), ...destinationsOf(resource).map(({ service }) => service)]);
}

/** Headless, or another name. */
function isWithoutAddress(service: ServiceResource | undefined): boolean {
  return service?.spec.type === 'ExternalName' || service?.spec.clusterIP === 'None';
}

function hasTcpPort(service: ServiceResource | undefined, number: number): boolean {
  if (!service) return false;
  const { ports } = service.spec;
  const { ranges } = readAnnotations(service.metadata.annotations);
  const isTcp = ports.some(({ protocol }) => protocol === 'TCP');
  return (
    ports.some(({ port, protocol }) => port === number && protocol === 'TCP') ||
    ranges.some(
      ({ first, last, protocol }) =>
        first <= number && number <= last && (protocol === undefined ? isTcp : protocol === 'TCP'),
    )
  );
}
