/** The parts that services are made of, and how they are connected. */
import type { DestinationRuleResource } from '../../model/kinds/destination-rule.ts';
import type { Subnet } from '../../model/address.ts';
import { hostKind } from '../../model/kinds/host.ts';
import type { PortProtocol } from '../../model/publish.ts';
import type { ClashReport } from '../../model/report.ts';
import { idOf } from '../../model/resource.ts';
import { serviceOf } from '../../model/service-host.ts';
import type { Allotment } from '../addresses/allotment.ts';
import type { Endpoints } from '../endpoints.ts';
import { keyOf } from '../keys.ts';
import type { Hosts } from '../membership/hosts.ts';
import { LIVE } from '../keys.ts';
import type { Networks } from '../networks.ts';
import type { Register } from '../register.ts';
import type { ProposedChange } from '../proposed-change.ts';
import { prefixOf } from '../routing.ts';
import { ClashLog } from './clash-log.ts';
import { ServiceClaims } from './claims.ts';
import { EndpointSlices } from './endpoint-slices.ts';
import { Rules } from './rules.ts';
import { ServiceEnforcement, type ServiceTables } from './service-enforcement.ts';
import type { NetworksBeside } from './networks-beside.ts';
import { uncheckedText } from './service.ts';
import { ServiceRange } from './service-range.ts';
import { VirtualServices } from './virtual-services.ts';
import { DeclaredServices } from './declared-services.ts';

/** What the keys of hosts begin with. */
const HOSTS = keyOf(hostKind, '');

export interface ServicePartsEnvironment {
  readonly tables: ServiceTables;
  /** What this host is configured with; undefined if it takes what the cluster has. */
  readonly serviceCidrs: readonly string[] | undefined;
  readonly networks: () => Networks;
  readonly hosts: () => Hosts;
  readonly endpoints: () => Endpoints;
  /** Undefined without a shared store. */
  readonly allotment: Allotment | undefined;
  readonly hostName: string;
  /** True if a host of the store is known not to run. */
  readonly isDown: (host: string) => boolean;
  /** True if the tunnel to a host is down. */
  readonly isUnreachable: (host: string) => boolean;
  readonly later: (work: () => void) => void;
  readonly onError: (error: unknown) => void;
  readonly warn: (message: string) => void;
}

export interface ServiceParts {
  readonly services: DeclaredServices;
  readonly slices: EndpointSlices;
  readonly destinationRules: Rules<DestinationRuleResource>;
  readonly virtualServices: VirtualServices;
  readonly range: ServiceRange;
  readonly enforcement: ServiceEnforcement;
  readonly registers: readonly Register[];
  /** What of a new network services have for themselves. @param texts of `subnets` */
  readonly clash: (subnets: readonly Subnet[], texts: readonly string[]) => string | undefined;
  /** @throws WeftError('conflict') if others need what a change would take from a rule */
  readonly check: (change: ProposedChange) => Promise<void>;
  /** What does not go together. */
  readonly clashes: () => ClashReport[];
  /** The service that has a node port. */
  readonly nodePortOwner: (port: number) => string | undefined;
  /** The service that has a node port which an endpoint publishes as well. */
  readonly nodePortBefore: (port: number, protocol: PortProtocol) => string | undefined;
}

