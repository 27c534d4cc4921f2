/** What `weft services` shows: services and their backends, as this host sees them. */
import { WeftError } from '../error.ts';
import { formatIp } from '../flow/types.ts';
import { DEFAULT_NAMESPACE, idOf, nameOf, type ResourceName } from '../model/name.ts';
import type { ServiceBackendReport, ServiceReport, SpreadReport } from '../model/service-report.ts';
import type { Fault } from '../table/health.ts';
import { routedTo } from '../table/service-routes.ts';
import type { Backend, PortSpreads, RouteMatch, Service, ServicePort, Spread } from '../table/service.ts';
import type { Services } from '../table/services.ts';
import type { Topology } from '../table/topology.ts';
import { eachInTurns, inTurns } from '../turns.ts';
import { IP_TCP } from '../wire/ipv4.ts';

export interface ServicesQuestion {
  readonly tables: {
    readonly services: Services;
    readonly topology: Topology;
    readonly connections: { readonly openPins: () => Iterable<number> };
  };
  /** True if a host is known not to run, or cannot be reached from here. */
  readonly isHostDown: (host: string) => boolean;
}

/** How many services one turn of the event loop reports. */
const TURN_SERVICES = 64;
/** How many slots of connections one turn looks at: takes about a millisecond. */
const TURN_SLOTS = 8192;

/**
 * Reports some in each turn, since there can be many, in no particular order. @param which a service, those of a namespace,
 * or all
 * @throws WeftError('not_found') at once if one is named that does not exist
 */
export function reportServices(
  question: ServicesQuestion,
  { name, namespace }: Partial<ResourceName> = {},
): AsyncGenerator<ServiceReport> {
  const { services } = question.tables;
  if (name === undefined) return reportEach(question, services.all(), namespace);
  return reportEach(question, [serviceNamed(services, { name, namespace })], undefined);
}

/** @throws WeftError('not_found') */
export function serviceNamed(services: Services, { name, namespace = DEFAULT_NAMESPACE }: ResourceName): Service {
  const service = services.get(`${namespace}/${name}`);
  if (!service) throw new WeftError('not_found', `there is no Service "${idOf({ name, namespace })}"`);
  return service;
}

async function* reportEach(
  question: ServicesQuestion,
  services: Iterable<Service>,
  namespace: string | undefined,
): AsyncGenerator<ServiceReport> {
  const open = await openConnections(question);
  for await (const service of inTurns(services, TURN_SERVICES)) {
    if (namespace === undefined || nameOf(service.id).namespace === namespace)
      yield reportService(question, service, open);
  }
}

/**
 * How many connections there are to backends, by their numbers. A record stays for a while after its connection is over, and
 * such ones are left out.
 */
async function openConnections({ tables }: ServicesQuestion): Promise<ReadonlyMap<number, number>> {
  const open = new Map<number, number>();
  await eachInTurns(tables.connections.openPins(), TURN_SLOTS, (pin) => {
    if (pin !== 0) open.set(pin, (open.get(pin) ?? 0) + 1);
  });
  return open;
}

function reportService(question: ServicesQuestion, service: Service, open: ReadonlyMap<number, number>): ServiceReport {
  const { affinityMs, externalName } = service;
  const connections = question.tables.services.connectionsOf(service.id, ({ pin }) => open.get(pin) ?? 0);
  return {
    ...nameOf(service.id),
    addresses: service.vips.map(formatIp),
    externalAddresses: service.externalAddresses.map(formatIp),
    ...(externalName !== undefined && { externalName }),
    ports: service.ports.map(reportPort),
    balancing: service.balancing,
    ...(affinityMs !== undefined && { affinityMs }),
    drainMs: service.drainMs,
    internalTrafficPolicy: service.internalPolicy === 'local' ? 'Local' : 'Cluster',
    externalTrafficPolicy: service.externalPolicy === 'local' ? 'Local' : 'Cluster',
    trafficDistribution: service.distribution,
    ...reportRule(service),
    ...reportRouting(service, question.tables.services),
    backends: service.backends.map((backend, at) => {
      const ports = service.ports.map(({ targets }) => targets[at] || null);
      const report = reportBackend(question, service, backend);
      const hasPort = ports.length === 0 || ports.some((port) => port !== null);
      return {
        ...report,
        ...(report.state === 'ready' && service.check?.targets[at] === 0 && uncheckedWhy),
        ...(report.state === 'ready' && !hasPort && withoutPort),
        ports,
        connections: connections[at] ?? 0,
      };
    }),
  };
}

