/**
 * Puts together what the tables know of a service (`table/service.ts`): of the Service, the endpoints that its selector matches,
 * and its EndpointSlices.
 *
 *   1. a backend for each endpoint and family, in the order of their names
 *   2. one for each address of the slices that is not among them yet: an address is that of one endpoint
 *   3. the ports, with the target port of each backend
 *
 * A service may have very many endpoints, of which one changes at a time. `withEndpoints` makes the value after that from the one
 * before: the same as if it were put together again.
 */
import { protocolNumber } from '../../flow/connection.ts';
import { parseIp, sameBytes, type Vni } from '../../flow/types.ts';
import type { EndpointSliceResource, SliceEndpoint } from '../../model/kinds/endpoint-slice.ts';
import { healthCheckOf } from '../../model/health-check.ts';
import { affinityMsOf, familyOf, loadBalancerIpsOf, type ServicePortSpec } from '../../model/kinds/service.ts';
import { furtherPorts, readAnnotations, type PortRange } from '../../model/service-annotations.ts';
import type { Backend, BackendCheck, Service, ServicePort } from '../../table/service.ts';
import { nameOf } from '../../model/resource.ts';
import type { DestinationRuleResource } from '../../model/kinds/destination-rule.ts';
import type { VirtualServiceResource } from '../../model/kinds/virtual-service.ts';
import type { PortProtocol } from '../../model/publish.ts';
import type { Endpoint } from '../endpoint.ts';
import type { AddressPlace } from './address-places.ts';
import { routingOf } from './route-settings.ts';
import { ruleSettings, subsetsOf } from './rule-settings.ts';
import type { DeclaredService } from './service.ts';

/** What is known of an endpoint besides its record. */
export interface EndpointState {
  /** The network that it is in; undefined if that is not known here. */
  readonly vni: Vni | undefined;
  readonly host: string;
  readonly zone: string | undefined;
  /** True if it can be reached, as far as this host knows. */
  readonly isUp: boolean;
  /** Why it cannot, for people. */
  readonly whyDown: string | undefined;
  /** True if it, or its host, is drained. */
  readonly isDrained: boolean;
}

export interface ServiceSources {
  /** Those that the selector matches, in the order of their names. */
  readonly endpoints: readonly Endpoint[];
  readonly slices: readonly EndpointSliceResource[];
  /** The DestinationRule for the service. */
  readonly rule: DestinationRuleResource | undefined;
  /** The VirtualService for it. */
  readonly routes: VirtualServiceResource | undefined;
  readonly stateOf: (endpoint: Endpoint) => EndpointState;
  /** The endpoint that has an address, whatever its network. */
  readonly endpointAt: (address: string) => Endpoint | undefined;
  /** Where an address is. One that leads to no endpoint is left out. */
  readonly placeAt: (address: string) => AddressPlace;
  readonly zoneOf: (host: string) => string | undefined;
  /** False for one that another service has, by which this one cannot be reached. */
  readonly hasAddress: (address: string) => boolean;
  /** The same for a node port. */
  readonly hasNodePort: (port: number, protocol: PortProtocol) => boolean;
}

/** A port of the value, before its target ports are known. */
export interface ValuePort extends Omit<ServicePort, 'targets'> {
  /** Of the annotation: the same numbers at the backends, even if it is only one. */
  readonly isRange: boolean;
  readonly protocolName: ServicePortSpec['protocol'];
  readonly target: number | string;
}

interface Candidate {
  readonly backend: Backend;
  /** By port of the service. */
  readonly targets: readonly number[];
}

export function serviceValue(service: DeclaredService, sources: ServiceSources): Service {
  const { resource, allotted } = service;
  const { metadata, spec } = resource;
  const { ranges, drainMs, balancing, hasWildcard } = readAnnotations(metadata.annotations);
  const isExternalName = spec.type === 'ExternalName';
  const ports = isExternalName ? [] : portsOf(service, ranges);
  const checked = checkOf(service);
  const candidates = isExternalName ? [] : candidatesOf(service, [...ports, ...checkedPorts(checked)], sources);
  return {
    // At the head, where V8 copies an object at once: there may be 30,000 services.
    ...ruleSettings(sources.rule, {
      balancing,
      distribution: distributionOf(spec.trafficDistribution),
      maxConnections: undefined,
    }),
    id: `${metadata.namespace}/${metadata.name}`,
    vips: allotted.clusterIps.filter(sources.hasAddress).map(parseIp),
    externalAddresses: loadBalancerIpsOf(resource).filter(sources.hasAddress).map(parseIp),
    ports: ports.map((port, at) => ({
      name: port.name,
      protocol: port.protocol,
      l4Port: port.l4Port,
      lastL4Port: port.lastL4Port,
      nodePort: hasAll(port, sources) ? port.nodePort : undefined,
      targets: candidates.map(({ targets }) => targets[at]!),
    })),
    backends: candidates.map(({ backend }) => backend),
    affinityMs: affinityMsOf(spec),
    internalPolicy: spec.internalTrafficPolicy === 'Local' ? 'local' : 'cluster',
    externalPolicy: spec.externalTrafficPolicy === 'Local' ? 'local' : 'cluster',
    routing: routingOf(sources.routes),
    drainMs,
    hasWildcard,
    check: checked && { ...checked.check, targets: candidates.map(({ targets }) => targets[ports.length]!) },
    externalName: isExternalName ? spec.externalName : undefined,
  };
}

