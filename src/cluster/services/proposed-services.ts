/**
 * Services as a change would make them, put together of what is in force and of what the change has in its place
 * (`service-value.ts`). Nothing of it is put into force.
 *
 * An endpoint that the change creates counts as one that is up: nobody can know before whether its namespace is there.
 */
import type { DestinationRuleResource } from '../../model/kinds/destination-rule.ts';
import type { VirtualServiceResource } from '../../model/kinds/virtual-service.ts';
import type { EndpointSliceResource } from '../../model/kinds/endpoint-slice.ts';
import { idOf, nameOf } from '../../model/resource.ts';
import type { Service } from '../../table/service.ts';
import { isHere, type Endpoint } from '../endpoint.ts';
import type { ProposedChange } from '../proposed-change.ts';
import type { Declared } from '../reconciler.ts';
import { serviceOfSlice } from './endpoint-slices.ts';
import { matches } from './label-index.ts';
import type { Rules } from './rules.ts';
import { serviceValue, type ServiceSources } from './service-value.ts';
import { selectorOf, type DeclaredService } from './service.ts';

/** What is in force without the change. */
export interface ServicesInForce {
  readonly service: (name: string) => DeclaredService | undefined;
  readonly endpoint: (name: string) => Endpoint | undefined;
  readonly destinationRules: Rules<DestinationRuleResource>;
  readonly virtualServices: Rules<VirtualServiceResource>;
  /** What the value of a service would be made of. */
  readonly sourcesOf: (service: DeclaredService) => ServiceSources;
}

/** The kinds that services are made of. */
const KINDS = ['Service', 'EndpointSlice', 'DestinationRule', 'VirtualService', 'Endpoint'] as const;

export class ProposedServices {
  readonly #inForce: ServicesInForce;
  readonly #change: ProposedChange;
  /** By address: the endpoints that the change has. */
  readonly #owners = new Map<string, Endpoint>();
  readonly #values = new Map<string, Service | undefined>();

  constructor(inForce: ServicesInForce, change: ProposedChange) {
    this.#inForce = inForce;
    this.#change = change;
    for (const endpoint of this.#endpoints()) {
      for (const address of endpoint.addresses) this.#owners.set(address, endpoint);
    }
  }

  /** False if the change has nothing that services are made of. */
  get mayDiffer(): boolean {
    return KINDS.some((kind) => this.#change.planned(kind).size > 0);
  }

  /** @param id `NAMESPACE/NAME` @returns undefined if there is none */
  of(id: string): Service | undefined {
    if (!this.#values.has(id)) this.#values.set(id, this.#make(idOf(nameOf(id))));
    return this.#values.get(id);
  }

  #make(name: string): Service | undefined {
    const planned = this.#change.planned<DeclaredService>('Service').get(name);
    const service = planned ?? this.#inForce.service(name);
    if (!service) return undefined;
    const sources = this.#inForce.sourcesOf(service);
    const { destinationRules, virtualServices } = this.#inForce;
    return serviceValue(service, {
      ...sources,
      endpoints: this.#behind(service, sources.endpoints),
      slices: this.#slicesOf(name, sources.slices),
      rule: destinationRules.proposed(name, this.#change),
      routes: virtualServices.proposed(name, this.#change),
      endpointAt: (address) => this.#owners.get(address) ?? this.#kept(sources.endpointAt(address)),
      // What it is allotted with the change is its own.
      hasAddress: (address) => planned !== undefined || sources.hasAddress(address),
      hasNodePort: (port, protocol) => planned !== undefined || sources.hasNodePort(port, protocol),
    });
  }

  /** Those that its selector matches, in the order of their names. */
  #behind({ resource }: DeclaredService, before: readonly Endpoint[]): Endpoint[] {
    const selector = selectorOf(resource);
    const { namespace } = resource.metadata;
    const added = [...this.#endpoints()].filter(
      ({ resource: { metadata } }) =>
        selector !== undefined && metadata.namespace === namespace && matches(selector, metadata.labels),
    );
    return [...before.filter((one) => this.#kept(one)), ...added].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #slicesOf(service: string, before: readonly EndpointSliceResource[]): EndpointSliceResource[] {
    const planned = this.#change.planned<Declared<EndpointSliceResource>>('EndpointSlice');
    const kept = before.filter(({ metadata }) => !planned.has(idOf(metadata)));
    const added = [...planned.values()].map(({ resource }) => resource);
    return [...kept, ...added.filter((one) => serviceOfSlice(one) === service)].sort((a, b) =>
      idOf(a.metadata) < idOf(b.metadata) ? -1 : 1,
    );
  }

  /** Undefined if the change has another one in its place. */
  #kept(endpoint: Endpoint | undefined): Endpoint | undefined {
    return endpoint && this.#change.planned('Endpoint').has(endpoint.name) ? undefined : endpoint;
  }

  *#endpoints(): Generator<Endpoint> {
    for (const planned of this.#change.planned<Endpoint>('Endpoint').values()) {
      const state = this.#inForce.endpoint(planned.name)?.state ?? (isHere(planned) ? 'attached' : 'remote');
      yield { ...planned, state };
    }
  }
}
