/**
 * Puts services into force: keeps track of what each of them is made of, and makes those anew that a change concerns.
 *
 *   a service changes              that one
 *   an endpoint changes            those whose selectors match it, before or after, and those of slices that have its address
 *   a slice changes                that of its label
 *   a rule changes                 those that it is for
 *   a host dies, lives, is moved   those that its endpoints are behind; those of slices, if it is in another zone
 *   networks change                those of slices, whose addresses may be in another network now
 *   the addresses of services      those of slices, which may have such addresses
 *
 * All of that follows from what every host knows; nothing of it is stored. What a change concerns is made when all of the change is
 * in force (`settle`), otherwise soon. If all that changed of a service is a few of its endpoints, which may be a few of 100,000,
 * the others are not looked at.
 */
import { idOf, nameOf, type Resource } from '../../model/resource.ts';
import { DRAIN } from '../../model/own-labels.ts';
import type { DestinationRuleResource } from '../../model/kinds/destination-rule.ts';
import type { VirtualServiceResource } from '../../model/kinds/virtual-service.ts';
import type { Prefix } from '../../table/routes.ts';
import type { Backend, Service } from '../../table/service.ts';
import type { RoutedClient } from '../../table/service-routes.ts';
import { eachInTurns } from '../../turns.ts';
import { isHere, isShared, type Endpoint } from '../endpoint.ts';
import type { Network } from '../network.ts';
import type { ProposedChange } from '../proposed-change.ts';
import { AddressPlaces } from './address-places.ts';
import { derivedSlices, serviceOfMade } from './derived-slices.ts';
import type { EndpointSlices } from './endpoint-slices.ts';
import { LabelledEndpoints, matches, Selectors, type Labels } from './label-index.ts';
import { ProposedServices } from './proposed-services.ts';
import { Publishers } from './publishers.ts';
import type { Rules } from './rules.ts';
import { serviceValue, withEndpoints, type EndpointState, type ServiceSources } from './service-value.ts';
import { selectorOf, type DeclaredService } from './service.ts';
import type { DeclaredServices } from './declared-services.ts';

/** Where services come into force: the tables. */
export interface ServiceTables {
  /** Adds it, or puts it in the place of the one with its id. */
  setService(service: Service): void;
  /** Does nothing if there is none. */
  removeService(id: string): void;
  /** Says by what routes tell an endpoint of this host from others; undefined: there is none. */
  setClient(name: string, client: RoutedClient | undefined): void;
  /** Says on which host this is, and in which zone. */
  setHost(name: string, zone: string | undefined): void;
  /** Sets the addresses that those of services are taken from. */
  setServiceRanges(ranges: readonly Prefix[]): void;
  /** All services that there are have been set. */
  servicesLoaded(): void;
}

export interface ServiceEnforcementEnvironment {
  readonly tables: ServiceTables;
  readonly services: () => DeclaredServices;
  readonly slices: () => EndpointSlices;
  readonly destinationRules: () => Rules<DestinationRuleResource>;
  readonly virtualServices: () => Rules<VirtualServiceResource>;
  /** Unsorted changes come with `endpointChanged`. */
  readonly endpoint: (name: string) => Endpoint | undefined;
  /** The same array as long as none has changed. */
  readonly networks: () => readonly Network[];
  /** Where services have their addresses, as far as that is in force. */
  readonly ranges: () => readonly string[];
  /** The labels of a host; undefined if it is not declared. Changes come with `hostDeclared`. */
  readonly labelsOf: (host: string) => Labels | undefined;
  readonly hostName: string;
  /** True if a host of the store is known not to run. */
  readonly isDown: (host: string) => boolean;
  /** True if the tunnel to a host is down. */
  readonly isUnreachable: (host: string) => boolean;
  /** Does something soon. */
  readonly later: (work: () => void) => void;
  readonly onError: (error: unknown) => void;
}

/** The label that says in which zone a host is, as in Kubernetes. */
export const ZONE = 'topology.kubernetes.io/zone';
/** How many services are made in one turn of the event loop. */
const MADE_PER_TURN = 64;
/** Of how many changed endpoints a service follows each by itself. With more, it is made anew. */
const MOST_FOLLOWED = 16;
/** Not only endpoints that its selector matches. */
const EVERYTHING = undefined;