/** True if the service has the node port, or all of a range. */
function hasAll({ protocolName, l4Port, lastL4Port, nodePort = 0 }: ValuePort, sources: ServiceSources): boolean {
  for (let at = 0; at <= lastL4Port - l4Port; at++) if (!sources.hasNodePort(nodePort + at, protocolName)) return false;
  return true;
}

/** An endpoint that may have changed. */
export interface ChangedEndpoint {
  readonly name: string;
  /** Undefined if the selector does not match it, or there is none. */
  readonly endpoint: Endpoint | undefined;
}

/**
 * The value of a service after a change of some of its endpoints. It costs a copy of the lists, and all other backends stay the
 * objects that they are.
 * @param value before that, of the same service without slices
 */
export function withEndpoints(
  value: Service,
  service: DeclaredService,
  changed: readonly ChangedEndpoint[],
  sources: Pick<ServiceSources, 'stateOf' | 'rule'>,
): Service {
  const ports = portsOf(service, readAnnotations(service.resource.metadata.annotations).ranges);
  const backends = [...value.backends];
  const checked = checkOf(service);
  const targets = [...value.ports, ...(value.check ? [value.check] : [])].map((port) => [...port.targets]);
  for (const { name, endpoint } of changed) {
    const found = endpoint ? candidatesAt(endpoint, service, [...ports, ...checkedPorts(checked)], sources) : [];
    const { namespace, name: own } = nameOf(name);
    const id = `${namespace}/${own}`;
    const first = placeOf(backends, id);
    let count = 0;
    while (backends[first + count]?.endpoint === id) count++;
    backends.splice(first, count, ...found.map(({ backend }) => backend));
    for (const [at, all] of targets.entries()) all.splice(first, count, ...found.map((one) => one.targets[at]!));
  }
  return {
    ...value,
    backends,
    ports: value.ports.map((port, at) => ({ ...port, targets: targets[at]! })),
    check: value.check && { ...value.check, targets: targets.at(-1)! },
  };
}

interface Checked {
  readonly check: Omit<BackendCheck, 'targets'>;
  /** What is checked of each backend, as if it were a port of the service. */
  readonly port: ValuePort;
}

/** Without a port of its own, the target of the first TCP port is checked. */
function checkOf({ resource: { metadata, spec } }: DeclaredService): Checked | undefined {
  const given = healthCheckOf(metadata.annotations ?? {});
  const first = spec.ports.find(({ protocol }) => protocol === 'TCP');
  if (!given || (given.port === undefined && !first)) return undefined;
  const { port = first?.targetPort ?? first!.port, ...check } = given;
  const isOwn = given.port === undefined;
  const name = isOwn ? (first!.name ?? '') : String(port);
  const l4Port = isOwn ? first!.port : 0;
  return {
    check,
    port: {
      ...{ name, protocol: protocolNumber('TCP'), l4Port, lastL4Port: l4Port, nodePort: undefined },
      ...{ protocolName: 'TCP', target: port, isRange: false },
    },
  };
}

function checkedPorts(checked: Checked | undefined): readonly ValuePort[] {
  return checked ? [checked.port] : [];
}

/** Where the backends of an endpoint begin, or would. */
function placeOf(backends: readonly Backend[], endpoint: string): number {
  let [low, high] = [0, backends.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (backends[middle]!.endpoint! < endpoint) low = middle + 1;
    else high = middle;
  }
  return low;
}

function distributionOf(given: 'PreferSameNode' | 'PreferSameZone' | 'PreferClose' | undefined) {
  if (given === undefined) return 'none';
  return given === 'PreferSameNode' ? 'same-node' : 'same-zone';
}

