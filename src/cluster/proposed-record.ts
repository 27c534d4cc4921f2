/**
 * A proposed change as other hosts are told of it, so far as policies and services depend on it: policies, namespaces, what services are
 * made of with what they would be allotted, and endpoints with the addresses that they would have. Each host can say what it would
 * decide then without planning anything itself.
 */
import type { EndpointResource } from '../model/kinds/endpoint.ts';
import type { ServiceResource } from '../model/kinds/service.ts';
import { parseResource } from '../model/manifest.ts';
import { proposedRecord, type ProposedRecord } from '../model/records.ts';
import { idOf, type Resource } from '../model/resource.ts';
import type { Endpoint } from './endpoint.ts';
import type { ProposedChange } from './proposed-change.ts';
import type { Declared } from './reconciler.ts';
import type { DeclaredService } from './services/service.ts';

const KINDS = [
  ...['NetworkPolicy', 'ClusterNetworkPolicy', 'Namespace'],
  ...['EndpointSlice', 'DestinationRule', 'VirtualService'],
] as const;

/** @param host the name of this one */
export function recordOf(change: ProposedChange, host: string): ProposedRecord {
  return {
    resources: KINDS.flatMap((kind) => [...change.planned(kind).values()].map(({ resource }) => resource)),
    endpoints: [...change.planned<Endpoint>('Endpoint').values()].map(({ resource, addresses, mac, ...of }) => ({
      ...{ resource, addresses: [...addresses], mac },
      host: of.host ?? host,
    })),
    services: [...change.planned<DeclaredService>('Service').values()].map(({ resource, allotted }) => ({
      resource,
      allotted: { ...allotted },
    })),
  };
}

/** @param host the name of this one @throws WeftError, or of zod, if another version has written it */
export function changeOfRecord(value: unknown, host: string): ProposedChange {
  const { resources, endpoints, services } = proposedRecord.parse(value);
  const planned = new Map<string, Map<string, Declared>>();
  const add = (declared: Declared): void => {
    const { kind } = declared.resource;
    const ofKind = planned.get(kind) ?? new Map<string, Declared>();
    planned.set(kind, ofKind.set(declared.name, declared));
  };
  const declaredOf = <R extends Resource>(resource: R): Declared<R> => ({
    name: idOf(resource.metadata),
    resource,
    revision: 0,
  });
  for (const one of resources) add(declaredOf(parseResource(one)));
  for (const { resource, addresses, mac, host: at } of endpoints) {
    const declared = declaredOf(parseResource(resource) as EndpointResource);
    const endpoint: Endpoint = { ...declared, addresses, mac, host: at === host ? undefined : at, state: 'waiting' };
    add(endpoint);
  }
  for (const { resource, allotted } of services) {
    const service: DeclaredService = { ...declaredOf(parseResource(resource) as ServiceResource), allotted };
    add(service);
  }
  return {
    planned: <D extends Declared>(kind: string) => (planned.get(kind) ?? new Map()) as ReadonlyMap<string, D>,
    isRemoved: () => false,
    names: (kind) => [...(planned.get(kind)?.keys() ?? [])],
  };
}