/** What a DestinationRule says; nothing if there is none. */
function reportRule({ rule, maxConnections, portSpreads, subsets }: Service) {
  return {
    ...(rule !== undefined && { destinationRule: rule }),
    ...(maxConnections !== undefined && { maxConnections }),
    ...(portSpreads.size > 0 && { portSpreads: reportSpreads(portSpreads) }),
    ...(subsets.length > 0 && {
      subsets: Object.fromEntries(
        subsets.map((one) => [one.name, { ...reportSpread(one), portSpreads: reportSpreads(one.portSpreads) }]),
      ),
    }),
  };
}

/** What a VirtualService says; nothing if there is none. */
function reportRouting(
  { routing, ports }: Service,
  services: Services,
): Pick<ServiceReport, 'virtualService' | 'routes'> {
  if (!routing) return {};
  const asked = ports.find(({ protocol }) => protocol === IP_TCP)?.l4Port ?? 0;
  const routes = routing.routes.map(({ matches, destinations }) => ({
    matches: matches.map(matchText),
    destinations: destinations.map((destination) => {
      const { service, subset, l4Port, weight } = destination;
      const to = routedTo(destination, services.get(service), l4Port ?? matches[0]?.l4Port ?? asked);
      return {
        service,
        ...(subset !== undefined && { subset }),
        ...(l4Port !== undefined && { port: l4Port }),
        weight,
        ...('missing' in to && { missing: `service ${service} ${to.missing}` }),
      };
    }),
  }));
  return { virtualService: routing.rule, routes };
}

function matchText({ l4Port, namespace, labels }: RouteMatch): string {
  const parts = [
    ...(l4Port === undefined ? [] : [`port ${l4Port}`]),
    ...(namespace === undefined ? [] : [`from namespace ${namespace}`]),
    ...(labels.length === 0 ? [] : [`from ${labels.map(([key, value]) => `${key}=${value}`).join(',')}`]),
  ];
  return parts.join(' ') || 'all';
}

function reportSpreads(spreads: PortSpreads): Record<string, SpreadReport> {
  return Object.fromEntries([...spreads].map(([port, spread]) => [port, reportSpread(spread)]));
}

function reportSpread({ balancing, distribution, maxConnections }: Spread): SpreadReport {
  return { balancing, trafficDistribution: distribution, ...(maxConnections !== undefined && { maxConnections }) };
}

/** Of one that would otherwise look ready, and gets no connections. */
const withoutPort = {
  state: 'not ready',
  why: 'it has no port for the service: none of its `ports` has the name of a targetPort',
} as const;

/** Of one that stays ready, whatever becomes of it. */
const uncheckedWhy = {
  why: 'nothing checks it: none of its `ports` is the one that health checks ask for (weft.dev/health-check-port, or the first TCP port)',
} as const;

export function reportPort({ name, protocol, l4Port, lastL4Port, nodePort }: ServicePort): ServiceReport['ports'][0] {
  return {
    name,
    protocol: protocol === IP_TCP ? 'TCP' : 'UDP',
    port: l4Port,
    ...(lastL4Port > l4Port && { lastPort: lastL4Port }),
    ...(nodePort !== undefined && { nodePort }),
  };
}

function reportBackend(
  question: ServicesQuestion,
  service: Service,
  backend: Backend,
): Omit<ServiceBackendReport, 'ports' | 'connections'> {
  const { endpoint = null, address, vni, host = null, zone = null, weight } = backend;
  const { services, topology } = question.tables;
  return {
    endpoint,
    address: formatIp(address),
    network: vni === undefined ? null : (topology.network(vni)?.name ?? null),
    ...{ host, zone, weight },
    ...(service.subsets.length > 0 && { subsets: [...backend.subsets] }),
    ...stateOf(backend, services.healthOf(service.id, backend), question),
  };
}

function stateOf(
  { ready, serving, terminating, whyNotReady, host }: Backend,
  fault: Fault | undefined,
  question: ServicesQuestion,
): Pick<ServiceBackendReport, 'state' | 'why'> {
  const isIncluded = terminating ? serving : ready;
  if (isIncluded && fault) return { state: fault.kind === 'ejected' ? 'ejected' : 'check failed', why: fault.detail };
  const whyLeaving = whyNotReady ?? 'it or its host has the label weft.dev/drain';
  if (isIncluded) return terminating ? { state: 'serving', why: whyLeaving } : { state: 'ready' };
  if (host !== undefined && question.isHostDown(host))
    return { state: 'host down', why: `host "${host}" does not answer` };
  if (terminating) return { state: 'terminating', why: whyLeaving };
  return { state: 'not ready', ...(whyNotReady !== undefined && { why: whyNotReady }) };
}