/** A node port, and the port of the service that it leads to. */
export interface PublishedServicePort {
  readonly protocol: PortProtocol;
  readonly l4Port: number;
  readonly nodePort: number;
}

/** Each of a range by itself. */
export function* publishedPortsOf(service: DeclaredService): Generator<PublishedServicePort> {
  const { ranges } = readAnnotations(service.resource.metadata.annotations);
  for (const { protocolName: protocol, l4Port, lastL4Port, nodePort } of portsOf(service, ranges)) {
    if (nodePort === undefined) continue;
    for (let at = 0; at <= lastL4Port - l4Port; at++) yield { protocol, l4Port: l4Port + at, nodePort: nodePort + at };
  }
}

/** Those that it declares, and the ranges without them, in the order of their protocols. */
export function portsOf(
  { resource, allotted: { nodePorts } }: DeclaredService,
  ranges: readonly PortRange[],
): ValuePort[] {
  const { ports } = resource.spec;
  const declared = ports.map(({ name = '', protocol, port, targetPort = port }, at) => ({
    ...{ name, l4Port: port, lastL4Port: port, protocolName: protocol, target: targetPort, isRange: false },
    protocol: protocolNumber(protocol),
    nodePort: nodePorts[at] || undefined,
  }));
  const further = furtherPorts(ports, ranges).map(({ first, last, protocol, range, offset }) => ({
    ...{ name: '', l4Port: first, lastL4Port: last, protocolName: protocol, target: first, isRange: true },
    protocol: protocolNumber(protocol),
    nodePort: nodePortAt(nodePorts[ports.length + range], offset),
  }));
  return [...declared, ...further];
}

function nodePortAt(first: number | undefined, offset: number): number | undefined {
  return first ? first + offset : undefined;
}

function candidatesOf(service: DeclaredService, ports: readonly ValuePort[], sources: ServiceSources): Candidate[] {
  const found: Candidate[] = [];
  for (const endpoint of sources.endpoints) found.push(...candidatesAt(endpoint, service, ports, sources));
  return sources.slices.length === 0 ? found : withSlices(found, service, ports, sources);
}

/** Those of one endpoint: one for each family in which it has an address. */
function candidatesAt(
  endpoint: Endpoint,
  { resource, allotted: { ipFamilies } }: DeclaredService,
  ports: readonly ValuePort[],
  { stateOf, rule }: Pick<ServiceSources, 'stateOf' | 'rule'>,
): Candidate[] {
  const { publishNotReadyAddresses: areAllReady } = resource.spec;
  const targets = ports.map((port) => targetOf(port, endpoint));
  const state = stateOf(endpoint);
  const subsets = subsetsOf(rule, endpoint.resource.metadata.labels);
  return ipFamilies.flatMap((family) => {
    const address = endpoint.addresses.find((ip) => familyOf(ip) === family);
    return address === undefined
      ? []
      : { backend: { ...backendOf(endpoint, address, state, areAllReady), subsets }, targets };
  });
}

/** The number of a port at an endpoint; 0 if it has none. */
function targetOf({ target, protocolName }: ValuePort, { resource }: Endpoint): number {
  if (typeof target === 'number') return target;
  const { ports = [] } = resource.spec;
  return ports.find(({ name, protocol }) => name === target && protocol === protocolName)?.port ?? 0;
}

/** An endpoint has few addresses, and may be behind many services. */
const parsed = new WeakMap<readonly string[], Map<string, Uint8Array>>();

function addressOf({ addresses }: Endpoint, address: string): Uint8Array {
  let known = parsed.get(addresses);
  if (!known) parsed.set(addresses, (known = new Map(addresses.map((ip) => [ip, parseIp(ip)]))));
  return known.get(address)!;
}

function backendOf(
  endpoint: Endpoint,
  address: string,
  { vni, host, zone, isUp, whyDown, isDrained }: EndpointState,
  areAllReady: boolean,
): Omit<Backend, 'subsets'> {
  const { name, namespace } = endpoint.resource.metadata;
  return {
    endpoint: `${namespace}/${name}`,
    address: addressOf(endpoint, address),
    ...{ vni, host, zone },
    hostname: name,
    ready: areAllReady || (isUp && !isDrained),
    serving: areAllReady || isUp,
    terminating: !areAllReady && isDrained,
    whyNotReady: areAllReady ? undefined : whyDown,
    weight: 1,
  };
}