export class ServiceEnforcement {
  readonly #environment: ServiceEnforcementEnvironment;
  readonly #labelled = new LabelledEndpoints();
  readonly #selectors = new Selectors();
  /** The endpoints of each host. */
  readonly #byHost = new Map<string, Set<string>>();
  /** The endpoint that has an address. Networks do not overlap. */
  readonly #byAddress = new Map<string, string>();
  readonly publishers: Publishers;
  /** The services that are not up to date, and which of their endpoints have changed. */
  readonly #changed = new Map<string, Set<string> | typeof EVERYTHING>();
  /** Of these, perhaps only a part of the change is put: they wait for `settle`, whatever else marks them. */
  readonly #coming = new Set<string>();
  /** The values of services as they were put into force last. */
  readonly #inForce = new Map<string, Service>();
  /** The services whose slices have addresses that no endpoint can have. */
  readonly #withLeftOut = new Set<string>();
  /** The services that ask for checks, of whose backends none has the port that is to be checked. */
  readonly #unchecked = new Set<string>();
  #isPlanned = false;
  readonly #places = new AddressPlaces();
  /** The hosts of which the store has something new. */
  readonly #declaredHosts: Set<string>;
  /** By host. */
  readonly #labels = new Map<string, Labels>();

  constructor(environment: ServiceEnforcementEnvironment) {
    this.#environment = environment;
    this.#declaredHosts = new Set([environment.hostName]);
    this.publishers = new Publishers((port) => environment.services().nodePortTaken(port));
  }

  /** `settle` follows. */
  serviceChanged(name: string, before: DeclaredService | undefined, after: DeclaredService | undefined): void {
    if (before) this.#selectors.remove(name);
    const selector = after && selectorOf(after.resource);
    if (selector) this.#selectors.add(name, after.resource.metadata.namespace, selector);
    this.#comes(name);
  }

  /** It has an address or a node port now, or not any more. */
  heldOtherwise(service: string): void {
    this.#mark(service);
  }

  /** The slices of a service have changed; `settle` follows. */
  slicesChanged(service: string): void {
    this.#comes(service);
  }

  /** The rules about a service have changed; `settle` follows. */
  rulesChanged(service: string): void {
    this.#comes(service);
  }

  /** A host is declared otherwise, or not any more; `settle` follows. */
  hostDeclared(host: string): void {
    this.#declaredHosts.add(host);
  }

  /** A host died or cannot be reached, or lives or can be reached again. */
  hostChanged(host: string): void {
    for (const name of this.#byHost.get(host) ?? []) {
      const endpoint = this.#environment.endpoint(name);
      if (endpoint) this.#markAround(endpoint);
    }
  }

  /** Undefined: there is none. Called with each change of an endpoint, and of its state. */
  endpointChanged(before: Endpoint | undefined, after: Endpoint | undefined): void {
    const isSame =
      before &&
      after &&
      before.resource === after.resource &&
      before.addresses === after.addresses &&
      before.host === after.host;
    if (isSame && before.state === after.state) return;
    if (before) this.#markAround(before);
    if (!isSame) {
      if (before) this.#leave(before);
      if (after) this.#enter(after);
    }
    if (after) this.#markAround(after);
  }

  /** Puts into force whatever has changed: all of it is there. */
  settle(): Promise<void> {
    this.#coming.clear();
    return this.#makeChanged();
  }