export function serviceParts(environment: ServicePartsEnvironment): ServiceParts {
  const { tables, networks, hosts, endpoints, hostName, isDown, isUnreachable, later, onError } = environment;
  const beside: NetworksBeside = {
    all: () => networks().all(),
    clash: (draft, subnets, texts) => networks().clash(draft, subnets, texts),
    alsoStored: (draft) => networks().planNothing(draft),
  };
  const range = new ServiceRange({ configured: environment.serviceCidrs, networks: beside });
  const vips = new ServiceClaims('vips/', (address) => services.addressClaimed(address));
  const nodePorts = new ServiceClaims('node-ports/', (port) => services.nodePortTaken(port));
  const enforcement: ServiceEnforcement = new ServiceEnforcement({
    tables,
    services: () => services,
    slices: () => slices,
    destinationRules: () => destinationRules,
    virtualServices: () => virtualServices,
    endpoint: (name) => endpoints().find(name),
    networks: () => networks().all(),
    ranges: () => range.inForce(),
    labelsOf: (host) => hosts().find(host)?.resource.metadata.labels,
    ...{ hostName, isDown, isUnreachable, later, onError },
  });
  const services: DeclaredServices = new DeclaredServices({
    ...{ range, vips, nodePorts, networks: beside },
    refuseRemoval: (name) => virtualServices.refuseServiceRemoval(name),
    publisherOf: (port, draft) => enforcement.publishers.of(port, draft),
    publishers: () => enforcement.publishers.all,
    onHeld: (name) => enforcement.heldOtherwise(name),
    isUnchecked: (name) => enforcement.unchecked.has(name),
    onChange: (name, before, after) => enforcement.serviceChanged(name, before, after),
    // The first time, everything that is stored has come.
    settle: async () => {
      tables.setServiceRanges(range.inForce().map(prefixOf));
      await enforcement.settle();
      tables.servicesLoaded();
      log.tell();
    },
  });
  const leftOut = (): ClashReport[] =>
    enforcement.leftOut().map(({ service, address }) => ({
      detail: `a slice of service "${service}" has ${address}, which no endpoint can have: it is left out`,
      hint: 'correct the EndpointSlice, and apply it again',
    }));
  const unchecked = (): ClashReport[] =>
    [...enforcement.unchecked].flatMap((name) => {
      const service = services.find(name)?.resource;
      if (!service) return [];
      const hint = 'name a port that its endpoints have in `ports`, and apply it again';
      return [{ detail: `service "${name}": ${uncheckedText(service)}`, hint }];
    });
  const clashes = (): ClashReport[] => [...range.clashes(), ...services.held.clashes(), ...leftOut(), ...unchecked()];
  const log = new ClashLog(clashes, environment.warn);
  const slices: EndpointSlices = new EndpointSlices({
    onChange: (service) => enforcement.slicesChanged(service),
    derived: (name) => enforcement.derived(name),
  });
  const aboutServices = {
    onChange: (service: string) => enforcement.rulesChanged(service),
    hasService: (name: string) => services.find(name) !== undefined,
  };
  const destinationRules = new Rules<DestinationRuleResource>(
    'DestinationRule',
    ({ metadata, spec }) => [idOf(serviceOf(spec.host, metadata.namespace))],
    { ...aboutServices, refuseRemoval: (name, [service = '']) => virtualServices.refuseRuleRemoval(name, service) },
  );
  const virtualServices: VirtualServices = new VirtualServices({
    ...aboutServices,
    service: (name) => services.find(name)?.resource,
    rule: (name) => destinationRules.find(name)?.resource,
    ruleFor: (service, draft) => destinationRules.of(service, draft),
    proposedRuleFor: (service, change) => destinationRules.proposed(service, change),
  });
  const liveHosts: Register = {
    prefix: LIVE,
    see: (changes) => {
      for (const { key } of changes) enforcement.hostChanged(key.slice(LIVE.length));
    },
  };
  const declaredHosts: Register = {
    prefix: HOSTS,
    see: (changes) => {
      for (const { key } of changes) enforcement.hostDeclared(key.slice(HOSTS.length));
    },
  };
  return {
    ...{ services, slices, destinationRules, virtualServices, range, enforcement },
    check: async (change) => virtualServices.refuseLostSubsets(change),
    clashes,
    registers: [range, vips, nodePorts, liveHosts, declaredHosts],
    clash: (subnets, texts) => range.clash(subnets, texts) ?? services.clash(subnets, texts),
    nodePortOwner: (port) => nodePorts.ownerOf(String(port)),
    nodePortBefore: (port, protocol) => services.held.serviceBefore(port, protocol),
  };
}