function withSlices(
  endpoints: readonly Candidate[],
  service: DeclaredService,
  ports: readonly ValuePort[],
  sources: ServiceSources,
): Candidate[] {
  const { ipFamilies } = service.allotted;
  const { publishNotReadyAddresses: areAllReady } = service.resource.spec;
  const found = [...endpoints];
  for (const slice of sources.slices) {
    if (!ipFamilies.includes(slice.addressType)) continue;
    const targets = ports.map(({ name, protocolName, l4Port, target, isRange }) => {
      if (isRange) return l4Port;
      // A check of a port by its number.
      if (l4Port === 0 && typeof target === 'number') return target;
      const own = slice.ports?.find((port) => (port.name ?? '') === name && port.protocol === protocolName);
      return own?.port ?? 0;
    });
    for (const endpoint of slice.endpoints) {
      const { vni, isNobodys } = sources.placeAt(endpoint.addresses[0]!);
      if (!isNobodys) found.push({ backend: sliceBackend(endpoint, vni, sources, areAllReady), targets });
    }
  }
  return joined(found.sort((a, b) => compareBackends(a.backend, b.backend)));
}

/** Of several candidates with one address, each of which leads to the same ports as far as it has them, one is left. */
function joined(sorted: readonly Candidate[]): Candidate[] {
  const all: Candidate[] = [];
  /** Where those with the address of the last one begin. */
  let first = 0;
  for (const one of sorted) {
    const { address } = one.backend;
    if (first < all.length && !sameBytes(all[first]!.backend.address, address)) first = all.length;
    let at = first;
    while (at < all.length && !isCompatible(all[at]!.targets, one.targets)) at++;
    all[at] = at < all.length ? merged(all[at]!, one) : one;
  }
  return all;
}

/** @param vni the network that has its address */
function sliceBackend(
  endpoint: SliceEndpoint,
  vni: Vni | undefined,
  sources: ServiceSources,
  areAllReady: boolean,
): Backend {
  const address = endpoint.addresses[0]!;
  const owner = sources.endpointAt(address);
  const state = owner && sources.stateOf(owner);
  const conditions = endpoint.conditions ?? {};
  const isUp = state?.isUp ?? true;
  const isTerminating = conditions.terminating ?? state?.isDrained ?? false;
  const isUnknown = (conditions.ready ?? undefined) === undefined;
  const ready = conditions.ready ?? true;
  const isOut = !ready || conditions.terminating === true;
  // Where an endpoint is, weft knows better than who wrote the slice: its replies come in there.
  const host = state?.host ?? endpoint.nodeName ?? undefined;
  const own = owner?.resource.metadata;
  return {
    endpoint: own && `${own.namespace}/${own.name}`,
    address: owner ? addressOf(owner, address) : parseIp(address),
    vni: state ? state.vni : vni,
    host,
    zone: endpoint.zone ?? (host === undefined ? undefined : sources.zoneOf(host)),
    hostname: endpoint.hostname ?? own?.name,
    ready: areAllReady || (ready && isUp && !(isTerminating && isUnknown)),
    serving: areAllReady || ((conditions.serving ?? ready) && isUp),
    terminating: !areAllReady && isTerminating,
    whyNotReady: areAllReady ? undefined : (state?.whyDown ?? (isOut ? 'its EndpointSlice says so' : undefined)),
    weight: 1,
    subsets: subsetsOf(sources.rule, own?.labels ?? {}),
  };
}

/** True if both can be one backend: no port of the service leads to two ports of it. */
function isCompatible(a: readonly number[], b: readonly number[]): boolean {
  return a.every((port, at) => port === 0 || b[at] === 0 || port === b[at]);
}

/** The same endpoint in two slices: it is ready if one of them says so. */
function merged(a: Candidate, b: Candidate): Candidate {
  const [one, other] = [a.backend, b.backend];
  return {
    backend: {
      ...one,
      hostname: one.hostname ?? other.hostname,
      host: one.host ?? other.host,
      zone: one.zone ?? other.zone,
      ready: one.ready || other.ready,
      serving: one.serving || other.serving,
      terminating: one.terminating && other.terminating,
      whyNotReady: one.ready || other.ready ? undefined : (one.whyNotReady ?? other.whyNotReady),
    },
    targets: a.targets.map((port, at) => port || b.targets[at]!),
  };
}

/** Endpoints by name, then what has no name by its address. The same on all hosts. */
function compareBackends(a: Backend, b: Backend): number {
  if (a.endpoint !== b.endpoint) {
    if (a.endpoint === undefined || b.endpoint === undefined) return a.endpoint === undefined ? 1 : -1;
    return a.endpoint < b.endpoint ? -1 : 1;
  }
  return Buffer.compare(a.address, b.address);
}