  /**
   * Resolves when what has changed until now is in force. What waits for `settle` stays as it was, but nobody is led to a host that is
   * down any more.
   */
  async caughtUp(): Promise<void> {
    if (this.#changed.size === 0) return;
    try {
      await this.#makeChanged();
      await eachInTurns(this.#coming, MADE_PER_TURN, (name) => this.#leaveOutDown(name));
    } catch (error) {
      this.#environment.onError(error);
    }
  }

  async #makeChanged(): Promise<void> {
    this.#followHosts();
    this.#followNetworks();
    await eachInTurns(this.#changed.keys(), MADE_PER_TURN, (name) => {
      if (this.#coming.has(name)) return;
      try {
        this.#make(name);
      } catch (error) {
        // A defect of one does not keep the others.
        this.#environment.onError(error);
      }
    });
  }

  /** The slices that are made of selectors. @param slice the name of one; by default all */
  *derived(slice?: string): Generator<Resource> {
    const services = this.#environment.services();
    if (slice === undefined) {
      for (const service of services.all()) yield* this.#derivedOf(service);
      return;
    }
    const { name: own, namespace } = nameOf(slice);
    const name = serviceOfMade(own);
    const service = name === undefined ? undefined : services.find(idOf({ name, namespace }));
    for (const one of service ? this.#derivedOf(service) : []) if (one.metadata.name === own) yield one;
  }

  /** What services would be with a change. */
  propose(change: ProposedChange): ProposedServices {
    const { services, endpoint, destinationRules, virtualServices } = this.#environment;
    return new ProposedServices(
      {
        service: (name) => services().find(name),
        sourcesOf: (service) => ({
          ...this.#sourcesOf(service),
          placeAt: (address) => this.#places.at(address),
        }),
        endpoint,
        destinationRules: destinationRules(),
        virtualServices: virtualServices(),
      },
      change,
    );
  }

  #derivedOf(service: DeclaredService): Resource[] {
    if (!selectorOf(service.resource)) return [];
    const value = serviceValue(service, { ...this.#sourcesOf(service), slices: [] });
    return derivedSlices(value, service.allotted.ipFamilies, service.resource.spec.ports.length);
  }

  #make(name: string): void {
    const endpoints = this.#changed.get(name);
    this.#changed.delete(name);
    const { tables, services } = this.#environment;
    const service = services().find(name);
    this.#withLeftOut.delete(name);
    this.#unchecked.delete(name);
    if (service && services().held.isReached(service)) {
      const value = this.#followed(service, endpoints) ?? serviceValue(service, this.#sourcesOf(service));
      tables.setService(value);
      this.#inForce.set(name, value);
      if (value.backends.length > 0 && value.check?.targets.every((port) => port === 0)) this.#unchecked.add(name);
    } else if (this.#inForce.delete(name)) {
      const { name: own, namespace } = nameOf(name);
      tables.removeService(`${namespace}/${own}`);
    }
  }

  /** Of what is in force of a service, leaves out the backends on hosts that are down. */
  #leaveOutDown(name: string): void {
    const { services, endpoint, tables } = this.#environment;
    const [service, before] = [services().find(name), this.#inForce.get(name)];
    if (!service || !before || service.resource.spec.publishNotReadyAddresses) return;
    let isOther = false;
    const backends = before.backends.map((backend): Backend => {
      const own = backend.ready || backend.serving ? backend.endpoint : undefined;
      const found = own === undefined ? undefined : endpoint(idOf(nameOf(own)));
      const whyDown = found && this.#whyHostDown(found);
      if (whyDown === undefined) return backend;
      isOther = true;
      return { ...backend, ready: false, serving: false, whyNotReady: whyDown };
    });
    if (!isOther) return;
    const value = { ...before, backends };
    tables.setService(value);
    this.#inForce.set(name, value);
  }

  /** The value after a change of these endpoints; undefined if it takes more to know it. */
  #followed(service: DeclaredService, endpoints: ReadonlySet<string> | undefined): Service | undefined {
    const { endpoint, slices, destinationRules } = this.#environment;
    const { name, resource } = service;
    const before = this.#inForce.get(name);
    const selector = selectorOf(resource);
    // A slice may have the address of an endpoint.
    if (!before || !endpoints || !selector || slices().has(name)) return undefined;
    const isBehind = ({ resource: { metadata } }: Endpoint): boolean =>
      metadata.namespace === resource.metadata.namespace && matches(selector, metadata.labels);
    const changed = [...endpoints].map((one) => {
      const found = endpoint(one);
      return { name: one, endpoint: found && isBehind(found) ? found : undefined };
    });
    return withEndpoints(before, service, changed, {
      stateOf: this.#lookUps.stateOf,
      rule: destinationRules().of(name),
    });
  }

  #sourcesOf({ name, resource }: DeclaredService): ServiceSources {
    const { held } = this.#environment.services();
    const { endpoint, slices, destinationRules, virtualServices } = this.#environment;
    const selector = selectorOf(resource);
    const names = selector ? this.#labelled.matching(resource.metadata.namespace, selector).sort() : [];
    return {
      endpoints: names.flatMap((one) => endpoint(one) ?? []),
      slices: slices().of(name),
      rule: destinationRules().of(name),
      routes: virtualServices().of(name),
      ...this.#lookUps,
      placeAt: (address) => {
        const place = this.#places.at(address);
        if (place.isNobodys) this.#withLeftOut.add(name);
        return place;
      },
      hasAddress: (address) => held.hasAddress(name, address),
      hasNodePort: (port, protocol) => held.hasNodePort(name, port, protocol),
    };
  }

  /** Those of all services alike. */
  readonly #lookUps: Pick<ServiceSources, 'stateOf' | 'endpointAt' | 'zoneOf'> = {
    stateOf: (endpoint) => this.#stateOf(endpoint),
    endpointAt: (address) => {
      const at = this.#byAddress.get(address);
      return at === undefined ? undefined : this.#environment.endpoint(at);
    },
    zoneOf: (host) => this.#labels.get(host)?.[ZONE],
  };

  #stateOf(endpoint: Endpoint): EndpointState {
    const { resource, state } = endpoint;
    const host = endpoint.host ?? this.#environment.hostName;
    const whyHostDown = this.#whyHostDown(endpoint);
    // What is not attached on another host, that host knows.
    const isUp = whyHostDown === undefined && state === (isHere(endpoint) ? 'attached' : 'remote');
    const labels = this.#labels.get(host) ?? {};
    return {
      vni: this.#places.vniOf(resource.spec.network),
      host,
      zone: labels[ZONE],
      isUp,
      whyDown: isUp ? undefined : (whyHostDown ?? `its endpoint is ${state}`),
      isDrained: isDrained(resource.metadata.labels) || isDrained(labels),
    };
  }

  /** Why nothing reaches an endpoint on another host; undefined if it may. */
  #whyHostDown(endpoint: Endpoint): string | undefined {
    const { isDown, isUnreachable } = this.#environment;
    const { host } = endpoint;
    if (host === undefined) return undefined;
    const isHostDown = isUnreachable(host) || (isShared(endpoint) && isDown(host));
    return isHostDown ? `host "${host}" does not answer` : undefined;
  }

  /** The services whose slices have addresses that are left out, with the first one of each. */
  leftOut(): { readonly service: string; readonly address: string }[] {
    const { slices } = this.#environment;
    return [...this.#withLeftOut].flatMap((service) => {
      const addresses = slices()
        .of(service)
        .flatMap(({ endpoints }) => endpoints.flatMap(({ addresses: [first] }) => first ?? []));
      const address = addresses.find((one) => this.#places.at(one).isNobodys);
      return address === undefined ? [] : [{ service, address }];
    });
  }

  /** The services that ask for checks, and have backends of which none can be checked. */
  get unchecked(): ReadonlySet<string> {
    return this.#unchecked;
  }

  #enter(endpoint: Endpoint): void {
    const { name, resource, addresses, host } = endpoint;
    const { metadata } = resource;
    this.#labelled.add(name, metadata.namespace, metadata.labels);
    if (host === undefined) this.#environment.tables.setClient(name, metadata);
    const at = host ?? this.#environment.hostName;
    const others = this.#byHost.get(at);
    if (others) others.add(name);
    else this.#byHost.set(at, new Set([name]));
    for (const address of addresses) this.#byAddress.set(address, name);
    this.publishers.add(endpoint);
  }

  #leave(endpoint: Endpoint): void {
    const { name, resource, addresses, host } = endpoint;
    const { metadata } = resource;
    this.#labelled.remove(name, metadata.namespace, metadata.labels);
    if (host === undefined) this.#environment.tables.setClient(name, undefined);
    const at = host ?? this.#environment.hostName;
    const others = this.#byHost.get(at);
    others?.delete(name);
    if (others?.size === 0) this.#byHost.delete(at);
    for (const address of addresses) if (this.#byAddress.get(address) === name) this.#byAddress.delete(address);
    this.publishers.remove(endpoint);
  }

  /** Marks the services that an endpoint is behind. */
  #markAround({ name, resource: { metadata }, addresses }: Endpoint): void {
    for (const service of this.#selectors.matching(metadata.namespace, metadata.labels)) this.#mark(service, name);
    const slices = this.#environment.slices();
    if (!slices.hasAddresses) return;
    for (const address of addresses) for (const service of slices.withAddress(address)) this.#mark(service);
  }

  #followHosts(): void {
    const { hostName, labelsOf, tables } = this.#environment;
    for (const host of this.#declaredHosts) {
      const [before, after] = [this.#labels.get(host), labelsOf(host)];
      if (after) this.#labels.set(host, after);
      else this.#labels.delete(host);
      if (host === hostName) tables.setHost(hostName, after?.[ZONE]);
      if (!haveSame(before, after)) this.hostChanged(host);
      // They may name the host of an address that is no endpoint's.
      if (before?.[ZONE] !== after?.[ZONE]) this.#markOfSlices();
    }
    this.#declaredHosts.clear();
  }

  #followNetworks(): void {
    const { networks, ranges } = this.#environment;
    if (this.#places.follow(networks(), ranges())) this.#markOfSlices();
  }

  /** Their addresses may be elsewhere now. */
  #markOfSlices(): void {
    for (const service of this.#environment.slices().services()) this.#mark(service);
  }

  #comes(service: string): void {
    this.#changed.set(service, EVERYTHING);
    this.#coming.add(service);
  }

  /** Whether or not `settle` follows. @param endpoint if nothing but that has changed of what its selector matches */
  #mark(service: string, endpoint?: string): void {
    const others = this.#changed.get(service);
    if (endpoint === undefined || others?.size === MOST_FOLLOWED) this.#changed.set(service, EVERYTHING);
    else if (others) others.add(endpoint);
    else if (!this.#changed.has(service)) this.#changed.set(service, new Set([endpoint]));
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    this.#environment.later(() => {
      this.#isPlanned = false;
      void this.#makeChanged().catch(this.#environment.onError);
    });
  }
}

function isDrained(labels: Readonly<Record<string, string>>): boolean {
  const { [DRAIN]: value = 'false' } = labels;
  return value !== 'false';
}

/** In what matters here. */
function haveSame(a: Labels = {}, b: Labels = {}): boolean {
  return a[ZONE] === b[ZONE] && isDrained(a) === isDrained(b);
}
